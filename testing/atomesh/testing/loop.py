"""An event loop whose time jumps: an hour of sleeping passes in microseconds.

When nothing is ready to run, an ordinary loop sleeps until its next timer.
This one sets its clock to that timer instead. So a test of a 15 s lease takes
no time, and the same callbacks run in the same order at the same instants
every time, on a loaded machine as well as on an idle one.

The idea is that of trio's `MockClock(autojump_threshold=0)`. What it cannot
do: wait for sockets. Other processes and other threads live in real time, so
a world in virtual time has none of them. The exception is `run_in_executor`
(and `asyncio.to_thread`): the loop really waits for such a thread and lets no
virtual time pass meanwhile, as if the thread's work took none.

Order is only as fixed as the program's own: what iterates over a set of tasks
(`asyncio.wait` returns two) sees them in the order of their addresses.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

_Args = TypeVarTuple("_Args")
_Result = TypeVar("_Result")

# Real seconds that a thread in `run_in_executor` may take. Half of it fails
# honest work on a loaded machine; double lets a hanging test hang for longer.
THREAD_PATIENCE = 10.0

# Timers closer together than this run in one go. At a tenth of it, adding it
# to 10^9 s would change nothing in a double, and a due timer would never run.
_RESOLUTION = 1e-6


# Turns of the loop within a millisecond of virtual time. Honest bursts take some
# thousands; at ten times as many, a loop that spins is found out after 20 s and not 2.
LIVELOCK_TURNS = 100_000
_STANDSTILL = 0.001


class LivelockError(RuntimeError):
    """Callbacks call each other and no time passes: virtual time would never go on."""


class DeadlockError(RuntimeError):
    """Everybody waits and no timer is set: nothing would ever happen again."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop that jumps to its next timer as soon as nothing else is ready.

    `time()` begins at `start` (seconds) and stands still while callbacks run.

    Raises:
        DeadlockError: out of `run_until_complete`, when nothing is ready and no
            timer is set. It names the tasks that wait, and where.
        LivelockError: out of the same, when turn follows turn and no time passes.
    """

    # asyncio keeps its timers in this heap and offers no public view of it.
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._threads = 0
        self._turns = 0
        self._turned_at = start
        self._files = _JumpingSelector()
        super().__init__(self._files)
        self._files.loop = self
        self._own_files = len(self._files.get_map())  # the pipe that wakes the loop
        self._clock_resolution = _RESOLUTION

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Args], Any], *args: *_Args
    ) -> asyncio.Future[Any]:
        """Runs `func` on a thread, for which the loop waits in real time.

        Raises:
            DeadlockError: out of `run_until_complete`, when the thread has not
                answered after `THREAD_PATIENCE` real seconds.
        """
        running = super().run_in_executor(executor, func, *args)
        self._threads += 1
        running.add_done_callback(self._thread_ended)
        return running

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Joins the threads of `run_in_executor`, waiting in real time."""
        self._threads += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._threads -= 1

    def _thread_ended(self, _: asyncio.Future[Any]) -> None:
        self._threads -= 1

    def _turn(self) -> None:
        """The loop begins another turn.

        Raises:
            LivelockError: LIVELOCK_TURNS of them took no time.
        """
        self._turns += 1
        if self._turns >= LIVELOCK_TURNS:
            if self._now - self._turned_at < _STANDSTILL:
                raise LivelockError(f"{self._turns} turns of the loop and no time passes; {self._where()}")
            self._turns, self._turned_at = 0, self._now

    def _idle(self, wait: Callable[[float], list[Any]], *, timers: bool) -> list[Any]:
        """Nothing is ready: waits for a thread, or jumps to the next timer."""
        if self._threads:
            ready = wait(THREAD_PATIENCE)
            if not ready:
                raise DeadlockError(
                    f"a thread has not answered for {THREAD_PATIENCE:g} s of real time; {self._where()}"
                )
            return ready
        if not timers:
            raise DeadlockError(f"nothing is ready and no timer is set; {self._where()}")
        self._now = max(self._now, self._scheduled[0].when())
        return []

    def _where(self) -> str:
        waiting = ", ".join(sorted(_waiting(asyncio.all_tasks(self)))) or "nobody"
        sockets = len(self._files.get_map()) - self._own_files
        hint = f"; {sockets} sockets are open, for which virtual time cannot wait" if sockets > 0 else ""
        return f"at {self._now:g} s of virtual time these wait: {waiting}{hint}"


class _JumpingSelector(selectors.DefaultSelector):
    """Asks its loop to jump where any other selector would block."""

    loop: VirtualTimeLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if self.loop is not None:
            self.loop._turn()
        if ready or timeout == 0 or self.loop is None:
            return ready
        return self.loop._idle(super().select, timers=timeout is not None)


def _waiting(tasks: Iterable[asyncio.Task[Any]]) -> Iterable[str]:
    for task in tasks:
        frames = task.get_stack(limit=1)
        place = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else "its end"
        yield f"{task.get_name()} at {place}"


def run_virtual(main: Coroutine[Any, Any, _Result], *, start: float = 0.0) -> _Result:
    """Runs `main` as `asyncio.run` does, in virtual time that begins at `start` seconds.

    Raises:
        DeadlockError: everybody waits and no timer is set.
    """
    with asyncio.Runner(debug=False, loop_factory=lambda: VirtualTimeLoop(start)) as runner:
        return runner.run(main)
