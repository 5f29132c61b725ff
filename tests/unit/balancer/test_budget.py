"""The retry budget bounds amplification over any time."""

import random

import pytest

from atomesh.balancer.budget import CAP, FLOOR_PER_SECOND, RATIO, RESERVE_SECONDS, RetryBudget


def drain(budget: RetryBudget, now: float) -> int:
    taken = 0
    while budget.withdraw(now):
        taken += 1
    return taken


def test_a_quiet_client_may_still_retry() -> None:
    assert drain(RetryBudget(), 0.0) == FLOOR_PER_SECOND * RESERVE_SECONDS


def test_calls_earn_a_tenth_of_a_retry_each() -> None:
    budget = RetryBudget(floor=0.0)
    for _ in range(100):
        budget.deposit()
    assert drain(budget, 0.0) in (9, 10), "100 calls earn ten retries, give or take a float's last bit"


def test_the_floor_refills_with_time_and_no_further_than_its_reserve() -> None:
    budget = RetryBudget()
    drain(budget, 0.0)
    assert drain(budget, 0.5) == FLOOR_PER_SECOND * 0.5
    assert drain(budget, 1e6) == FLOOR_PER_SECOND * RESERVE_SECONDS


def test_savings_have_a_cap() -> None:
    budget = RetryBudget(floor=0.0)
    for _ in range(1_000_000):
        budget.deposit()
    assert budget.left(0.0) == pytest.approx(CAP, abs=1)


@pytest.mark.parametrize("seed", range(20))
def test_retries_never_exceed_the_stated_bound(seed: int) -> None:
    rng, budget, now, calls, retries = random.Random(seed), RetryBudget(), 0.0, 0, 0
    for _ in range(5_000):
        now += rng.expovariate(50)
        if rng.random() < 0.5:
            budget.deposit()
            calls += 1
        elif budget.withdraw(now):
            retries += 1
        bound = RATIO * calls + FLOOR_PER_SECOND * (RESERVE_SECONDS + now)
        assert retries <= bound + 1e-6, f"{retries} retries for {calls} calls in {now:.1f} s"
