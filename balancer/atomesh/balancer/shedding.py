"""Which calls are shed because they cannot make their deadline: at once, and before they cost anything.

Under overload a queue in the order of deadlines serves, of all calls, those
that are just about to be late; each takes a slot, ends too late, and nothing is
gained (a quarter of the capacity was, at twice the load). Two rules end that:

*On arrival* a call is shed whose turn comes too late: so many wait before it,
at the pace at which slots have come of late, that less time is left than its
agent takes. So the queue stays as short as deadlines allow.

*On its turn* a call is shed that has less left than its agent takes, where
another waits that has more: the estimate is one, and calls differ.

What the agent takes is its p95 of late, but never more than half of the time
that the call was given: an agent whose calls differ a thousandfold would not
be called at all otherwise. While nobody waits nothing is shed: a slot that is
free may as well be tried.
"""

from __future__ import annotations

from atomesh.balancer.quantiles import LatencyQuantiles

MEMORY = 32
"""Turns over which the pace is taken. Half of it jumps with one slow execution;
twice is late when an endpoint dies."""
MIN_TURNS = 16
"""Turns in a row before the pace means anything."""
MIN_SAMPLES = 20.0
"""Answers of late before their p95 means anything."""
REFRESH_SECONDS = 0.25
"""How long a p95 is good for: reading it costs what ten picks cost."""


class Shedding:
    """The pace at which waiting calls get their turn, and what their agent takes. `now` is monotonic seconds."""

    __slots__ = ("_interval", "_last", "_latencies", "_takes", "_takes_at", "_turns")

    def __init__(self, latencies: LatencyQuantiles) -> None:
        """`latencies` are those of the agent's attempts."""
        self._latencies = latencies
        self._interval = 0.0
        self._last: float | None = None
        self._turns = 0
        self._takes = 0.0
        self._takes_at = float("-inf")

    def turn(self, now: float, waiting: int) -> None:
        """A call had its turn; so many wait still."""
        if self._last is not None:
            self._turns += 1
            self._interval += (now - self._last - self._interval) / min(self._turns, MEMORY)
        self._last = now if waiting else None
        if not waiting:
            self._turns = min(self._turns, MIN_TURNS - 1)  # the next queue is another one

    def too_late(self, deadline: float, ahead: int, now: float) -> float | None:
        """Seconds that a call which arrives now would wait, where that is too long; None where it is not."""
        if self._turns < MIN_TURNS:
            return None
        since = now - self._last if self._last is not None else 0.0
        # Turns that have stopped coming make the pace slower than it was.
        wait = ahead * max(self._interval, since / MEMORY)
        return wait if now + wait + self.takes(deadline - now, now) > deadline else None

    def hopeless(self, deadline: float, given: float, now: float) -> bool:
        """Whether a call whose turn it is, and that was given so many seconds, has too few left."""
        return deadline - now < self.takes(given, now)

    def takes(self, given: float, now: float) -> float:
        """Seconds that the agent takes, as far as a call that is given so many should reckon with."""
        if now - self._takes_at > REFRESH_SECONDS:
            self._takes_at = now
            enough = self._latencies.weight(now) >= MIN_SAMPLES
            self._takes = self._latencies.p95 if enough else 0.0
        return min(self._takes, given / 2)
