"""The one door to the machine's clocks.

State machines take `now: float`; the shells around them take a `Clock`, so that
the same code runs against the machine and in the virtual time of
`atomesh.testing`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> float:
        """Seconds that never jump, from an arbitrary start: deadlines, leases, durations."""
        ...

    def wall(self) -> float:
        """Seconds since 1970, which may jump: for people and logs only, never for a decision."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns `seconds` later; at once where it is 0 or less."""
        ...


class SystemClock:
    """The machine's clocks."""

    # The functions themselves, not methods around them: every call reads the
    # clock half a dozen times.
    now = staticmethod(time.monotonic)  # what asyncio's loop counts in, too
    wall = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        """`asyncio.sleep`."""
        await asyncio.sleep(seconds)


SYSTEM_CLOCK = SystemClock()
