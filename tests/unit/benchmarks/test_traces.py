"""Traces are what they say, and the same for one seed on every machine."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest

from benchmarks import _traces as traces
from benchmarks._traces import Plan, Site, make

FIRST = (0.012345499, 0.359713091, 2)


@pytest.mark.parametrize("name", traces.COSTS)
def test_costs_have_the_mean_that_was_asked_for(name: str) -> None:
    rng = random.Random(1)
    drawn = [traces.COSTS[name](rng, 0.13) for _ in range(40_000)]
    assert statistics.fmean(drawn) == pytest.approx(0.13, rel=0.04)


def test_log_uniform_costs_span_three_decades_evenly() -> None:
    rng = random.Random(2)
    drawn = [traces.log_uniform(rng, 1.0) for _ in range(30_000)]
    least = math.log(1000) / 999
    assert least <= min(drawn) < least * 1.01
    assert max(drawn) > 990 * least
    decades = [sum(least * 10**n <= cost < least * 10 ** (n + 1) for cost in drawn) / len(drawn) for n in range(3)]
    assert decades == pytest.approx([1 / 3] * 3, abs=0.02)


def test_bimodal_costs_are_short_or_a_hundred_times_as_long() -> None:
    rng = random.Random(3)
    drawn = [traces.bimodal(rng, 1.0) for _ in range(20_000)]
    short, long = sorted(set(drawn))
    assert long / short == pytest.approx(100)
    assert drawn.count(long) / len(drawn) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("fleet", traces.FLEETS)
@pytest.mark.parametrize("load", traces.LOADS)
def test_a_trace_asks_for_its_load_of_what_the_fleet_can_do(fleet: str, load: float) -> None:
    plan = Plan("uniform", fleet, load, seconds=400, mean_cost=0.1)
    trace = make(plan)
    capacity = sum(site.capacity(plan.seconds) for site in trace.sites)
    asked = sum(one.cost for one in trace.arrivals)
    assert asked / capacity == pytest.approx(load, rel=0.05)


def test_one_seed_makes_one_trace_and_another_makes_another() -> None:
    assert make(Plan(seed=7)) == make(Plan(seed=7))
    assert make(Plan(seed=7)) != make(Plan(seed=8))


def test_a_trace_does_not_change_between_machines_and_processes() -> None:
    first = make(Plan(seed=1, seconds=10)).arrivals[0]
    assert (round(first.at, 9), round(first.cost, 9), first.client) == FIRST, (
        "published figures belong to this trace; another generator is another plan"
    )


def test_arrivals_are_in_order_within_the_time_and_from_all_clients() -> None:
    trace = make(Plan(clients=32, seconds=60))
    times = [one.at for one in trace.arrivals]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] < 60
    assert {one.client for one in trace.arrivals} == set(range(32))


def test_gaps_between_arrivals_are_exponential() -> None:
    times = traces.poisson(random.Random(4), 100.0, 200.0)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert statistics.fmean(gaps) == pytest.approx(0.01, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(0.01, rel=0.05)


def test_bursts_keep_the_average_and_have_their_factor() -> None:
    seconds, mean = 200.0, 0.1
    times = traces.poisson(random.Random(5), 100.0, seconds, traces.bursts(seconds, mean))
    period = 20 * mean / traces.BURST_SHARE
    inside = [at for at in times if at % period < traces.BURST_SHARE * period]
    assert len(times) / seconds == pytest.approx(100, rel=0.03)
    assert len(inside) / (seconds * traces.BURST_SHARE) == pytest.approx(250, rel=0.05)


def test_a_newcomer_joins_after_a_quarter_cold_and_is_warm_at_half() -> None:
    newcomer = traces.cold_start(100.0)[-1]
    assert [newcomer.takes(at) for at in (0.0, 24.9, 25.0, 99.0)] == [False, False, True, True]
    assert [newcomer.speed(at) for at in (25.0, 49.9, 50.0)] == [0.25, 0.25, 1.0]


def test_a_flapping_endpoint_is_away_half_of_the_time_ten_times() -> None:
    site = traces.flapping(100.0)[-1]
    assert [site.takes(at) for at in (0.0, 4.9, 5.0, 9.9, 10.0, 95.0, 100.0)] == [
        True, True, False, False, True, False, True,
    ]  # fmt: skip
    assert site.capacity(100.0) == pytest.approx(0.5 * 100 * site.slots)


def test_capacity_counts_speeds_by_the_time_that_they_last() -> None:
    assert Site(2, ((0.0, 1.0), (4.0, 0.5))).capacity(10.0) == 2 * (4 * 1.0 + 6 * 0.5)


def test_linkerds_scenario_is_as_published() -> None:
    trace = traces.linkerd(1)
    assert len(trace.sites) == 11
    assert len(trace.arrivals) == pytest.approx(60_000, rel=0.02)
    slowed = trace.sites[-1]
    assert [slowed.speed(at) for at in (0.0, 15.0, 44.9, 45.0)] == [1.0, 0.0835, 0.0835, 1.0]
    assert trace.mean_cost == pytest.approx(0.167, rel=0.01)
    assert trace.mean_cost / slowed.speed(20.0) == pytest.approx(2.0, rel=0.01)
