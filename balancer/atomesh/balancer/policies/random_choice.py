"""Random: any endpoint with a slot free, each as likely as the others.

No state, no herd, and uneven: with n calls on n endpoints the fullest holds
log n / log log n of them (Raab and Steger, "Balls into Bins", 1998). It is the
yardstick that other policies are measured with.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.policies.base import NONE_TRIED, Picker

_DRAWS = 4  # before all are looked at: seven in eight slots have to be taken for more draws to be cheaper


class RandomChoice:
    """Keeps nothing."""

    def __init__(self, rng: random.Random) -> None:
        """Draws from `rng`."""
        self._rng = rng

    def picker(self, candidates: Sequence[Candidate]) -> Picker:
        """A picker over these endpoints."""
        return _Any(self._rng, tuple(candidates))


class _Any:
    __slots__ = ("_candidates", "_rng")

    def __init__(self, rng: random.Random, candidates: tuple[Candidate, ...]) -> None:
        self._rng = rng
        self._candidates = candidates

    def pick(self, now: float, tried: Collection[Candidate] = NONE_TRIED, key: str = "") -> Candidate | None:
        """One of those that have a slot free."""
        candidates, draw = self._candidates, self._rng.random
        if not candidates:
            return None
        for _ in range(_DRAWS):
            candidate = candidates[int(draw() * len(candidates))]
            if candidate.takes(now) and candidate not in tried:
                return candidate
        free = [c for c in candidates if c.takes(now) and c not in tried]
        return free[int(draw() * len(free))] if free else None
