"""Weighted least outstanding: the smallest share of its slots in use.

The load of an endpoint is its executions in flight, this client's and those
that it last told us of, divided by its slots. A full scan costs O(endpoints)
and is cheaper than two samples below about 64 of them. It is Envoy's least
request with weights, with the fleet's word added to the client's own count.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from atomesh.balancer.candidate import LOAD_NEWS_SECONDS, Candidate
from atomesh.balancer.policies.base import NONE_TRIED, Picker


class WeightedLeastOutstanding:
    """Keeps where the last scan began, so that equals take turns."""

    def __init__(self, rng: random.Random) -> None:
        """Begins anywhere."""
        self._start = rng.getrandbits(16)

    def picker(self, candidates: Sequence[Candidate]) -> Picker:
        """A picker over these endpoints."""
        return _Scan(self, tuple(candidates))

    def _next_start(self, size: int) -> int:
        self._start = (self._start + 1) % size
        return self._start


class _Scan:
    __slots__ = ("_candidates", "_policy", "_twice")

    def __init__(self, policy: WeightedLeastOutstanding, candidates: tuple[Candidate, ...]) -> None:
        self._policy = policy
        self._candidates = candidates
        self._twice = candidates + candidates  # so that a rotated scan is one slice

    def pick(self, now: float, tried: Collection[Candidate] = NONE_TRIED, key: str = "") -> Candidate | None:
        """The one with the smallest share of its slots in use."""
        size = len(self._candidates)
        if not size:
            return None
        start = self._policy._next_start(size)
        best: Candidate | None = None
        least = 0.0
        fresh = now - LOAD_NEWS_SECONDS
        for candidate in self._twice[start : start + size]:
            # Candidate.takes, inlined: this loop is the price of every call.
            own, slots = candidate.in_flight, candidate.slots
            if own >= slots or candidate.shut_until > now or (own and candidate.ejection.probing):
                continue
            load = (own + candidate.others if candidate.others_at > fresh else own) / slots
            if (best is None or load < least) and (not tried or candidate not in tried):
                best, least = candidate, load
                if not load:
                    break  # nothing is less loaded than nothing
        return best
