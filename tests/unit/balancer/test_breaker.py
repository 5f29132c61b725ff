"""Thresholds of an agent's own: what they change, and what they refuse to be."""

import random
from typing import Any

import pytest

from atomesh.balancer.breaker import DEFAULT_BREAKER, Breaker
from atomesh.balancer.ejection import Ejection, Outcome
from atomesh.core.errors import InvalidArgument

GOOD, CUT, BAD = Outcome.SUCCESS, Outcome.TRANSPORT_FAILURE, Outcome.AGENT_FAILURE


def after(breaker: Breaker, *outcomes: Outcome) -> bool:
    """Whether the last of the outcomes calls for an ejection, of an endpoint without siblings."""
    ejection = Ejection(breaker)
    for outcome in outcomes:
        ejection.record(outcome, 0.0)
    return ejection.suspicious(outcomes[-1], [ejection])


def test_the_row_of_lost_connections_is_as_long_as_it_is_set() -> None:
    assert after(Breaker(transport_failures=2), CUT, CUT)
    assert not after(Breaker(transport_failures=3), CUT, CUT)


def test_an_agents_failures_in_a_row_eject_only_where_they_are_set_to() -> None:
    assert not after(DEFAULT_BREAKER, *[BAD] * 100), "by itself an agent's failure is the input's fault"
    assert after(Breaker(agent_failures=3), BAD, BAD, BAD)
    assert not after(Breaker(agent_failures=3), BAD, BAD, GOOD, BAD), "success ends the row"
    assert after(Breaker(agent_failures=3), BAD, BAD, CUT, BAD), "a lost connection says nothing of the agent"


def test_with_a_sibling_ratio_of_1_no_sibling_is_needed_to_stand_out_from() -> None:
    lone = Breaker(sibling_ratio=1, min_volume=4)
    assert after(lone, GOOD, GOOD, BAD, BAD)
    assert not after(lone, GOOD, GOOD, GOOD, BAD)
    assert not after(Breaker(min_volume=4), GOOD, GOOD, BAD, BAD)


def test_ejections_last_as_long_as_they_are_set_to() -> None:
    ejection, now, seen = Ejection(Breaker(base_seconds=1, max_seconds=3)), 0.0, []
    for _ in range(4):
        seen.append(ejection.eject(now))
        now += seen[-1]
        ejection.tick(now)
    assert seen == [1, 2, 3, 3]


def test_only_the_probe_that_goes_well_is_told_of() -> None:
    ejection = Ejection()
    assert not ejection.record(GOOD, 0.0)
    ejection.eject(0.0)
    ejection.tick(1e6)
    assert not ejection.record(CUT, 1e6)
    assert ejection.record(GOOD, 1e6)
    assert not ejection.record(GOOD, 1e6)


def test_as_much_of_a_fleet_may_be_ejected_as_is_set() -> None:
    rng = random.Random(1)
    for _ in range(1000):
        fleet, hundredths = rng.randint(1, 200), rng.randint(1, 100)
        breaker = Breaker(max_ejected=hundredths / 100)
        most = sum(breaker.may_eject(already, fleet) for already in range(fleet))
        assert most == max(1, fleet * hundredths // 100), "exact, whatever floats make of the share"


@pytest.mark.parametrize(
    "settings",
    [
        {"transport_failures": 0},
        {"transport_failures": 2.5},
        {"transport_failures": True},
        {"agent_failures": 0},
        {"agent_failures": -1},
        {"min_volume": 0},
        {"window_seconds": 0},
        {"window_seconds": float("nan")},
        {"window_seconds": float("inf")},
        {"base_seconds": -1},
        {"base_seconds": 20, "max_seconds": 10},
        {"transport_ratio": 0},
        {"agent_ratio": 1.01},
        {"sibling_ratio": -0.1},
        {"max_ejected": 0},
        {"max_ejected": float("nan")},
        {"max_ejected": "half"},
    ],
    ids=str,
)
def test_thresholds_that_mean_nothing_are_refused_in_one_line(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(reversed(settings))) as caught:
        Breaker(**settings)
    assert "\n" not in caught.value.message
