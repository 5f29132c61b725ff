"""A connection to one endpoint's address, kept open, with gRPC's five states."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import grpc.aio

from atomesh.balancer.candidate import SubchannelState
from atomesh.core.errors import Cancelled, ConnectionLost
from atomesh.rpc.channel import from_rpc_error
from atomesh.rpc.credentials import Credentials
from atomesh.rpc.network import GRPC_NETWORK, Network
from atomesh.v1 import agent_pb2, agent_pb2_grpc

_STATES = {
    grpc.ChannelConnectivity.IDLE: SubchannelState.IDLE,
    grpc.ChannelConnectivity.CONNECTING: SubchannelState.CONNECTING,
    grpc.ChannelConnectivity.READY: SubchannelState.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE: SubchannelState.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN: SubchannelState.SHUTDOWN,
}


class Subchannel:
    """One long-lived channel. It connects at once, and again whenever it falls idle.

    grpc.aio has no metrics or picks per endpoint inside one channel, so every
    endpoint has a channel of its own.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        changed: Callable[[str, SubchannelState], None],
        *,
        network: Network = GRPC_NETWORK,
    ) -> None:
        """`changed(address, state)` is called for every change of state."""
        self.address = address
        self.state = SubchannelState.IDLE
        self._changed = changed
        self._channel = network.channel(address, credentials)
        self._execute = agent_pb2_grpc.AgentServiceStub(self._channel).Execute
        self._in_flight = 0
        self._idle: asyncio.Event | None = None
        """Somebody waits for the last call to end."""
        self._task = asyncio.create_task(self._follow(), name=f"subchannel {address}")

    async def execute(self, request: agent_pb2.ExecuteRequest, timeout: float) -> agent_pb2.ExecuteResponse:
        """One attempt, refused at once where no slot is free.

        Raises:
            AtomeshError: as the server said, or ConnectionLost.
        """
        self._in_flight += 1
        try:
            response: agent_pb2.ExecuteResponse = await self._execute(request, timeout=timeout)
            return response
        except grpc.aio.AioRpcError as raw:
            error = from_rpc_error(raw)
            if isinstance(error, Cancelled) and not error.origin.agent:
                # Nobody here cancelled: gRPC answers so for a server that stops, whether or not it has begun.
                error = ConnectionLost(f"{self.address} dropped the call ({error.message})")
            if isinstance(error, ConnectionLost):
                self._look()
            raise error from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled the caller: the channel was closed under the call.
            raise ConnectionLost(f"the connection to {self.address} was closed") from None
        finally:
            self._in_flight -= 1
            if self._idle is not None and not self._in_flight:
                self._idle.set()

    async def retire(self) -> None:
        """Closes the channel once nothing is in flight on it any more."""
        while self._in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()
        await self.close()

    async def close(self) -> None:
        """Closes the channel; what is in flight is cut off. Twice is fine."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    async def _follow(self) -> None:
        while True:
            await self._channel.wait_for_state_change(self._look())

    def _look(self) -> grpc.ChannelConnectivity:
        """The connection's state now, told of at once.

        Also when a call was cut: before the task above has its turn, calls that
        wait would be sent after the one that was cut, and be lost as well.
        """
        state = self._channel.get_state(try_to_connect=True)
        if self.state is not _STATES[state]:
            self.state = _STATES[state]
            self._changed(self.address, self.state)
        return state
