"""The shell around a ClientEnd: one stream, its reader, its writer and its timer."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any, Protocol

import grpc.aio

from atomesh.core.clock import Clock
from atomesh.core.errors import AtomeshError, ConnectionLost, DeadlineExceeded, NoFreeSlot, Refused, RemoteError
from atomesh.rpc.channel import from_rpc_error
from atomesh.rpc.mux.client_end import ClientEnd
from atomesh.v1 import mux_pb2

log = logging.getLogger(__name__)

_TICK = 0.001  # seconds by which a timer may be late rather than early, which would spin


class Payload(Protocol):
    """What is to be executed, serialized."""

    input: bytes
    request_id: bytes
    key: bytes
    """The idempotency key; empty where there is none."""
    timestamp_us: int
    """Microseconds since 1970; 0 where there is none."""

    @property
    def rest(self) -> bytes:
        """The serialized Context where it has more than these three; else empty."""
        ...


class Listener(Protocol):
    """Who is told of what happens on muxes to one endpoint."""

    def granted(self, stream: ClientStream, grants: int) -> None:
        """Slots are ours: each is used on this stream, or given back, at once."""
        ...

    def loaded(self, load: mux_pb2.MuxLoad) -> None:
        """How busy the endpoint is."""
        ...

    def changed(self) -> None:
        """Look again: `current`, `offered` or a state of the stream is another."""
        ...

    async def answers(self) -> bool:
        """Whether the endpoint answers a unary call.

        One that hangs does not, nor does a dead connection. They have no hello
        for us either, and calls must not go there by another way.
        """
        ...


class ClientStream:
    """One stream."""

    def __init__(self, address: str, end: ClientEnd, listener: Listener, clock: Clock) -> None:
        """Nothing is opened before `run`."""
        self.end = end
        self.silent = False
        """It does not answer, though it was asked."""
        self.over = asyncio.Event()
        """It has ended, or retires: another one is wanted."""
        self.ended = asyncio.Event()
        self.error: AtomeshError | None = None
        self._address = address
        self._listener = listener
        self._now = clock.now
        self._loop = asyncio.get_running_loop()
        self._woken = False
        self._sleep: asyncio.Future[None] | None = None
        """What the writer waits on; a bare future, since an Event costs three times as much."""
        self._hello = asyncio.Event()
        self._finishing = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    async def call(
        self,
        work: Payload,
        deadline: float,
        *,
        granted: bool = False,
        returns: bool = False,
        wait: bool = False,
        authorization: bytes = b"",
    ) -> Any:
        """The reply, with its whole output.

        Raises:
            NoFreeSlot: no slot, and it did not run.
            ConnectionLost: the stream broke; it may have run.
            Refused: the stream broke before it was sent.
            DeadlineExceeded: out of time.
        """
        waiter: asyncio.Future[Any] = asyncio.Future(loop=self._loop)
        sent = self.end.call(work.input, work.rest, deadline, waiter, granted=granted)
        sent.request_id, sent.timestamp_us = work.request_id, work.timestamp_us
        if work.key:
            sent.key = work.key
        if returns:
            sent.returns = True
        if wait:
            sent.wait = True
        if authorization:
            sent.authorization = authorization
        self._wake()
        if self.ended.is_set():
            self.end.cancel(sent)
            raise Refused(f"the mux to {self._address} has just ended")
        if deadline < self._timer_at:
            self._schedule()  # the writer may be waiting for an endpoint that does not read
        try:
            return await waiter
        except asyncio.CancelledError:
            self.end.cancel(sent)
            self._wake()
            raise

    @property
    def settled(self) -> bool:
        """Whether it has come about, or has failed to."""
        return self._hello.is_set()

    def park(self, waiting: int) -> None:
        """So many calls wait for a grant."""
        if self.end.park(waiting):
            self._wake()

    def use(self) -> bytes:
        """A grant is used beside the mux, by a streamed call: the id to name it by."""
        self.end.holding -= 1
        return self.end.hello.mux_id if self.end.hello is not None else b""

    def give_back(self) -> None:
        """A grant was not needed after all."""
        self.end.give_back()
        self._wake()

    def finish(self) -> None:
        """Closes our side once all calls have ended."""
        self.end.park(0)
        self._finishing = True
        self._wake()

    async def hello(self, seconds: float | None = None) -> bool:
        """Whether it has come about, or has failed to, within so many seconds; None is however long that takes."""
        try:
            async with asyncio.timeout(seconds):
                await self._hello.wait()
        except TimeoutError:
            return False
        return True

    async def run(self, rpc: Any) -> None:
        """Moves frames until the stream has ended, however it does."""
        writer = asyncio.create_task(self._write(rpc), name=f"mux writer {self._address}")
        try:
            while (frame := await rpc.read()) is not grpc.aio.EOF:
                if frame is None:  # grpc.aio's word for bytes that do not parse
                    self.error = RemoteError(f"{self._address} sent what is no frame of the mux")
                    return
                self._receive(frame)
        except grpc.aio.AioRpcError as raw:
            self.error = from_rpc_error(raw)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            self._end()

    async def _write(self, rpc: Any) -> None:
        end = self.end
        try:
            while True:
                self._woken = False
                while (frame := end.take(self._now())) is not None:
                    await rpc.write(frame)
                if self._finishing and not (end.calls or end.holding):
                    await rpc.done_writing()
                    return
                self._schedule()
                if not self._woken:
                    self._sleep = self._loop.create_future()
                    await self._sleep
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader is told why

    def _wake(self) -> None:
        """There is something to send."""
        self._woken = True
        if (sleep := self._sleep) is not None:
            self._sleep = None
            if not sleep.done():
                sleep.set_result(None)

    def _receive(self, frame: mux_pb2.MuxResponse) -> None:
        end = self.end
        retiring, draining = end.retiring, end.draining
        received = end.receive(frame, self._now())
        for sent, reply, output in received.ended:
            if not sent.waiter.done():
                sent.waiter.set_result((reply, output))
        for sent in received.rejected:
            if not sent.waiter.done():
                sent.waiter.set_exception(NoFreeSlot(f"every slot at {self._address} is taken"))
        if received.load is not None:
            self._listener.loaded(received.load)
        if received.grants:
            self._listener.granted(self, received.grants)
        if received.hello is not None:
            self._hello.set()
        if received.hello is not None or self.silent or (end.retiring, end.draining) != (retiring, draining):
            self.silent = False
            if end.retiring:
                self.over.set()
            self._listener.changed()
        if self._finishing and not end.calls:
            self._wake()

    def _schedule(self) -> None:
        """Wakes up when time alone changes something; a timer that comes too early is set again then."""
        due = self.end.next_event()
        if due is None:
            return
        due += _TICK
        if self._timer_at <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(max(0.0, due - self._now()), self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = self._now()
        for sent in self.end.due(now):
            if not sent.waiter.done():
                executed = None if sent.on_wire else False
                late = f"{self._address} did not answer in time" if sent.on_wire else "out of time before it was sent"
                sent.waiter.set_exception(DeadlineExceeded(late, executed=executed))
        silent = self.end.silent(now)
        if silent and not self.silent:
            self.silent = True
            log.warning("%s is silent: it takes connections and does not answer", self._address)
            self._listener.changed()
        self._schedule()
        self._wake()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        refused = self.end.hello is None and self.error is not None and self.error.executed is False
        why = self.error.message if self.error is not None else "the endpoint ended it"
        for sent in list(self.end.calls.values()):
            if sent.waiter.done():
                continue
            if sent.on_wire and not refused:
                error: AtomeshError = ConnectionLost(f"the mux to {self._address} broke ({why})")
            else:
                error = Refused(f"the mux to {self._address} ended before the call was sent ({why})")
            sent.waiter.set_exception(error)
        self.end.calls.clear()
        for event in (self.ended, self.over, self._hello):
            event.set()
