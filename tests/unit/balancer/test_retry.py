"""What follows a failed attempt."""

import random

import pytest

from atomesh.balancer.budget import RetryBudget
from atomesh.balancer.ejection import Outcome
from atomesh.balancer.retry import MAX_ATTEMPTS, MAX_FREE_TRIES, History, Next, decide, outcome_of
from atomesh.core import errors
from atomesh.core.errors import AtomeshError


def follow_up(error: AtomeshError, *, executed: int = 1, refused: int = 0, idempotent: bool = True) -> Next:
    history = History(executed, refused, endpoints=3, idempotent=idempotent)
    return decide(error, history, RetryBudget(), 0.0, random.Random(1)).next


UNEXECUTED = [errors.NoFreeSlot(), errors.Draining(), errors.WrongInstance()]
FINAL = [
    errors.InvalidInput("x"),
    errors.WrongType("x"),
    errors.Unauthenticated("x"),
    errors.PermissionDenied("x"),
    errors.AgentCrashed("x"),
    errors.InvalidOutput("x"),
    errors.DeadlineExceeded("x"),
    errors.AgentFailed("x"),
    errors.MessageTooLarge("x"),
    errors.RemoteError("x"),
]


@pytest.mark.parametrize("error", UNEXECUTED, ids=lambda e: e.reason)
@pytest.mark.parametrize("idempotent", [True, False])
def test_what_was_not_executed_goes_elsewhere_whatever_it_is(error: AtomeshError, idempotent: bool) -> None:
    assert follow_up(error, refused=1, executed=0, idempotent=idempotent) is Next.ELSEWHERE


def test_free_tries_end_in_the_queue_not_in_a_loop() -> None:
    assert follow_up(errors.NoFreeSlot(), refused=3) is Next.WAIT, "three endpoints, three refusals"
    many = History(0, MAX_FREE_TRIES, endpoints=100, idempotent=False)
    assert decide(errors.NoFreeSlot(), many, RetryBudget(), 0.0, random.Random(1)).next is Next.WAIT


def test_a_call_that_would_wait_for_itself_fails_once_all_endpoints_are_full() -> None:
    assert follow_up(errors.CallLoop(), refused=1) is Next.ELSEWHERE
    assert follow_up(errors.CallLoop(), refused=3) is Next.FAIL


@pytest.mark.parametrize("error", FINAL, ids=lambda e: e.reason)
def test_errors_that_will_come_again_are_never_retried(error: AtomeshError) -> None:
    assert follow_up(error) is Next.FAIL


def test_a_lost_connection_may_have_run_so_only_idempotent_calls_go_again() -> None:
    assert follow_up(errors.ConnectionLost(), idempotent=True) is Next.AGAIN
    assert follow_up(errors.ConnectionLost(), idempotent=False) is Next.FAIL


def test_an_author_may_say_that_another_try_may_go_well() -> None:
    assert follow_up(errors.AgentFailed("busy", retryable=True)) is Next.AGAIN
    assert follow_up(errors.AgentFailed("busy", retryable=True), idempotent=False) is Next.FAIL


def test_attempts_are_bounded() -> None:
    assert follow_up(errors.ConnectionLost(), executed=MAX_ATTEMPTS) is Next.FAIL


def test_an_empty_budget_ends_retries() -> None:
    budget = RetryBudget(floor=0.0)
    history = History(1, 0, endpoints=3, idempotent=True)
    assert decide(errors.ConnectionLost(), history, budget, 0.0, random.Random(1)).next is Next.FAIL


def test_pushback_of_the_server_is_obeyed() -> None:
    error = errors.AgentFailed("later", retryable=True, retry_after=7.0)
    decision = decide(error, History(1, 0, 3, True), RetryBudget(), 0.0, random.Random(1))
    assert decision.delay >= 7.0


def test_outcomes_tell_transport_from_agent_from_load_from_input() -> None:
    assert outcome_of(errors.ConnectionLost()) is Outcome.TRANSPORT_FAILURE
    assert outcome_of(errors.AgentCrashed()) is Outcome.AGENT_FAILURE
    assert outcome_of(errors.DeadlineExceeded()) is Outcome.AGENT_FAILURE
    assert outcome_of(errors.NoFreeSlot()) is Outcome.NEUTRAL
    assert outcome_of(errors.Cancelled()) is Outcome.NEUTRAL
    assert outcome_of(errors.InvalidInput("x")) is Outcome.SUCCESS, "it answered: the input is wrong"
