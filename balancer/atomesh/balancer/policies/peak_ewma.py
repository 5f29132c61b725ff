"""Peak EWMA: of two endpoints drawn at random, the one where the call is likely done first.

The cost of an endpoint is its latency times the calls that would be there,
rtt * (outstanding + 1), with a latency that rises at once and falls slowly
(Finagle's `PeakEwma`, linkerd's default; drawn in pairs as both do). It
leaves an endpoint that has become slow after one slow answer. For calls of one
price only: where costs vary a thousandfold, latency tells of the calls and not
of the endpoint, and p99 waits were 10 to 190 times those of late binding.

What failed, was refused or given up says nothing good: it counts where it took
longer than the estimate, and undoes its fading where it did not. Else the
endpoint that fails at once would be the quickest of all.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.ejection import Outcome
from atomesh.balancer.ewma import PeakEwma
from atomesh.balancer.policies.base import Picker
from atomesh.balancer.policies.two_choices import TwoChoices

DECAY_SECONDS = 10.0
"""Finagle's. Half forgets a slow endpoint before its 30 s of trouble are over;
twice leaves one that has recovered alone for half a minute."""

UNKNOWN = 1e9
"""Cost of an endpoint that has answered nothing and is asked already: one call
finds out, not all of them (Finagle's penalty)."""


class PeakEwmaPolicy:
    """Keeps a latency at each endpoint, for as long as that instance lives."""

    def __init__(self, rng: random.Random, decay: float = DECAY_SECONDS) -> None:
        """Draws from `rng`; `decay` in seconds."""
        self._rng = rng
        self._decay = decay

    def picker(self, candidates: Sequence[Candidate]) -> Picker:
        """A picker over these endpoints."""
        return TwoChoices(candidates, self.cost, self._rng)

    def cost(self, candidate: Candidate, now: float) -> float:
        """Seconds, roughly, until the endpoint would be done with one call more."""
        pace = candidate.pace
        if pace is None:
            return UNKNOWN + candidate.in_flight if candidate.in_flight else 0.0
        return pace.value(now) * (candidate.in_flight + 1)

    def done(self, candidate: Candidate, outcome: Outcome, seconds: float, now: float) -> None:
        """Learns how long an attempt took."""
        pace = candidate.pace
        if pace is None:
            if outcome is not Outcome.SUCCESS:
                return
            pace = candidate.pace = PeakEwma(self._decay)
        if outcome is Outcome.SUCCESS or seconds > pace.value(now):
            pace.observe(seconds, now)
        else:
            pace.hold(now)
