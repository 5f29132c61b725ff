"""The contract between a balancer and its policies.

A policy makes pickers; a picker is a snapshot of the endpoints that can be
picked at all, replaced when one joins, leaves or changes. `pick` never blocks,
never awaits and costs microseconds (grpc-go, balancer.Picker).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.ejection import Outcome

NONE_TRIED: Collection[Candidate] = ()


class Picker(Protocol):
    """Chooses among the endpoints of one snapshot."""

    def pick(self, now: float, tried: Collection[Candidate] = NONE_TRIED, key: str = "") -> Candidate | None:
        """The endpoint for a call, not one of those `tried`; None where no other has a slot free.

        `key` is the call's session id, for policies that keep a session at one endpoint.
        """
        ...


class Policy(Protocol):
    """Makes pickers, and keeps what should outlive one of them (a cursor, a score).

    It is made with a `random.Random`: to draw from, or to begin at a place of
    its own. Clients that all began with the first endpoint would send it their
    first calls together (as grpc-go's round_robin, which begins at random).
    """

    def picker(self, candidates: Sequence[Candidate]) -> Picker:
        """A picker over these endpoints."""
        ...


@runtime_checkable
class Learner(Protocol):
    """A policy that wants to know how its picks end."""

    def done(self, candidate: Candidate, outcome: Outcome, seconds: float, now: float) -> None:
        """An attempt at the endpoint ended, `seconds` after it was picked."""
        ...
