"""A connection to one copy of an agent, kept open, with gRPC's five states, and the mux on it."""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.picks import Grant
from atomesh.balancer.stream_call import StreamCall, StreamChannel
from atomesh.balancer.work import Answer, Work
from atomesh.core.clock import Clock
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import AtomeshError, Cancelled, ConnectionLost, MessageTooLarge, RemoteError
from atomesh.core.status import from_status
from atomesh.rpc.channel import MAX_STATUS_BYTES, from_rpc_error
from atomesh.rpc.credentials import Credentials
from atomesh.rpc.mux.client import MuxClient
from atomesh.rpc.mux.client_stream import ClientStream
from atomesh.rpc.network import GRPC_NETWORK, Network
from atomesh.v1 import agent_pb2, agent_pb2_grpc, mux_pb2

_STATES = {
    grpc.ChannelConnectivity.IDLE: SubchannelState.IDLE,
    grpc.ChannelConnectivity.CONNECTING: SubchannelState.CONNECTING,
    grpc.ChannelConnectivity.READY: SubchannelState.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE: SubchannelState.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN: SubchannelState.SHUTDOWN,
}

_NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_ANSWER_SECONDS = 1.0  # as for a hello


class Watcher(Protocol):
    """Who is told of what happens at an address."""

    def connection(self, subchannel: Subchannel) -> None:
        """Its state, or what its mux says of itself, has changed."""
        ...

    def granted(self, subchannel: Subchannel, stream: ClientStream, grants: int) -> None:
        """Slots there are ours, on this stream."""
        ...

    def loaded(self, address: str, load: mux_pb2.MuxLoad) -> None:
        """How busy the endpoint is."""
        ...


