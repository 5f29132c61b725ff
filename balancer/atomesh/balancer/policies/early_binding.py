"""Early binding: the least loaded endpoint at once, where the call waits for a slot if it must.

The load is what the endpoint last said that runs and waits there, or this
client's own attempts where that is more or news are old, over its slots. No more
wait there than keep its slots busy for a round trip (`Candidate.ahead`); others
wait here. It is what late binding falls back to where round trips are long
beside the work (see `binding`).
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from atomesh.balancer.candidate import LOAD_NEWS_SECONDS, Candidate
from atomesh.balancer.policies.base import NONE_TRIED, Picker

EARLY_BINDING = "early_binding"


class EarlyBinding:
    """Keeps where the last scan began, so that equals take turns."""

    waits = True
    """Calls wait at the endpoint."""

    def __init__(self, rng: random.Random) -> None:
        """Begins anywhere."""
        self.start = rng.randrange(1 << 16)

    def picker(self, candidates: Sequence[Candidate]) -> Picker:
        """A picker over these endpoints."""
        return _Least(self, tuple(candidates))


class _Least:
    __slots__ = ("_candidates", "_policy")

    def __init__(self, policy: EarlyBinding, candidates: tuple[Candidate, ...]) -> None:
        self._policy = policy
        self._candidates = candidates

    def pick(self, now: float, tried: Collection[Candidate] = NONE_TRIED, key: str = "") -> Candidate | None:
        """The one with the least that runs and waits there, for its slots and its speed."""
        size = len(self._candidates)
        if not size:
            return None
        self._policy.start = start = (self._policy.start + 1) % size
        fresh = now - LOAD_NEWS_SECONDS
        best: Candidate | None = None
        least = 0.0
        for candidate in self._candidates[start:] + self._candidates[:start]:
            if candidate.shut_until > now or (candidate.in_flight and candidate.ejection.probing) or candidate in tried:
                continue
            own = candidate.in_flight
            there = max(own, candidate.backlog) if candidate.others_at > fresh else own
            if there >= candidate.slots + candidate.ahead:
                continue
            load = (there + 1) / (candidate.slots * candidate.weight)
            if best is None or load < least:
                best, least = candidate, load
        return best
