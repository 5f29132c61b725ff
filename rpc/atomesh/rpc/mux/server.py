"""The shell around a ServerEnd: one stream served.

Frames that come in go to the end, what it says goes out, and calls go to a
`Runner`. Writing awaits the peer, so whatever comes up meanwhile is in the next
frame: the slower the stream, the larger its frames, and nothing is timed for it.
A client that does not read what it is sent is not read any further either.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

import grpc.aio

from atomesh.core.clock import Clock
from atomesh.core.errors import AtomeshError, InvalidArgument
from atomesh.rpc.mux.server_end import Execution, ServerEnd
from atomesh.rpc.mux.slots import Slots
from atomesh.v1 import mux_pb2

Read: TypeAlias = Callable[[], Awaitable[Any]]
"""The next frame, or EOF."""
Write: TypeAlias = Callable[[mux_pb2.MuxResponse], Awaitable[None]]
EOF: Any = grpc.aio.EOF

MAX_CALLS = 4096
"""Calls and parts that a frame may have. Our own has 3,300 at most (FRAME_BYTES); a
frame of a million empty ones took an endpoint's loop from everybody for 3 s, and
twice as many refusals as these take a quarter of a second."""
MAX_CANCELS = 65_536

_TICK = 0.001  # seconds by which a timer may be late rather than early, which would spin


class Runner(Protocol):
    """Who runs what a stream lets in."""

    def start(self, execution: Execution) -> None:
        """Runs it, in the slot that it has, or as soon as it has one where it `waits`."""
        ...

    def cancel(self, execution: Execution) -> None:
        """Nobody waits for it any more."""
        ...

    def late(self, execution: Execution) -> None:
        """It is out of time."""
        ...

    def refuse(self, execution: Execution, why: str) -> None:
        """It has no slot and is to be told why not: `twice`, `drain`, `size`, `returns`, `stalled`."""
        ...


def no_frame(error: Exception) -> AtomeshError:
    """What a stream ends with whose client sent something else."""
    return InvalidArgument(f"what came is no frame of the mux ({type(error).__name__}); check the sender")


class ServedStream:
    """One mux, from its first frame to its last."""

    def __init__(self, end: ServerEnd, slots: Slots, clock: Clock) -> None:
        """`runner` is set before `serve`."""
        self.end = end
        self.runner: Runner
        self._slots = slots
        self._now = clock.now
        self._loop = asyncio.get_running_loop()
        self._woken = False
        self._sleep: asyncio.Future[None] | None = None
        """What the writer waits on; a bare future, since an Event costs three times as much."""
        self._unread = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._closing = False
        self._broken: AtomeshError | None = None
        end.claim.wake = self._granted

    def wake(self) -> None:
        """There is something to send."""
        self._woken = True
        if (sleep := self._sleep) is not None:
            self._sleep = None
            if not sleep.done():
                sleep.set_result(None)

    def finish(self) -> None:
        """Ends the stream once everything has been answered."""
        self._closing = True
        self.wake()

    async def serve(self, read: Read, write: Write) -> None:
        """Writes what goes out, while what comes in is read beside it; returns when the stream has ended."""
        end, now = self.end, self._now
        reader = asyncio.create_task(self._read(read), name="mux reader")
        try:
            while True:
                self._woken = False
                while (frame := end.take(now())) is not None:
                    await write(frame)
                if not end.claim.barred:
                    self._unread.set()
                if self._broken is not None:
                    raise self._broken
                if self._closing and not end.running:
                    return
                if not self._woken:
                    self._sleep = self._loop.create_future()
                    await self._sleep
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            self._end()

    async def _read(self, read: Read) -> None:
        end, unread = self.end, self._unread
        unread.set()
        try:
            while (frame := await read()) is not EOF:
                self.receive(frame)
                if end.claim.barred:
                    unread.clear()
                    await unread.wait()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 # gRPC has no type of its own for bytes that do not parse
            self._broken = error if isinstance(error, AtomeshError) else no_frame(error)
        self.finish()

    def receive(self, frame: mux_pb2.MuxRequest) -> None:
        """Takes a frame.

        Raises:
            InvalidArgument: it has more in it than a frame may have.
        """
        if len(frame.calls) + len(frame.parts) > MAX_CALLS or len(frame.cancels) > MAX_CANCELS:
            raise InvalidArgument(
                f"a frame of {len(frame.calls)} calls, {len(frame.parts)} parts and {len(frame.cancels)} cancels; "
                f"at most {MAX_CALLS} calls and parts and {MAX_CANCELS} cancels go in one"
            )
        received = self.end.receive(frame, self._now())
        for execution in received.start:
            self.runner.start(execution)
        for execution in received.wait:
            self.runner.start(execution)
        for execution in received.cancel:
            self.runner.cancel(execution)
        for execution, why in received.refuse:
            self.runner.refuse(execution, why)
        self._schedule()
        self.wake()

    def _granted(self) -> None:
        self._schedule()
        self.wake()

    def _schedule(self) -> None:
        """Wakes up when time alone changes something; a timer that comes too early is set again then.

        Never left to the writer: it waits for a client that does not read, and
        that client's grants and deadlines end in time all the same.
        """
        times = [at for at in (self.end.next_event(), self._slots.next_event()) if at is not None]
        if not times:
            return
        due = min(times) + _TICK
        if self._timer_at <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_later(max(0.0, due - self._now()), self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = self._now()
        self._slots.tick(now)
        late, stalled = self.end.due(now)
        for execution in late:
            self.runner.late(execution)
        for execution in stalled:
            self.runner.refuse(execution, "stalled")
        self._schedule()
        self.wake()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for execution in self.end.gone(self._now()):
            execution.cancelled = True
            self.runner.cancel(execution)
