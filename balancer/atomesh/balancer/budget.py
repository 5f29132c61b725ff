"""How many retries a client may send: a tenth of its calls, and a floor.

Every tier that retries three times turns one call into 27 three tiers down. A
budget shared by all calls of a client bounds the whole instead (Finagle's
RetryBudget; SRE book, "Addressing Cascading Failures"): over any time, retries
<= ratio * calls + reserve + floor * seconds.
"""

from __future__ import annotations

RATIO = 0.1
"""Retries per call. At 0.05 one endpoint in three that restarts outruns it; at
0.2 an overloaded fleet gets a fifth more load just then."""
FLOOR_PER_SECOND = 10.0
"""For clients with few calls, of which a tenth is none."""
RESERVE_SECONDS = 10.0
"""How much of the floor can be saved up: 100 retries at once, what is in flight
at an endpoint that is killed."""
CAP = 100.0
"""Saved-up tenths at most: a long quiet time earns no retry storm."""


class RetryBudget:
    """Two buckets: one filled by calls, one by time. `now` is monotonic seconds."""

    __slots__ = ("_earned", "_floor", "_ratio", "_reserve", "_reserve_at")

    def __init__(self, ratio: float = RATIO, floor: float = FLOOR_PER_SECOND) -> None:
        """Starts with a full reserve."""
        self._ratio = ratio
        self._floor = floor
        self._earned = 0.0
        self._reserve = floor * RESERVE_SECONDS
        self._reserve_at: float | None = None

    def deposit(self) -> None:
        """A call was made, not counting its retries."""
        if self._earned < CAP:
            self._earned += self._ratio

    def withdraw(self, now: float) -> bool:
        """Takes one retry out; False where there is none left."""
        self._refill(now)
        if self._earned >= 1:
            self._earned -= 1
            return True
        if self._reserve >= 1:
            self._reserve -= 1
            return True
        return False

    def left(self, now: float) -> float:
        """Retries that could be taken out now."""
        self._refill(now)
        return self._earned + self._reserve

    def _refill(self, now: float) -> None:
        if self._reserve_at is not None:
            filled = self._reserve + (now - self._reserve_at) * self._floor
            self._reserve = min(self._floor * RESERVE_SECONDS, filled)
        self._reserve_at = now
