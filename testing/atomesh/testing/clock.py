"""Two clocks for tests: one follows a virtual-time loop, one is moved by hand.

Both are an `atomesh.core.clock.Clock`. Take `VirtualClock` where code sleeps
and wakes by itself, `ManualClock` where the test says what time it is.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

# Sunday, 2001-09-09T01:46:40Z: a wall time that nobody mistakes for a
# monotonic one, or for the machine's.
WALL_AT_ZERO = 1_000_000_000.0


class VirtualClock:
    """Tells the time of the running loop; inside `run_virtual` that is virtual time.

    `now()` is the loop's time in seconds, `wall()` is unix seconds:
    `wall_at_zero` where the loop's time is 0, and as fast. With a `loop` given
    it can be read from threads too, in which none runs.
    """

    def __init__(self, *, wall_at_zero: float = WALL_AT_ZERO, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._wall_at_zero = wall_at_zero
        self._loop = loop

    def now(self) -> float:
        """Seconds on the loop's clock."""
        return (self._loop or asyncio.get_running_loop()).time()

    def wall(self) -> float:
        """Unix seconds, in step with `now`."""
        return self._wall_at_zero + self.now()

    async def sleep(self, seconds: float) -> None:
        """Sleeps until the loop's clock has moved on by `seconds`."""
        await asyncio.sleep(seconds)


class ManualClock:
    """Stands still until the test moves it.

    `now()` begins at `now` seconds, `wall()` at `wall` unix seconds. Sleepers
    that are due wake in the order of their times, then of their coming, as soon
    as the loop gets its turn. One `advance` is one instant: a task that sleeps
    1 s twice needs two of them, where a virtual-time loop would need none.
    """

    def __init__(self, *, now: float = 0.0, wall: float = WALL_AT_ZERO) -> None:
        self._now = now
        self._wall = wall
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Seconds, as far as the test has moved them."""
        return self._now

    def wall(self) -> float:
        """Unix seconds; moves with `now`, and by `set_wall` alone."""
        return self._wall

    @property
    def sleepers(self) -> int:
        """How many sleep now."""
        return sum(not sleeper.done() for _, _, sleeper in self._sleepers)

    def advance(self, seconds: float) -> None:
        """Moves both times forward and wakes who is due.

        Raises:
            ValueError: `seconds` is negative; monotonic time never goes back.
        """
        if seconds < 0:
            raise ValueError(f"monotonic time cannot go back by {-seconds:g} s; use set_wall for the wall clock")
        self._now += seconds
        self._wall += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, sleeper = heapq.heappop(self._sleepers)
            if not sleeper.done():
                sleeper.set_result(None)

    def set_wall(self, wall: float) -> None:
        """Sets the wall clock alone, back or forth, as an administrator or NTP does."""
        self._wall = wall

    async def sleep(self, seconds: float) -> None:
        """Sleeps until `advance` has come by `seconds`; 0 or less only lets others run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), sleeper))
        await sleeper
