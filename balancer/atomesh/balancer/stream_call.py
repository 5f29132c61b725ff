"""One streamed attempt at one endpoint, on a connection that holds its agent back.

Only HTTP/2's window for a stream stops an agent whose caller does not read, and
gRPC widens it to megabytes on a fast network (measured: 4 to 6 MB, tens of
thousands of small chunks). That suits calls, so streams have a connection of
their own to each endpoint, whose window stays at WINDOW_BYTES.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from atomesh.core.errors import AtomeshError, Cancelled, ConnectionLost
from atomesh.rpc.channel import from_rpc_error
from atomesh.rpc.credentials import Credentials
from atomesh.rpc.network import Network
from atomesh.v1 import agent_pb2, agent_pb2_grpc

log = logging.getLogger(__name__)

WINDOW_BYTES = 16 * 1024
"""What is on its way to a caller that does not read; about 350 of the smallest
chunks, 22 of 1 KB, 2 of those that are larger than it. Half costs throughput on
long ways (one window for each round trip: 400 KB/s at 40 ms); twice lets an
agent pay for twice as much that nobody may ever read."""

_OPTIONS = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", WINDOW_BYTES))


class StreamChannel:
    """The connection for streams to one address, made by the first of them."""

    def __init__(self, address: str, credentials: Credentials, network: Network) -> None:
        """Nothing is opened yet."""
        self.address = address
        self._credentials = credentials
        self._network = network
        self._channel: grpc.aio.Channel | None = None
        self._metadata = credentials.metadata() or None
        self._method: Any = None

    @property
    def ready(self) -> bool:
        """Whether what is sent now goes out at once."""
        return self._channel is not None and self._channel.get_state() is grpc.ChannelConnectivity.READY

    def open(self, request: agent_pb2.ExecuteStreamRequest, timeout: float, ended: Callable[[], None]) -> StreamCall:
        """Begins an attempt; `ended` is called once, whichever way it ends."""
        if self._channel is None:
            self._channel = self._network.channel(self.address, self._credentials, _OPTIONS)
            self._method = agent_pb2_grpc.AgentServiceStub(self._channel).ExecuteStream
        return StreamCall(self.address, self._method(request, timeout=timeout, metadata=self._metadata), ended)

    async def close(self) -> None:
        """Cuts off what is in flight."""
        if self._channel is not None:
            await self._channel.close()


class StreamCall:
    """Reads the parts of one attempt, and ends it."""

    def __init__(self, address: str, rpc: Any, ended: Callable[[], None]) -> None:
        """`rpc` is grpc.aio's call; types-grpcio knows its kind under another name."""
        self._address = address
        self._rpc = rpc
        self._ended: Callable[[], None] | None = ended

    async def read(self) -> agent_pb2.ExecuteStreamResponse | None:
        """The next part; None where the endpoint has ended the stream.

        Raises:
            AtomeshError: as the server said, or ConnectionLost.
        """
        try:
            part = await self._rpc.read()
            return None if part is grpc.aio.EOF else part
        except grpc.aio.AioRpcError as raw:
            error: AtomeshError = from_rpc_error(raw)
            if isinstance(error, Cancelled) and not error.origin.agent:
                # Nobody here cancelled: gRPC answers so for a server that stops.
                error = ConnectionLost(f"{self._address} dropped the call ({error.message})")
            raise error from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled the caller: the channel was closed under the call.
            raise ConnectionLost(f"the connection to {self._address} was closed") from None

    async def drain(self) -> None:
        """Returns once the endpoint has ended the stream, well or not."""
        try:
            while await self.read() is not None:
                continue
        except AtomeshError as error:
            log.debug("%s ended a stream with %s after its output", self._address, error.reason)

    def close(self) -> None:
        """Ends it: an endpoint that still works at it hears so at once. Twice is fine."""
        ended, self._ended = self._ended, None
        if ended is not None:
            self._rpc.cancel()
            ended()
