"""One RPC at a server: its context as handlers know it, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Never

import grpc
import grpc.aio

from atomesh.testing.memory.client import CallSettings, MetadataPairs, Status
from atomesh.testing.memory.flow import Credit, Inbox

if TYPE_CHECKING:
    from atomesh.testing.memory.connection import Connection

_CODES = {int(code.value[0]): code for code in grpc.StatusCode}


class ServerRpc(grpc.aio.ServicerContext[Any, Any]):
    """The ServicerContext that a handler gets, and what its server does with the RPC."""

    def __init__(self, connection: Connection, number: int, settings: CallSettings, timeout: float | None) -> None:
        """`timeout` in seconds from now, None for none."""
        self.settings = settings
        self.inbox = Inbox()
        self.credit = Credit(connection.channel.network.window)
        self.task: asyncio.Task[None] | None = None
        self.handler: Any = None
        self.ended = False
        """Its status is on the way, or nobody waits for one."""
        self.abandoned = False
        """The caller went away, or its deadline has passed."""
        self._connection = connection
        self._number = number
        self._lane = connection.down.lane()
        self._loop = connection.loop
        self._aborted: grpc.aio.AbortError | None = None
        self._code: Any = 0
        self._details = ""
        self._trailers: MetadataPairs = ()
        self._callbacks: list[Callable[[Any], None]] = []
        self._deadline = None if timeout is None else self._loop.time() + timeout
        self._timer: asyncio.TimerHandle | None = None
        if timeout is not None:
            # gRPC cancels a handler at its deadline as it does when the caller leaves.
            self._timer = self._loop.call_later(timeout, self.abandon, context=connection.server.host.context)

    # What a handler calls.

    async def read(self) -> Any:
        """The next request; EOF after the last."""
        self._raise_for_termination()
        raw = await self.receive()
        return grpc.aio.EOF if raw is None else self._parse(raw)

    async def write(self, message: Any) -> None:
        """One more response, once the caller's window has room."""
        self._raise_for_termination()
        raw = self.serialize(message)
        await self.credit.take(len(raw))
        self.push(raw)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Headers carry nothing that the mesh reads."""
        del initial_metadata

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Never:
        """Ends the RPC with this status, at once."""
        if self._aborted is not None:
            raise grpc.aio.UsageError("Abort already called!")
        self._aborted = grpc.aio.AbortError("Locally aborted.")
        self._code = int(code.value[0])
        self._details = details or self._details
        self._trailers = tuple(trailing_metadata) or self._trailers
        self.finish(Status(code, self._details, self._trailers))
        raise self._aborted

    async def abort_with_status(self, status: grpc.Status) -> Never:
        """As abort."""
        await self.abort(status.code, status.details, tuple(status.trailing_metadata or ()))

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """For the end."""
        self._trailers = tuple(trailing_metadata)

    def trailing_metadata(self) -> Any:
        """What is set."""
        return self._trailers

    def invocation_metadata(self) -> grpc.aio.Metadata:
        """What the caller sent."""
        return grpc.aio.Metadata(*self.settings.metadata)

    def set_code(self, code: Any) -> None:
        """For the end; a StatusCode or its number."""
        self._code = int(code.value[0]) if isinstance(code, grpc.StatusCode) else int(code)

    def set_details(self, details: str) -> None:
        """For the end."""
        self._details = details

    def code(self) -> Any:
        """The number of the code that is set; 0 for none, as grpc.aio has it."""
        return self._code

    def details(self) -> str:
        """What is set."""
        return self._details

    def time_remaining(self) -> Any:
        """Seconds until the caller's deadline; None where it has none."""
        return None if self._deadline is None else max(0.0, self._deadline - self._loop.time())

    def set_compression(self, compression: grpc.Compression) -> None:
        """There is none."""

    def disable_next_message_compression(self) -> None:
        """There is none."""

    def peer(self) -> str:
        """Where the caller is."""
        return f"ipv4:{self._connection.channel.host.ip}:0"

    def peer_identities(self) -> Iterable[bytes] | None:
        """Plaintext has none."""
        return None

    def peer_identity_key(self) -> str | None:
        """Plaintext has none."""
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Plaintext has none."""
        return {}

    def add_done_callback(self, callback: Any) -> None:
        """Called when the RPC has ended, however it did."""
        self._callbacks.append(callback)

    def cancelled(self) -> bool:
        """Whether the caller went away."""
        return self.abandoned

    def done(self) -> bool:
        """Whether it has ended."""
        return self.ended

    # What its server calls.

    def requests(self) -> AsyncIterator[Any]:
        """For handlers that take an iterator."""
        return self._requests()

    async def receive(self) -> bytes | None:
        """The next message; None after the last."""
        raw = await self.inbox.get()
        if raw is not None:
            self._to_caller(lambda call: call.got_credit(len(raw)))
        return raw

    def serialize(self, message: Any) -> bytes:
        """A response as bytes."""
        serialize = self.handler.response_serializer
        raw: bytes = message if serialize is None else serialize(message)
        return raw

    def push(self, raw: bytes) -> None:
        """Sends a message."""
        if not self.ended:
            self._to_caller(lambda call: call.got(raw))

    def settle(self) -> None:
        """Ends as the handler has set it, or well."""
        self.finish(Status(_CODES.get(self._code, grpc.StatusCode.UNKNOWN), self._details, self._trailers))

    def finish(self, status: Status) -> None:
        """Ends; later ends are none."""
        if self.ended:
            return
        self._to_caller(lambda call: call.got_status(status))
        self._close()

    def abandon(self) -> None:
        """Nobody waits for it any more: its handler is cancelled."""
        if self.ended:
            return
        self.abandoned = True
        self._close()
        if self.task is not None:
            self.task.cancel()

    def _close(self) -> None:
        if self.ended:
            return
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._connection.running.pop(self._number, None)
        self.inbox.close(drop=True)
        self.credit.lift()
        for callback in self._callbacks:
            callback(self)

    def _to_caller(self, deliver: Callable[[Any], None]) -> None:
        connection, number = self._connection, self._number

        def arrived() -> None:
            if (call := connection.calls.get(number)) is not None:
                deliver(call)

        connection.to_channel(self._lane, arrived)

    def _raise_for_termination(self) -> None:
        if self._aborted is not None:
            raise self._aborted
        if self.ended and not self.abandoned:
            raise grpc.aio.UsageError("RPC already finished.")

    def _parse(self, raw: bytes) -> Any:
        parse = self.handler.request_deserializer
        return raw if parse is None else parse(raw)

    async def _requests(self) -> AsyncIterator[Any]:
        while (raw := await self.receive()) is not None:
            yield self._parse(raw)
