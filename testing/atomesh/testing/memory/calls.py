"""grpc.aio's call objects and multicallables over a ClientRpc; they behave as `grpc/aio/_call.py` does.

One request is sent as soon as the call object is made, awaited or not. A
cancelled await cancels the RPC. `read` and `async for` are not to be mixed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from atomesh.testing.memory.client import CallSettings, ClientRpc

if TYPE_CHECKING:
    from atomesh.testing.memory.channel import MemoryChannel

Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]


class _Call(grpc.aio.Call):
    """What all four kinds share."""

    def __init__(self, rpc: ClientRpc, serialize: Serializer | None, parse: Deserializer | None) -> None:
        self._rpc = rpc
        self._serialize = serialize or _as_it_is
        self._parse = parse or _as_it_is

    def cancelled(self) -> bool:
        status = self._rpc.status
        return status is not None and status.code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._rpc.done

    def time_remaining(self) -> float | None:
        return self._rpc.time_remaining()

    def cancel(self) -> bool:
        return self._rpc.cancel()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._rpc.on_end(lambda: callback(self))

    async def initial_metadata(self) -> grpc.aio.Metadata:
        await self._rpc.begun()
        return grpc.aio.Metadata()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*(await self._rpc.ended()).trailers)

    async def code(self) -> grpc.StatusCode:
        return (await self._rpc.ended()).code

    async def details(self) -> str:
        return (await self._rpc.ended()).details

    async def wait_for_connection(self) -> None:
        await self._rpc.begun()
        self._raise_for_status()

    def _raise_for_status(self) -> None:
        if self._rpc.cancelled_here:
            raise asyncio.CancelledError
        if (status := self._rpc.status) is not None and status.code is not grpc.StatusCode.OK:
            raise status.error()


class _UnaryResponse(_Call):
    def __await__(self) -> Generator[Any, None, Any]:
        return self._response().__await__()

    async def _response(self) -> Any:
        try:
            await self._rpc.ended()
        except asyncio.CancelledError:
            self._rpc.cancel()
            raise
        self._raise_for_status()
        message = await self._rpc.inbox.get()
        if message is None:
            raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, details="no message, and no error either")
        return self._parse(message)


class _StreamResponse(_Call):
    _iterator: AsyncIterator[Any] | None = None
    _reads = False

    def __aiter__(self) -> AsyncIterator[Any]:
        if self._reads:
            raise grpc.aio.UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")
        if self._iterator is None:
            self._iterator = self._responses()
        return self._iterator

    async def read(self) -> Any:
        if self._rpc.done:
            self._raise_for_status()
            return grpc.aio.EOF
        if self._iterator is not None:
            raise grpc.aio.UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")
        self._reads = True
        return await self._next()

    async def _responses(self) -> AsyncIterator[Any]:
        while (message := await self._next()) is not grpc.aio.EOF:
            yield message

    async def _next(self) -> Any:
        try:
            message = await self._rpc.receive()
        except asyncio.CancelledError:
            self._rpc.cancel()
            raise
        if message is None:
            self._raise_for_status()
            return grpc.aio.EOF
        return self._parse(message)


class _StreamRequest(_Call):
    _written_all = False
    _poller: asyncio.Task[None] | None = None

    def consume(self, requests: AsyncIterable[Any] | Iterable[Any] | None) -> None:
        """Sends what an iterator gives, where there is one."""
        if requests is not None:
            self._poller = asyncio.get_running_loop().create_task(self._consume(requests))

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled and self._poller is not None:
            self._poller.cancel()
        return cancelled

    async def write(self, request: Any) -> None:
        if self._rpc.done:
            raise asyncio.InvalidStateError("RPC already finished.")
        if self._written_all:
            raise asyncio.InvalidStateError('RPC is half closed after calling "done_writing".')
        try:
            await self._rpc.begun()
            self._raise_for_status()
            await self._rpc.send(self._serialize(request))
        except asyncio.CancelledError:
            self._rpc.cancel()
            raise
        self._raise_for_status()

    async def done_writing(self) -> None:
        if not self._rpc.done and not self._written_all:
            self._written_all = True
            await self._rpc.begun()
            self._rpc.half_close()

    async def _consume(self, requests: AsyncIterable[Any] | Iterable[Any]) -> None:
        try:
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    await self.write(request)
            else:
                for request in requests:
                    await self.write(request)
            await self.done_writing()
        except grpc.aio.AioRpcError:
            return  # the call has ended, and its reader is told
        except BaseException:
            self._rpc.cancel()  # as grpc.aio does when the caller's iterator fails
            raise


class UnaryUnary(_UnaryResponse, grpc.aio.UnaryUnaryCall[Any, Any]):
    """One request, one response."""


class UnaryStream(_StreamResponse, grpc.aio.UnaryStreamCall[Any, Any]):
    """One request, many responses."""


class StreamUnary(_StreamRequest, _UnaryResponse, grpc.aio.StreamUnaryCall[Any, Any]):
    """Many requests, one response."""


class StreamStream(_StreamRequest, _StreamResponse, grpc.aio.StreamStreamCall[Any, Any]):
    """Many of both."""


class Method:
    """What a stub calls: `channel.unary_unary(...)` and its three siblings."""

    def __init__(
        self,
        channel: MemoryChannel,
        kind: type[_Call],
        method: str,
        serialize: Serializer | None,
        parse: Deserializer | None,
    ) -> None:
        """`kind` is one of the four above."""
        self._channel = channel
        self._kind = kind
        self._method = method
        self._serialize = serialize
        self._parse = parse

    def __call__(
        self,
        request: Any = None,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begins the RPC."""
        del credentials, compression
        streams = issubclass(self._kind, _StreamRequest)
        payload = None if streams else (self._serialize or _as_it_is)(request)
        reads = issubclass(self._kind, _StreamResponse)
        settings = CallSettings(self._method, tuple(metadata or ()), timeout, bool(wait_for_ready), payload, reads)
        call = self._kind(ClientRpc(self._channel, settings), self._serialize, self._parse)
        if isinstance(call, _StreamRequest):
            call.consume(request)
        return call


def _as_it_is(message: Any) -> Any:
    return message
