"""What follows a failed attempt, for every kind of error."""

from __future__ import annotations

import random

import pytest

from atomesh.core import errors
from atomesh.core.backoff import Backoff
from atomesh.core.errors import AtomeshError
from atomesh.pipelines.errors import Interrupted, RunCancelled, RunFailed
from atomesh.pipelines.policy import Tries, after_failure, attempt_timeout
from atomesh.pipelines.record import RunRecord

FINAL, ALWAYS, IF_IDEMPOTENT = "final", "always", "if idempotent"
RECORD = RunRecord("r", "p", "1.0.0", 0.0, [])

TABLE: list[tuple[AtomeshError, str]] = [
    (errors.InvalidArgument(), FINAL),
    (errors.InvalidInput(), FINAL),
    (errors.WrongType(), FINAL),
    (errors.Unauthenticated(), FINAL),
    (errors.PermissionDenied(), FINAL),
    (errors.NotFound(), FINAL),
    (errors.UnknownAgent(), FINAL),
    (errors.Conflict(), FINAL),
    (errors.IncompatibleContract(), FINAL),
    (errors.CallTooDeep(), FINAL),
    (errors.MessageTooLarge(), FINAL),
    (errors.Cancelled(), FINAL),
    (RunCancelled("", RECORD), FINAL),
    (RunFailed(RECORD), FINAL),
    (errors.CircuitOpen(), FINAL),
    (Interrupted(), FINAL),
    (errors.AgentFailed("no"), FINAL),
    (errors.AgentFailed("not now", retryable=True), IF_IDEMPOTENT),
    (errors.NoFreeSlot(), ALWAYS),
    (errors.Draining(), ALWAYS),
    (errors.WrongInstance(), ALWAYS),
    (errors.CallLoop(), ALWAYS),
    (errors.QueueFull(), ALWAYS),
    (errors.Shed(), ALWAYS),
    (errors.NoEndpoint(), ALWAYS),
    (errors.RegistryUnavailable(), ALWAYS),
    (errors.DeadlineExceeded(), IF_IDEMPOTENT),
    (errors.DeadlineExceeded(executed=True), IF_IDEMPOTENT),
    (errors.DeadlineExceeded(executed=False), ALWAYS),
    (errors.ConnectionLost(), IF_IDEMPOTENT),
    (errors.ConnectionLost(executed=False), ALWAYS),
    (errors.InvalidOutput(), IF_IDEMPOTENT),
    (errors.AgentCrashed(), IF_IDEMPOTENT),
    (errors.RemoteError(), IF_IDEMPOTENT),
    (AtomeshError(), IF_IDEMPOTENT),
]


def tries(made: int = 1, allowed: int = 3, *, idempotent: bool = False, deadline: float = 100.0) -> Tries:
    return Tries(made, allowed, idempotent, Backoff(1.0, 10.0), deadline)


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize(("error", "rule"), TABLE, ids=lambda value: getattr(value, "reason", value))
def test_what_may_be_tried_again(error: AtomeshError, rule: str, idempotent: bool) -> None:
    verdict = after_failure(error, tries(idempotent=idempotent), 0.0, random.Random(1))
    again = rule == ALWAYS or (rule == IF_IDEMPOTENT and idempotent)
    assert (verdict.retry_in is not None) == again
    assert not verdict.exhausted, "attempts are left"


def test_the_table_leaves_no_kind_of_error_out() -> None:
    def all_of(kind: type[AtomeshError]) -> set[type[AtomeshError]]:
        return {kind}.union(*(all_of(each) for each in kind.__subclasses__()))

    known = {kind for kind in all_of(AtomeshError) if kind.__module__ == "atomesh.core.errors"}
    untried = {errors.Refused, errors.Superseded, errors.UnknownLease}  # roots, and what only a registry says
    assert known - untried <= {type(error) for error, _ in TABLE}


def test_what_may_have_run_is_never_repeated_unless_it_may_run_twice() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        error, _ = rng.choice(TABLE)
        verdict = after_failure(error, tries(rng.randint(1, 9), 10), rng.uniform(0, 100), rng)
        assert verdict.retry_in is None or error.executed is False


def test_attempts_end_exhausted_and_only_where_another_might_have_gone_well() -> None:
    rng = random.Random(1)
    verdict = after_failure(errors.NoEndpoint(), tries(3, 3), 0.0, rng)
    assert (verdict.retry_in, verdict.exhausted) == (None, True)
    verdict = after_failure(errors.InvalidInput(), tries(3, 3), 0.0, rng)
    assert (verdict.retry_in, verdict.exhausted) == (None, False)
    verdict = after_failure(errors.NoEndpoint(), tries(1, 1), 0.0, rng)
    assert (verdict.retry_in, verdict.exhausted) == (None, True), "one attempt is how an error stops at once"


def test_waits_double_up_to_their_cap_and_are_jittered_in_their_upper_half() -> None:
    rng = random.Random(3)
    for made, full in enumerate((1, 2, 4, 8, 10, 10), start=1):
        delays = [after_failure(errors.NoEndpoint(), tries(made, 99), 0.0, rng).retry_in or 0.0 for _ in range(200)]
        assert full / 2 <= min(delays) < 0.6 * full
        assert 0.9 * full < max(delays) <= full


def test_a_servers_word_on_when_to_come_again_is_obeyed() -> None:
    def wait(retry_after: float) -> float | None:
        return after_failure(errors.NoFreeSlot(retry_after=retry_after), tries(), 0.0, random.Random(1)).retry_in

    assert wait(7.0) == 7.0
    assert 0.5 <= (wait(0.1) or 0.0) <= 1.0
    assert wait(float("inf")) is None


def test_nothing_is_waited_for_beyond_the_runs_deadline() -> None:
    verdict = after_failure(errors.NoEndpoint(), tries(deadline=10.0), 9.9, random.Random(1))
    assert (verdict.retry_in, verdict.exhausted) == (None, True)
    assert after_failure(errors.NoEndpoint(), tries(deadline=10.0), 8.9, random.Random(1)).retry_in is not None


@pytest.mark.parametrize(("now", "expected"), [(0.0, 60.0), (50.0, 50.0), (99.0, 1.0), (101.0, -1.0)])
def test_an_attempt_has_its_own_time_or_what_is_left_of_the_runs(now: float, expected: float) -> None:
    assert attempt_timeout(60.0, 100.0, now) == expected


def test_a_generator_is_drawn_from_only_where_something_is_waited_for() -> None:
    state = random.Random(5)
    before = state.getstate()
    after_failure(errors.InvalidInput(), tries(), 0.0, state)
    assert state.getstate() == before, "worlds of one seed stay the same"
