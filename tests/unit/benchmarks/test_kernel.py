"""The world of events that policies are judged in: time, order, and figures that theory knows."""

from __future__ import annotations

import math
import random

import pytest

from atomesh.balancer import POLICIES
from benchmarks._central import Served, central
from benchmarks._kernel import Kernel, Network, Wire
from benchmarks._kernel_run import START, World
from benchmarks._score import score
from benchmarks._traces import Arrival, Plan, Site, Trace, make, poisson

SLOTS = 4
MEAN = 0.1


def run(
    trace: Trace, policy: str = "late_binding", network: Network | None = None, seed: int = 1
) -> tuple[Served, ...]:
    outcome = World(trace, policy, network or Network(), seed).run()
    assert outcome.over_slots == 0, "no endpoint may run more than its slots"
    return outcome.served


def markov(load: float, slots: int, calls: int, clients: int = 1) -> Trace:
    """Poisson arrivals and exponential services at one endpoint."""
    rng = random.Random(7)
    rate = load * slots / MEAN
    times = poisson(rng, rate, calls / rate)
    return Trace(tuple(Arrival(at, rng.expovariate(1 / MEAN), rng.randrange(clients)) for at in times), (Site(slots),))


def erlang_wait(load: float, slots: int) -> float:
    """Mean wait of M/M/c (Erlang C)."""
    offered = load * slots
    last = offered**slots / math.factorial(slots) / (1 - load)
    waits = last / (sum(offered**n / math.factorial(n) for n in range(slots)) + last)
    return waits * MEAN / (slots * (1 - load))


def test_events_happen_in_the_order_of_their_times_and_then_of_their_asking() -> None:
    kernel = Kernel()
    seen: list[str] = []
    for name, at in (("late", 2.0), ("first", 1.0), ("second", 1.0)):
        kernel.at(at, seen.append, name)
    kernel.run(lambda: True)
    assert seen == ["first", "second", "late"]
    assert kernel.now == 2.0


def test_nothing_happens_in_the_past() -> None:
    kernel = Kernel()
    seen: list[float] = []
    kernel.at(3.0, lambda: kernel.at(1.0, lambda: seen.append(kernel.now)))
    kernel.run(lambda: True)
    assert seen == [3.0], "what is asked for too late happens now"


def test_frames_arrive_in_order_however_much_their_latency_varies() -> None:
    kernel = Kernel()
    seen: list[tuple[int, float]] = []
    wire: Wire[int] = Wire(kernel, Network(0.001, 0.01), random.Random(3), lambda n: seen.append((n, kernel.now)))
    for number in range(50):
        kernel.at(number * 0.001, wire.send, number)
    kernel.run(lambda: True)
    assert [number for number, _ in seen] == list(range(50)), "a stream never reorders"
    assert all(at >= number * 0.001 + 0.001 for number, at in seen), "nothing is faster than the latency"
    assert wire.frames == 50


@pytest.mark.parametrize("policy", ["late_binding", "p2c"])
def test_one_client_at_one_endpoint_waits_as_theory_says(policy: str) -> None:
    trace = markov(0.8, SLOTS, 20_000)
    waits = [one.wait for one in run(trace, policy, Network(0.0))]
    assert sum(waits) / len(waits) == pytest.approx(erlang_wait(0.8, SLOTS), rel=0.1), "it is M/M/4"


def test_an_idle_mesh_costs_a_call_one_round_trip() -> None:
    trace = Trace((Arrival(0.0, 0.5), Arrival(10.0, 0.5)), (Site(1),))
    for policy in ("late_binding", "p2c"):
        assert [one.wait for one in run(trace, policy, Network(0.003))] == pytest.approx([0.006, 0.006])


@pytest.mark.parametrize("policy", list(POLICIES))
@pytest.mark.parametrize("fleet", ["heterogeneous", "cold_start", "flapping", "burst"])
def test_every_call_ends_once_whatever_comes_and_goes(policy: str, fleet: str) -> None:
    trace = make(Plan("bimodal", fleet, 0.75, 4, seconds=3.0))
    served = run(trace, policy)  # a call that is lost, run twice or answered twice raises
    assert len(served) == len(trace.arrivals)
    assert [one.cost for one in served] == [one.cost for one in trace.arrivals]
    assert min(one.wait for one in served) >= Network().round_trip * 0.999, "no answer without a round trip"


def test_an_endpoint_that_is_away_runs_nothing_new() -> None:
    away = Site(2, away=((0.0, 1.0), (2.0, 3.0)))
    arrivals = tuple(Arrival(number * 0.01, 0.02) for number in range(400))
    world = World(Trace(arrivals, (Site(2), away)), "late_binding", Network(), 1)
    begun: list[float] = []
    ran_on = world.sites[1]._duration

    def noted(call: int, now: float) -> float:
        begun.append(now - START)
        return float(ran_on(call, now))

    world.sites[1]._duration = noted
    world.run()
    assert begun, "it is used while it is there"
    inside = [at for at in begun if 0.0 <= at < 1.0 or 2.0 <= at < 3.0]
    assert not inside, "what is away takes nothing new"


def test_one_seed_is_one_run_and_another_seed_is_another() -> None:
    trace = make(Plan("log_uniform", "heterogeneous", 0.75, 8, seconds=3.0))
    for policy in ("late_binding", "p2c"):
        network = Network(0.0002, 0.0001)
        first = run(trace, policy, network)
        assert first == run(trace, policy, network), "same seed, same run, to the last bit"
        assert first != run(trace, policy, network, seed=2), "another seed draws differently"


def test_a_call_is_bound_late_where_it_would_have_waited_behind_another() -> None:
    # Two long calls fill one slot each; two short ones then want the slots of the endpoint that is free first.
    arrivals = (Arrival(0.0, 5.0), Arrival(0.0, 1.0), Arrival(0.1, 0.1), Arrival(0.1, 0.1))
    trace = Trace(arrivals, (Site(1), Site(1)))
    late = run(trace)
    assert [one.wait for one in late[2:]] == pytest.approx([0.9, 1.0], abs=0.01), (
        "both go to the first slot that is free"
    )
    bound = run(trace, "round_robin")
    assert max(one.wait for one in bound) > 4, "bound on arrival one of them waits behind the long call"


def test_a_policy_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no policy 'best'"):
        World(Trace((Arrival(0.0, 1.0),), (Site(1),)), "best", Network(), 1)


def test_late_binding_is_near_the_central_queue_and_two_choices_are_not() -> None:
    trace = make(Plan("log_uniform", "homogeneous", 0.75, 8, seconds=20.0))
    reference = score(central(trace.arrivals, trace.sites), Network().round_trip)
    late, two = (score(run(trace, policy)).over(reference) for policy in ("late_binding", "p2c"))
    assert late.mean_wait < 1.3, "late binding waits like one queue"
    assert two.mean_wait > 2, "two choices leave slots idle while calls wait elsewhere"
