"""Weighted round robin: turns in proportion to slots, as evenly spread as they go.

At each pick every endpoint with a slot free earns its slots in credit; the
richest is picked and pays what all have earned. Over sum(slots) picks each gets
exactly its slots, and never all in a row: 5, 1, 1 gives a a b a c a a (nginx's
smooth weighted round robin, commit 52327e0, 2012). Credit stays with the
endpoint when others come and go. O(endpoints) per pick.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.policies.base import NONE_TRIED, Picker


class WeightedRoundRobin:
    """Its state is the credit of each endpoint."""

    def __init__(self, rng: random.Random) -> None:
        """`rng` says who goes first among equals."""
        self._rng = rng

    def picker(self, candidates: Sequence[Candidate]) -> Picker:
        """A picker over these endpoints."""
        return _Richest(tuple(self._rng.sample(candidates, len(candidates))))


class _Richest:
    __slots__ = ("_candidates",)

    def __init__(self, candidates: tuple[Candidate, ...]) -> None:
        self._candidates = candidates

    def pick(self, now: float, tried: Collection[Candidate] = NONE_TRIED, key: str = "") -> Candidate | None:
        """The one with the most credit."""
        richest: Candidate | None = None
        earned = most = 0
        for candidate in self._candidates:
            # Candidate.takes, inlined: all of them are looked at.
            own, slots = candidate.in_flight, candidate.slots
            if own >= slots or candidate.shut_until > now or (own and candidate.ejection.probing):
                continue
            if tried and candidate in tried:
                continue
            candidate.credit = credit = candidate.credit + slots
            earned += slots
            if richest is None or credit > most:
                richest, most = candidate, credit
        if richest is not None:
            richest.credit = most - earned
        return richest
