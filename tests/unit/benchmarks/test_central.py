"""The central queue, against cases worked out by hand."""

from __future__ import annotations

import random

import pytest

from benchmarks._central import Served, central
from benchmarks._score import Score, score
from benchmarks._traces import Arrival, Site


def waits(served: list[Served]) -> list[float]:
    return [round(one.wait, 9) for one in served]


def test_calls_wait_for_the_only_slot_in_the_order_of_their_arrival() -> None:
    arrivals = [Arrival(0.0, 3.0), Arrival(1.0, 1.0), Arrival(1.5, 2.0), Arrival(10.0, 1.0)]
    # 0-3 | 3-4 | 4-6 | idle | 10-11
    assert waits(central(arrivals, [Site(1)])) == [0.0, 2.0, 2.5, 0.0]


def test_the_longest_call_holds_one_slot_and_the_others_pass_it_by() -> None:
    arrivals = [Arrival(0.0, 100.0), Arrival(0.0, 1.0), Arrival(0.5, 1.0), Arrival(0.6, 1.0)]
    # the second slot serves 0-1, 1-2, 2-3
    assert waits(central(arrivals, [Site(2)])) == [0.0, 0.0, 0.5, 1.4]


def test_the_fastest_free_slot_is_chosen_and_then_the_next() -> None:
    sites = [Site(1), Site(1, ((0.0, 4.0),)), Site(1, ((0.0, 2.0),))]
    arrivals = [Arrival(0.0, 4.0), Arrival(0.1, 4.0), Arrival(0.2, 4.0), Arrival(0.3, 4.0)]
    served = central(arrivals, sites)
    # speed 4: 0-1; speed 2: 0.1-2.1; speed 1: 0.2-4.2; the last waits for the fastest, free at 1
    assert [one.site for one in served] == [1, 2, 0, 1]
    assert [one.service for one in served] == [1.0, 2.0, 4.0, 1.0]
    assert waits(served) == [0.0, 0.0, 0.0, 0.7]


def test_equal_speeds_go_to_the_earlier_site() -> None:
    served = central([Arrival(0.0, 1.0), Arrival(0.0, 1.0)], [Site(1), Site(1)])
    assert [one.site for one in served] == [0, 1]


def test_a_slot_that_comes_free_serves_the_call_that_arrives_just_then() -> None:
    assert waits(central([Arrival(0.0, 1.0), Arrival(1.0, 1.0)], [Site(1)])) == [0.0, 0.0]


def test_a_site_that_is_away_takes_nothing_and_ends_what_it_runs() -> None:
    site = Site(1, away=((1.0, 5.0),))
    served = central([Arrival(0.5, 2.0), Arrival(1.5, 1.0)], [site])
    assert [one.service for one in served] == [2.0, 1.0], "what ran when it left must end as if it had stayed"
    assert waits(served) == [0.0, 3.5], "the second call must wait until the site is back"


def test_a_call_keeps_the_speed_that_it_began_at() -> None:
    site = Site(1, ((0.0, 1.0), (1.0, 0.5)))
    served = central([Arrival(0.0, 4.0), Arrival(0.0, 4.0)], [site])
    assert [one.service for one in served] == [4.0, 8.0]
    assert waits(served) == [0.0, 4.0]


def test_a_newcomer_serves_those_who_wait_for_it() -> None:
    sites = [Site(1), Site(1, away=((0.0, 2.0),))]
    assert waits(central([Arrival(0.0, 10.0), Arrival(0.0, 1.0)], sites)) == [0.0, 2.0]


def test_calls_that_nobody_will_ever_serve_are_an_error() -> None:
    with pytest.raises(ValueError, match="1 calls were never served"):
        central([Arrival(5.0, 1.0)], [Site(1, away=((1.0, float("inf")),))])


def test_a_loaded_queue_waits_as_theory_says() -> None:
    rng = random.Random(5)
    at, arrivals = 0.0, []
    for _ in range(60_000):
        at += rng.expovariate(0.7)
        arrivals.append(Arrival(at, rng.expovariate(1.0)))
    served = central(arrivals, [Site(1)])
    mean = sum(one.wait for one in served) / len(served)
    assert mean == pytest.approx(0.7 / 0.3, rel=0.1), "M/M/1 at load 0.7 waits rho / (1 - rho) services"


def test_slowdown_is_over_the_cost_so_that_a_slow_endpoint_does_not_look_good() -> None:
    assert Served(wait=1.0, service=4.0, cost=1.0).slowdown == 5.0


def test_a_score_has_the_round_trip_in_wait_and_slowdown_alike() -> None:
    served = [Served(0.0, 1.0, 1.0), Served(2.0, 2.0, 1.0)]
    assert score(served, 0.5) == Score(mean_wait=1.5, p99_wait=2.5, mean_slowdown=3.0, p99_slowdown=4.5)
    assert score(served, 0.5).over(score(served, 0.5)) == Score(1, 1, 1, 1)


def test_p99_is_the_nearest_rank() -> None:
    served = [Served(float(number), 1.0, 1.0) for number in range(1, 201)]
    assert score(served).p99_wait == 198.0