class Subchannel:
    """One long-lived channel. It connects at once, and again whenever it falls idle.

    grpc.aio has no metrics or picks per endpoint inside one channel, so every
    endpoint has a channel of its own. It is ready once its mux is, or once it is
    clear that there is none and calls go by unary Execute.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        watcher: Watcher,
        clock: Clock,
        *,
        mux: bool = True,
        network: Network = GRPC_NETWORK,
        rng: random.Random | None = None,
    ) -> None:
        """`mux` is whether calls may go through one."""
        self.address = endpoint.address
        self.endpoint = endpoint
        self.state = SubchannelState.IDLE
        self._connection = SubchannelState.IDLE
        self._watcher = watcher
        self._now = clock.now
        self._metadata = credentials.metadata() or None
        self._authorization = self._metadata[0][1].encode() if self._metadata else b""
        self._channel = network.channel(endpoint.address, credentials)
        self._streams = StreamChannel(endpoint.address, credentials, network)
        # types-grpcio has one stub class for both worlds; the aio one is typed Any here.
        stub = agent_pb2_grpc.AgentServiceStub(self._channel)
        self._execute, self._health = stub.Execute, stub.Health
        self._in_flight = 0
        self._idle: asyncio.Event | None = None
        """Somebody waits for the last call to end."""
        self._mux = MuxClient(self.address, stub.Mux, self._opening, self, clock, rng) if mux else None
        self._task = asyncio.create_task(self._follow(), name=f"subchannel {self.address}")

    @property
    def stream(self) -> ClientStream | None:
        """The mux for new calls; None where they go by unary Execute, or nowhere."""
        return self._mux.current if self._mux is not None else None

    async def execute(
        self, work: Work, deadline: float, *, grant: Grant | None, returns: bool, wait: bool = False
    ) -> Answer:
        """One attempt, refused at once where no slot is free, unless it is to `wait` there.

        `grant` is one that came on a stream of this endpoint.

        Raises:
            AtomeshError: as the server said, or ConnectionLost.
        """
        self._in_flight += 1
        try:
            granted = isinstance(grant, ClientStream) and not grant.ended.is_set()
            mux = self._mux
            stream = grant if isinstance(grant, ClientStream) and granted else mux.current if mux is not None else None
            if stream is None:
                return await self._unary(work, deadline)
            reply, output = await stream.call(
                work,
                deadline,
                granted=granted,
                returns=returns,
                wait=wait,
                authorization=self._authorization,
            )
            if reply.status or output is None:
                raise self._failure(reply, output)
            return Answer(output, None, reply, stream.end.hello, work.context.request_id)
        except ConnectionLost:
            self._look()
            raise
        finally:
            self._left()

    def open_stream(self, work: Work, deadline: float, *, grant: Grant | None) -> StreamCall:
        """One attempt at a stream, refused at once where no slot is free."""
        request = agent_pb2.ExecuteStreamRequest(request=work.request)
        if isinstance(grant, ClientStream) and self._streams.ready:
            request.grant = grant.use()
        elif isinstance(grant, ClientStream):
            # It could lapse while the connection is made, and take our demands there with it.
            # The call may come before the slot is free again: let it wait there for that.
            grant.give_back()
            request.request.no_wait = False
        self._in_flight += 1
        return self._streams.open(request, deadline - self._now(), self._left)

    def expect(self, endpoint: Endpoint) -> None:
        """The endpoint as it is now; another instance at the address gets a mux of its own."""
        other = endpoint.instance_id != self.endpoint.instance_id
        self.endpoint = endpoint
        if other and self._mux is not None:
            self._mux.reopen()
            self._tell()

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
        if self._mux is not None:
            await self._mux.close()
        await self._streams.close()
        await self._channel.close()

    # -- the mux's listener ------------------------------------------------------

    def granted(self, stream: ClientStream, grants: int) -> None:
        """Passes it on."""
        self._watcher.granted(self, stream, grants)

    def loaded(self, load: mux_pb2.MuxLoad) -> None:
        """Passes it on."""
        self._watcher.loaded(self.address, load)

    def changed(self) -> None:
        """The mux came, went, or says something of itself."""
        self._tell()

    async def answers(self) -> bool:
        """Whether it answers a unary call, whatever it says."""
        try:
            await self._health(agent_pb2.HealthRequest(), timeout=_ANSWER_SECONDS, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            return error.code() not in _NO_ANSWER
        return True

    # -- inside ------------------------------------------------------------------

    def _left(self) -> None:
        self._in_flight -= 1
        if self._idle is not None and not self._in_flight:
            self._idle.set()

    def _failure(self, reply: mux_pb2.MuxReply, output: bytes | None) -> AtomeshError:
        """What a reply says that is no good one."""
        if output is None:
            return MessageTooLarge(f"the output from {self.address} is not what was said, or over 4 MiB", executed=True)
        try:
            return from_status(status_pb2.Status.FromString(reply.status))
        except DecodeError:
            return RemoteError(f"{self.address} answered with a status that does not parse")

    async def _unary(self, work: Work, deadline: float) -> Answer:
        try:
            response: agent_pb2.ExecuteResponse = await self._execute(
                work.request, timeout=deadline - self._now(), metadata=self._metadata
            )
            return Answer(response.output.value, response=response)
        except grpc.aio.AioRpcError as raw:
            error: AtomeshError = from_rpc_error(raw)
            if isinstance(error, Cancelled) and not error.origin.agent:
                # Nobody here cancelled: gRPC answers so for a server that stops, whether or not it has begun.
                error = ConnectionLost(f"{self.address} dropped the call ({error.message})")
            raise error from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled the caller: the channel was closed under the call.
            raise ConnectionLost(f"the connection to {self.address} was closed") from None

    def _opening(self) -> mux_pb2.MuxOpen:
        endpoint = self.endpoint
        return mux_pb2.MuxOpen(
            agent=endpoint.agent,
            instance_id=endpoint.instance_id,
            input_type=endpoint.input_type,
            max_status_bytes=MAX_STATUS_BYTES,
        )

    async def _follow(self) -> None:
        while True:
            await self._channel.wait_for_state_change(self._look())

    def _look(self) -> grpc.ChannelConnectivity:
        """The connection's state now, told of at once.

        Also when a call was cut: before the task above has its turn, calls that
        wait would be sent after the one that was cut, and be lost as well.
        """
        state = self._channel.get_state(try_to_connect=True)
        if self._connection is not _STATES[state]:
            self._connection = _STATES[state]
            if self._mux is not None:
                self._mux.connected(self._connection is SubchannelState.READY)
            self._tell()
        return state

    def _tell(self) -> None:
        state, mux = self._connection, self._mux
        if state is SubchannelState.READY and mux is not None and mux.current is None and mux.offered:
            state = SubchannelState.CONNECTING
        self.state = state
        self._watcher.connection(self)
