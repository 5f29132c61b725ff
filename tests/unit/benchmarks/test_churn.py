"""What a Prometheus owes to processes that come and go: each breach is seen, and told once."""

from __future__ import annotations

import math

import pytest

from benchmarks._churn import Churn, Promises, spread

A, B = "127.0.0.1:1", "127.0.0.1:2"


@pytest.fixture
def churn() -> Churn:
    churn = Churn(Promises(found=10, dropped=5, expired=20))
    churn.began(A, 100.0)
    return churn


def test_a_life_as_promised_breaks_nothing(churn: Churn) -> None:
    churn.seen([], {}, 101.0)
    churn.seen([A], {}, 104.0)
    churn.seen([A], {A: 0}, 105.0)
    churn.seen([A], {A: 1}, 107.0)
    churn.seen([A], {A: 0}, 108.0)  # too busy to answer once: found it is
    churn.ended(A, 150.0, killed=False)
    churn.seen([A], {A: 1}, 154.0)
    churn.seen([], {}, 155.0)
    churn.seen([], {}, 999.0)
    assert churn.violations == []
    assert churn.found_after() == [7.0]
    assert churn.dropped_after(killed=False) == [5.0]
    assert churn.dropped_after(killed=True) == []


@pytest.mark.parametrize("targets", [[], [A]], ids=["no target", "never scraped"])
def test_who_is_not_found_is_told_once(churn: Churn, targets: list[str]) -> None:
    for now in (109.0, 111.0, 112.0):
        churn.seen(targets, {A: 0}, now)
    assert churn.violations == [f"{A}: not found 11.0 s after it was ready"]


def test_who_is_lost_while_it_lives_is_told_at_once(churn: Churn) -> None:
    churn.seen([A], {A: 1}, 101.0)
    churn.seen([B], {B: 1}, 103.0)
    assert churn.violations == [f"{A}: lost 2.0 s after it was found"]


@pytest.mark.parametrize(("killed", "late"), [(False, 156.0), (True, 171.0)])
def test_who_stays_a_target_for_too_long_is_told(churn: Churn, killed: bool, late: float) -> None:
    churn.seen([A], {A: 1}, 101.0)
    churn.ended(A, 150.0, killed=killed)
    churn.seen([A], {A: 0}, late - 1.5)
    assert churn.violations == []
    churn.seen([A], {A: 0}, late)
    (told,) = churn.violations
    assert told.startswith(f"{A}: still a target")
    churn.seen([], {}, late + 1)
    assert churn.dropped_after(killed=killed) == [late + 1 - 150.0], "it is late, and counted as it was"


def test_while_the_registry_is_away_nobody_is_found_or_dropped_late_but_lost_is_lost(churn: Churn) -> None:
    churn.registry_back = math.inf
    churn.seen([], {}, 500.0)
    churn.registry_back = 600.0
    churn.seen([], {}, 609.0)
    assert churn.violations == []
    churn.seen([A], {A: 1}, 610.0)
    churn.registry_back = math.inf
    churn.seen([], {}, 700.0)
    assert churn.violations == [f"{A}: lost 90.0 s after it was found"]


def test_an_address_that_comes_round_again_is_another_life(churn: Churn) -> None:
    churn.seen([A], {A: 1}, 101.0)
    churn.ended(A, 102.0, killed=True)
    churn.began(A, 103.0)
    churn.seen([A], {A: 1}, 104.0)
    churn.seen([A], {A: 1}, 500.0)
    assert churn.violations == []
    assert sorted(churn.found_after()) == [1.0, 1.0]


def test_a_spread_is_told_in_words() -> None:
    assert spread([]) == "none"
    assert spread([1.0, 3.0, 7.04]) == "3, 3.0 s in the middle, 7.0 at most"
