"""Round robin: each in turn, those without a free slot passed over (gRPC's round_robin, A27)."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.policies.base import NONE_TRIED, Picker


class RoundRobin:
    """Keeps whose turn it is."""

    def __init__(self, rng: random.Random) -> None:
        """Begins anywhere."""
        self.turn = rng.getrandbits(16)

    def picker(self, candidates: Sequence[Candidate]) -> Picker:
        """A picker over these endpoints."""
        return _Turn(self, tuple(candidates))


class _Turn:
    __slots__ = ("_candidates", "_policy")

    def __init__(self, policy: RoundRobin, candidates: tuple[Candidate, ...]) -> None:
        self._policy = policy
        self._candidates = candidates

    def pick(self, now: float, tried: Collection[Candidate] = NONE_TRIED, key: str = "") -> Candidate | None:
        """The next one."""
        size = len(self._candidates)
        for step in range(size):
            turn = (self._policy.turn + step) % size
            candidate = self._candidates[turn]
            if candidate.takes(now) and candidate not in tried:
                self._policy.turn = turn + 1
                return candidate
        return None
