"""What a balancer gives: a pick for one attempt, and what it is made of. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.ejection import Outcome
from atomesh.balancer.policies.base import Learner
from atomesh.balancer.retry import outcome_of
from atomesh.balancer.waiting import Call
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import AtomeshError


class Owner(Protocol):
    """Whoever gave a pick, and is told when it is over."""

    def ended(self, candidate: Candidate, now: float, error: AtomeshError | None, running: int | None) -> None:
        """An attempt there ended."""
        ...


class Grant(Protocol):
    """A slot that an endpoint has promised."""

    def give_back(self) -> None:
        """It is not needed after all."""
        ...


@dataclass(frozen=True, slots=True)
class MuxView:
    """What the mux to an endpoint says of it."""

    slots: int
    weight: float
    silent: bool
    draining: bool


class Pick:
    """An endpoint for one attempt, its load already counted. `done` must follow, once."""

    __slots__ = ("_balancer", "_begun", "_learner", "candidate", "grant", "parked", "waits")

    def __init__(self, balancer: Owner, candidate: Candidate, now: float = 0.0, learner: Learner | None = None) -> None:
        """Counts the attempt; `learner` is told how long it took, and how it ended."""
        self._balancer: Owner | None = balancer
        self._begun = now
        self._learner = learner
        self.grant: Grant | None = None
        """The slot that was promised for it; whoever uses it takes it out of here."""
        self.parked = False
        """No slot was free when the call wanted one."""
        self.waits = False
        """The call may wait at the endpoint for a slot."""
        self.candidate = candidate
        candidate.in_flight += 1

    @property
    def endpoint(self) -> Endpoint:
        """Where."""
        return self.candidate.endpoint

    def done(self, now: float, error: AtomeshError | None = None, running: int | None = None) -> None:
        """The attempt ended: well, or with `error`; `running` is what the endpoint says it still executes."""
        balancer, self._balancer = self._balancer, None
        if balancer is None:
            return
        if self.grant is not None:
            self.grant.give_back()
        balancer.ended(self.candidate, now, error, running)
        if self._learner is not None:
            outcome = Outcome.SUCCESS if error is None else outcome_of(error)
            self._learner.done(self.candidate, outcome, now - self._begun, now)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What became of a call that waited."""

    call: Call
    result: Pick | AtomeshError
