"""A latency that believes bad news at once and good news slowly (peak EWMA).

A sample above the estimate replaces it; one below moves it by exp(-t / decay),
where t is the time since the last: an endpoint that has become slow is known
after one answer, one that has become fast again within a few decays. With no
samples at all the estimate halves every `decay` * ln 2 seconds, so that a slow
endpoint is tried again by and by. Source: Finagle's `PeakEwma`, which linkerd's
balancers use (`linkerd/ewma`).
"""

from __future__ import annotations

import math


class PeakEwma:
    """One endpoint's latency in seconds. `now` is monotonic seconds."""

    __slots__ = ("_at", "_decay", "_peak")

    def __init__(self, decay: float) -> None:
        """Nothing is known: 0."""
        self._decay = decay
        self._peak = 0.0
        self._at = 0.0

    def observe(self, seconds: float, now: float) -> None:
        """Takes a sample."""
        if seconds > self.value(now):
            self._peak = seconds
        else:
            kept = self._kept(now)
            self._peak = self._peak * kept + seconds * (1 - kept)
        self._at = now

    def hold(self, now: float) -> None:
        """Something ended that told nothing new: the estimate is again what it was last known to be."""
        self._at = max(self._at, now)

    def value(self, now: float) -> float:
        """The estimate, as it has decayed until now."""
        return self._peak * self._kept(now) if self._peak else 0.0

    def _kept(self, now: float) -> float:
        return math.exp(min(0.0, self._at - now) / self._decay)
