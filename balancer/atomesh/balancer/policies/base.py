"""The contract between a balancer and its policies.

A policy makes pickers; a picker is a snapshot of the endpoints that can be
picked at all, replaced when one joins, leaves or changes. `pick` never blocks,
never awaits and costs microseconds (grpc-go, balancer.Picker).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from atomesh.balancer.candidate import Candidate

NONE_TRIED: Collection[Candidate] = ()


class Picker(Protocol):
    """Chooses among the endpoints of one snapshot."""

    def pick(self, now: float, tried: Collection[Candidate] = NONE_TRIED) -> Candidate | None:
        """The endpoint for a call, not one of those `tried`; None where no other has a slot free."""
        ...


class Policy(Protocol):
    """Makes pickers, and keeps what should outlive one of them (a cursor, a score)."""

    def picker(self, candidates: Sequence[Candidate]) -> Picker:
        """A picker over these endpoints."""
        ...
