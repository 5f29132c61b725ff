"""One RPC as its channel sees it, underneath the call objects of grpc.aio's API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from atomesh.testing.memory.connection import Connection
from atomesh.testing.memory.flow import Credit, Inbox
from atomesh.testing.memory.links import Lane

if TYPE_CHECKING:
    from atomesh.testing.memory.channel import MemoryChannel

MetadataPairs = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class Status:
    """How an RPC ended."""

    code: grpc.StatusCode
    details: str
    trailers: MetadataPairs = ()

    def error(self) -> grpc.aio.AioRpcError:
        """As a caller gets it."""
        return grpc.aio.AioRpcError(
            self.code, grpc.aio.Metadata(), grpc.aio.Metadata(*self.trailers), details=self.details
        )


@dataclass(frozen=True, slots=True)
class CallSettings:
    """What is said when an RPC is begun."""

    method: str
    metadata: MetadataPairs
    timeout: float | None
    wait_for_ready: bool
    request: bytes | None
    """The only request; None where they are streamed."""
    streams: bool = False
    """Whether responses are read one by one."""


class ClientRpc:
    """Waits for a connection, sends, receives, and ends exactly once."""

    def __init__(self, channel: MemoryChannel, settings: CallSettings) -> None:
        """Begins as soon as the channel is ready; fails where that cannot connect."""
        self.settings = settings
        self.status: Status | None = None
        self.cancelled_here = False
        self.half_closed = False
        self.inbox = Inbox()
        self.channel = channel
        self._loop = channel.loop
        self._connection: Connection | None = None
        self._number = 0
        self._lane: Lane | None = None
        self._credit = Credit(channel.network.window)
        self._ok: Status | None = None
        """Came, and is the status once all messages before it are read."""
        self._begun: asyncio.Future[None] = self._loop.create_future()
        self._ending: list[Callable[[], None]] = []
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        if settings.timeout is not None:
            self._deadline = self._loop.time() + settings.timeout
            self._timer = self._loop.call_at(self._deadline, self._expire, context=channel.host.context)
        channel.admit(self)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.status is not None

    def time_remaining(self) -> float | None:
        """Seconds until its deadline."""
        return None if self._deadline is None else max(0.0, self._deadline - self._loop.time())

    def on_end(self, callback: Callable[[], None]) -> None:
        """Calls back when it has ended."""
        if self.done:
            self._loop.call_soon(callback)
        else:
            self._ending.append(callback)

    async def ended(self) -> Status:
        """How it ended, once it has."""
        if self.status is None:
            future: asyncio.Future[None] = self._loop.create_future()
            self.on_end(partial(_settle, future))
            await future
        assert self.status is not None
        return self.status

    async def begun(self) -> None:
        """Returns once it is on its way, or has ended."""
        if not self._begun.done():
            await asyncio.shield(self._begun)

    def begin(self, connection: Connection) -> None:
        """The channel is ready."""
        if self.done:
            return
        self._connection = connection
        self._lane = connection.up.lane()
        self._number = connection.begin(self)
        connection.to_server(
            self._lane, connection.server.opened, connection, self._number, self.settings, self.time_remaining()
        )
        if self.settings.request is not None:
            self._observed(self.settings.request)
        self._begun.set_result(None)

    async def send(self, message: bytes) -> None:
        """One more request, once the server's window has room."""
        self._observed(message)
        await self._credit.take(len(message))
        if not self.done and self._connection is not None and self._lane is not None:
            self._connection.to_server(self._lane, _put, self._connection, self._number, message)

    def half_close(self) -> None:
        """That was the last request."""
        self.half_closed = True
        if not self.done and self._connection is not None and self._lane is not None:
            self._connection.to_server(self._lane, _half_closed, self._connection, self._number)

    async def receive(self) -> bytes | None:
        """The next response; None where it ended."""
        message = await self.inbox.get()
        if message is not None and (observer := self.channel.network.observer) is not None:
            observer.receives(self, message)
        if message is not None and not self.done and self._connection is not None and self._lane is not None:
            self._connection.to_server(self._lane, _read, self._connection, self._number, len(message))
        if self._ok is not None and not len(self.inbox):
            self._end(self._ok)
        return message

    def cancel(self) -> bool:
        """Ends it here and tells the server; False where it had ended."""
        if self.done:
            return False
        self.cancelled_here = True
        self._give_up(Status(grpc.StatusCode.CANCELLED, "Locally cancelled by application!"))
        return True

    def fail(self, why: str) -> None:
        """The channel cannot connect."""
        self._end(Status(grpc.StatusCode.UNAVAILABLE, why))

    def cut(self, why: str) -> None:
        """The connection under it is gone."""
        if self._ok is None:  # else the server has ended it well, and what it said is still to be read
            self._end(Status(grpc.StatusCode.UNAVAILABLE, why))

    # What comes from the server.

    def got(self, message: bytes) -> None:
        """A response."""
        self.inbox.put(message)

    def got_credit(self, size: int) -> None:
        """The server has read so much."""
        self._credit.give(size)

    def got_status(self, status: Status) -> None:
        """The trailers. Where they are an error, what was not read is dropped, as gRPC does."""
        if status.code is grpc.StatusCode.OK and len(self.inbox) and self.settings.streams:
            self._ok = status
            self.inbox.close()
        else:
            self._end(status)

    def _observed(self, message: bytes) -> None:
        if not self.done and (observer := self.channel.network.observer) is not None:
            observer.sends(self, message)

    def _expire(self) -> None:
        self._give_up(Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def _give_up(self, status: Status) -> None:
        if self.done:
            return
        if self._connection is not None and self._lane is not None:
            self._connection.to_server(self._lane, _given_up, self._connection, self._number)
        self._end(status)

    def _end(self, status: Status) -> None:
        if self.done:
            return
        self.status = status
        if self._timer is not None:
            self._timer.cancel()
        if self._connection is not None:
            self._connection.ended(self._number)
        self.channel.discharge(self)
        if not self._begun.done():
            self._begun.set_result(None)
        self._credit.lift()
        self.inbox.close(drop=status.code is not grpc.StatusCode.OK)
        ending, self._ending = self._ending, []
        for callback in ending:
            callback()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


# At the server's end, where the stream may be gone by then.


def _put(connection: Connection, number: int, message: bytes) -> None:
    if rpc := connection.running.get(number):
        rpc.inbox.put(message)


def _half_closed(connection: Connection, number: int) -> None:
    if rpc := connection.running.get(number):
        rpc.inbox.close()


def _read(connection: Connection, number: int, size: int) -> None:
    if rpc := connection.running.get(number):
        rpc.credit.give(size)


def _given_up(connection: Connection, number: int) -> None:
    if rpc := connection.running.get(number):
        rpc.abandon()
