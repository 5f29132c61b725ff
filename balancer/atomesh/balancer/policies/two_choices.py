"""What the policies of two choices share: draw two endpoints, take the cheaper.

Endpoints are drawn in proportion to their slots, without putting the first
back, in O(log endpoints). Where neither of the two has a slot free, the same is
done among those that have one, which costs a scan.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.policies.base import NONE_TRIED

Cost = Callable[[Candidate, float], float]
"""What a call would cost at the endpoint, at a time; the smaller is picked."""


class TwoChoices:
    """A picker over one snapshot, for whatever cost."""

    __slots__ = ("_candidates", "_cost", "_last", "_rng", "_upto")

    def __init__(self, candidates: Sequence[Candidate], cost: Cost, rng: random.Random) -> None:
        """`cost` is asked twice for each pick."""
        self._candidates = tuple(candidates)
        self._cost = cost
        self._rng = rng
        self._upto = list(accumulate(candidate.slots for candidate in self._candidates))
        self._last = len(self._candidates) - 1

    def pick(self, now: float, tried: Collection[Candidate] = NONE_TRIED, key: str = "") -> Candidate | None:
        """The cheaper of two that were drawn; the other where it has no slot free."""
        if self._last < 1:
            return self._among_free(now, tried)
        one, other = self._pair()
        if not one.takes(now) or one in tried:
            one = other
        elif other.takes(now) and other not in tried:
            return other if self._cost(other, now) < self._cost(one, now) else one
        return one if one.takes(now) and one not in tried else self._among_free(now, tried)

    def _pair(self) -> tuple[Candidate, Candidate]:
        upto, last, draw = self._upto, self._last, self._rng.random
        first = bisect_right(upto, draw() * upto[last], 0, last)
        slots = upto[first] - upto[first - 1] if first else upto[0]
        point = draw() * (upto[last] - slots)  # as if the first were not there
        if point >= upto[first] - slots:
            point += slots
        return self._candidates[first], self._candidates[bisect_right(upto, point, 0, last)]

    def _among_free(self, now: float, tried: Collection[Candidate]) -> Candidate | None:
        free = [c for c in self._candidates if c.takes(now) and c not in tried]
        if len(free) < 2:
            return free[0] if free else None
        return TwoChoices(free, self._cost, self._rng).pick(now)
