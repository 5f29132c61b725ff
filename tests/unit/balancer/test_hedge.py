"""Whether and when a call is sent a second time before the first has failed."""

import pytest

from atomesh.balancer.budget import RetryBudget
from atomesh.balancer.hedge import KEPT_FOR_RETRIES, MIN_SAMPLES, REFRESH_SECONDS, Hedging, goes_on, pay
from atomesh.balancer.quantiles import HALF_LIFE_SECONDS, LatencyQuantiles
from atomesh.core import errors

NOW = 1_000.0


def seen(*samples: float) -> LatencyQuantiles:
    made = LatencyQuantiles()
    for seconds in samples:
        made.record(seconds, NOW)
    return made


TYPICAL = (*(0.1 for _ in range(98)), 1.0, 1.0)
USUAL = (*(0.1 for _ in range(94)), *(1.0 for _ in range(6)))


def after(of: LatencyQuantiles, *, twice: bool = True, now: float = NOW, deadline: float = 30.0) -> float | None:
    return Hedging(of).after(twice=twice, now=now, deadline=now + deadline)


def test_a_hedge_comes_after_what_95_of_100_calls_took() -> None:
    assert after(seen(*TYPICAL)) == pytest.approx(0.1, rel=0.1)
    assert after(seen(*USUAL)) == pytest.approx(1.0, rel=0.1)


def test_a_call_that_may_not_run_twice_is_never_hedged() -> None:
    assert after(seen(*TYPICAL), twice=False) is None


def test_too_few_answers_say_nothing() -> None:
    few = seen(*(0.1 for _ in range(int(MIN_SAMPLES) - 1)))
    assert after(few) is None
    for _ in range(2):
        few.record(0.1, NOW)
    assert after(few) is not None


def test_what_was_seen_long_ago_says_nothing_either() -> None:
    assert after(seen(*TYPICAL), now=NOW + 4 * HALF_LIFE_SECONDS) is None


def test_p95_is_read_anew_after_a_while_and_not_for_each_call() -> None:
    latencies = seen(*TYPICAL)
    hedging = Hedging(latencies)
    first = hedging.after(twice=True, now=NOW, deadline=NOW + 30)
    for _ in range(1_000):
        latencies.record(1.0, NOW)
    assert hedging.after(twice=True, now=NOW + REFRESH_SECONDS / 2, deadline=NOW + 30) == first
    assert hedging.after(twice=True, now=NOW + REFRESH_SECONDS * 2, deadline=NOW + 30) == pytest.approx(1.0, rel=0.1)


def test_a_call_whose_hedge_could_only_come_too_late_is_not_hedged() -> None:
    p95 = seen(*USUAL).p95
    assert after(seen(*USUAL), deadline=0.9 * p95) is None
    assert after(seen(*USUAL), deadline=p95 + 0.05) is None, "half of the calls take 0.1 s, and 0.05 s are left"
    assert after(seen(*USUAL), deadline=2.0) is not None


def test_hedges_leave_half_of_the_reserve_to_retries() -> None:
    budget = RetryBudget()
    paid = sum(pay(budget, NOW) for _ in range(1_000))
    assert budget.left(NOW) == KEPT_FOR_RETRIES
    assert paid == 50
    assert budget.withdraw(NOW), "a retry has what a hedge has not"


def test_hedges_are_paid_again_once_there_is_more_than_that() -> None:
    budget = RetryBudget()
    while pay(budget, NOW):
        pass
    for _ in range(11):
        budget.deposit()
    assert pay(budget, NOW)
    assert not pay(budget, NOW)


def test_a_hedge_that_is_not_paid_takes_nothing() -> None:
    budget = RetryBudget()
    while budget.left(NOW) > 10:
        budget.withdraw(NOW)
    assert not pay(budget, NOW)
    assert budget.left(NOW) == pytest.approx(10)


@pytest.mark.parametrize(
    "error",
    [
        errors.ConnectionLost("x"),
        errors.NoFreeSlot(),
        errors.Draining(),
        errors.WrongInstance(),
        errors.AgentFailed("x", retryable=True),
    ],
    ids=lambda e: e.reason,
)
def test_the_other_attempt_goes_on_after_what_it_may_do_better(error: errors.AtomeshError) -> None:
    assert goes_on(error)


@pytest.mark.parametrize(
    "error",
    [errors.InvalidInput("x"), errors.AgentFailed("x"), errors.AgentCrashed("x"), errors.PermissionDenied("x")],
    ids=lambda e: e.reason,
)
def test_what_any_endpoint_would_say_settles_the_call(error: errors.AtomeshError) -> None:
    assert not goes_on(error)
