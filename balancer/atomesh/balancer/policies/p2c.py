"""Power of two choices: of two endpoints drawn at random, the one with the smaller share of its slots in use.

Two looks instead of a scan, and no herd: many clients with the same old news do
not all run to the same endpoint. With n endpoints and as many calls the fullest
holds log log n / log 2 + O(1) calls, where one random choice gives
log n / log log n (Mitzenmacher, "The Power of Two Choices in Randomized Load
Balancing", 2001). Where one client makes most calls, a full scan is better: see
weighted_least_outstanding.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.policies.base import Picker
from atomesh.balancer.policies.two_choices import TwoChoices


class PowerOfTwoChoices:
    """Draws in proportion to slots."""

    def __init__(self, rng: random.Random) -> None:
        """Draws from `rng`."""
        self._rng = rng

    def picker(self, candidates: Sequence[Candidate]) -> Picker:
        """A picker over these endpoints."""
        return TwoChoices(candidates, Candidate.load, self._rng)
