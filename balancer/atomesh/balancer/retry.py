"""What to do after an attempt failed: the one place that decides it.

Elsewhere: certainly not executed, so another endpoint may have it; no retry,
no budget. Again: it may have run, so only for calls that may run twice, within
the attempts and the budget. Otherwise the error is final.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from atomesh.balancer.budget import RetryBudget
from atomesh.balancer.ejection import Outcome
from atomesh.core import errors
from atomesh.core.backoff import Backoff
from atomesh.core.errors import AtomeshError

MAX_ATTEMPTS = 3
"""Executions of one call at most, the first included. What failed three times
fails for a reason that a fourth does not change."""

MAX_FREE_TRIES = 8
"""Unexecuted refusals before a call waits. Each costs a round trip of a slot
that somebody else may have had; past eight the fleet is simply full."""

RETRY_BACKOFF = Backoff(base=0.025, cap=1.0)


class Next(Enum):
    """What follows a failed attempt."""

    ELSEWHERE = "elsewhere"
    """At once, at another endpoint."""
    WAIT = "wait"
    """In the client's queue, until an endpoint has a slot."""
    AGAIN = "again"
    """After a delay, at any endpoint."""
    FAIL = "fail"
    """The error is final."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows, and after how many seconds."""

    next: Next
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class History:
    """A call so far."""

    executed: int
    """Attempts that ran, or may have run."""
    refused: int
    """Unexecuted refusals since the call last waited."""
    endpoints: int
    """Endpoints there are."""
    idempotent: bool


def decide(error: AtomeshError, history: History, budget: RetryBudget, now: float, rng: random.Random) -> Decision:
    """What follows `error`. Takes a retry out of the budget where it decides for one."""
    if isinstance(error, errors.Refused) and error.executed is False:
        return _after_refusal(error, history)
    if not (history.idempotent and may_go_well(error)) or history.executed >= MAX_ATTEMPTS:
        return Decision(Next.FAIL)
    if not budget.withdraw(now):
        return Decision(Next.FAIL)
    delay = RETRY_BACKOFF.delay(history.executed, rng)
    # The server's pushback is obeyed (gRFC A6), never undercut.
    return Decision(Next.AGAIN, max(delay, error.retry_after or 0.0))


def may_go_well(error: AtomeshError) -> bool:
    """Whether another try of a call that may run twice makes sense."""
    return isinstance(error, errors.ConnectionLost) or error.retryable


def outcome_of(error: AtomeshError) -> Outcome:
    """What an error says of the endpoint that it came from."""
    if isinstance(error, errors.ConnectionLost):
        return Outcome.TRANSPORT_FAILURE
    if isinstance(error, errors.AgentCrashed | errors.AgentFailed | errors.InvalidOutput | errors.DeadlineExceeded):
        return Outcome.AGENT_FAILURE
    if isinstance(error, errors.Refused | errors.Cancelled):
        return Outcome.NEUTRAL
    if isinstance(error, errors.RemoteError):
        return Outcome.AGENT_FAILURE
    return Outcome.SUCCESS  # it answered: what is wrong is the request


def _after_refusal(error: errors.Refused, history: History) -> Decision:
    elsewhere = min(MAX_FREE_TRIES, history.endpoints)
    if history.refused < elsewhere:
        return Decision(Next.ELSEWHERE)
    # A loop that found every endpoint full would wait for itself.
    return Decision(Next.FAIL if isinstance(error, errors.CallLoop) else Next.WAIT)
