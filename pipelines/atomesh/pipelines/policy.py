"""What follows a failed attempt at a stage: the one place that decides it. Pure.

A stage's attempt is a call of the mesh, which has already gone elsewhere where
it was refused unexecuted, and tried again within its budget where it may run
twice. What is decided here is whether the whole of that is done once more.

What may have run is repeated only where the stage may run twice: its agent
says so, or its author does. What certainly did not run always may.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from atomesh.core import errors
from atomesh.core.backoff import Backoff
from atomesh.core.errors import AtomeshError
from atomesh.pipelines.errors import Interrupted

_FINAL = (
    errors.InvalidArgument,
    errors.Unauthenticated,
    errors.PermissionDenied,
    errors.NotFound,
    errors.Conflict,
    errors.MessageTooLarge,
    errors.Cancelled,
    errors.CircuitOpen,
    Interrupted,
)
"""The same again would end the same: the request is wrong, or whoever could answer said no."""


@dataclass(frozen=True, slots=True)
class Tries:
    """What a stage may spend, and what it has spent."""

    made: int
    allowed: int
    idempotent: bool
    backoff: Backoff
    deadline: float
    """Of the run, in monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows: another attempt after so many seconds, or none."""

    retry_in: float | None
    exhausted: bool = False
    """No attempt is left, though another might have gone well."""


def after_failure(error: AtomeshError, tries: Tries, now: float, rng: random.Random) -> Verdict:
    """What follows an attempt that ended with `error`."""
    if not may_go_well(error, idempotent=tries.idempotent):
        return Verdict(None)
    if tries.made >= tries.allowed:
        return Verdict(None, exhausted=True)
    # A server's word on when to come again is obeyed, never undercut.
    delay = max(tries.backoff.delay(tries.made, rng), error.retry_after or 0.0)
    if now + delay >= tries.deadline:
        return Verdict(None, exhausted=True)
    return Verdict(delay)


def may_go_well(error: AtomeshError, *, idempotent: bool) -> bool:
    """Whether another attempt makes sense, and is allowed."""
    if isinstance(error, _FINAL):
        return False
    if isinstance(error, errors.AgentFailed) and not error.retryable:
        return False  # its author says that this work cannot be done
    return idempotent or error.executed is False


def may_fall_back(error: AtomeshError, *, idempotent: bool) -> bool:
    """Whether another agent may do the work: not where this one may have done it, and it must not be done twice.

    An agent that raises AgentFailed says itself that the work was not done.
    """
    return idempotent or error.executed is False or isinstance(error, errors.AgentFailed)


def attempt_timeout(timeout: float, deadline: float, now: float) -> float:
    """Seconds for one attempt: its own, or what is left of the run's where that is less."""
    return min(timeout, deadline - now)
