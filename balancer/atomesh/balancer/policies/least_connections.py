"""Least connections: the fewest attempts of this client in flight, whatever the slots.

The familiar unweighted name (HAProxy, nginx). It knows nothing of other
clients and treats large and small endpoints alike: prefer
weighted_least_outstanding unless that is what you want.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.policies.base import NONE_TRIED, Picker


class LeastConnections:
    """Keeps where the last scan began, so that equals take turns."""

    def __init__(self, rng: random.Random) -> None:
        """Begins anywhere."""
        self.start = rng.getrandbits(16)

    def picker(self, candidates: Sequence[Candidate]) -> Picker:
        """A picker over these endpoints."""
        return _Scan(self, tuple(candidates))


class _Scan:
    __slots__ = ("_candidates", "_policy")

    def __init__(self, policy: LeastConnections, candidates: tuple[Candidate, ...]) -> None:
        self._policy = policy
        self._candidates = candidates

    def pick(self, now: float, tried: Collection[Candidate] = NONE_TRIED, key: str = "") -> Candidate | None:
        """The one with the fewest attempts in flight."""
        size = len(self._candidates)
        self._policy.start = start = (self._policy.start + 1) % size if size else 0
        best: Candidate | None = None
        for candidate in self._candidates[start:] + self._candidates[:start]:
            if (best is None or candidate.in_flight < best.in_flight) and (
                candidate.takes(now) and candidate not in tried
            ):
                best = candidate
        return best
