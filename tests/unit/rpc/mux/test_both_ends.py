"""Clients and endpoints on muxes together, under every interleaving that a seed gives.

`conftest.World` says what must hold after every event, and when all is over.
"""

import statistics
from typing import Any

import pytest

from atomesh.rpc.mux.slots import GRANT_SECONDS


@pytest.mark.parametrize("seed", range(40))
def test_calls_go_through_and_nothing_is_left_behind(world: Any, seed: int) -> None:
    w = world(seed, clients=4, endpoints=1 + seed % 3)
    w.load(80)
    w.run()
    w.check_rest()
    assert w.counts == {"ok": 80}


@pytest.mark.parametrize("seed", range(200))
def test_under_cancels_deadlines_naps_large_payloads_and_broken_streams_every_call_ends_once_and_slots_balance(
    world: Any, rough: Any, seed: int
) -> None:
    w = world(seed, clients=1 + seed % 5, endpoints=1 + seed % 3, faults=rough, window=1 + seed % 4)
    w.load(60)
    w.run()
    w.check_rest()
    assert w.counts["ok"] > 5
    assert sum(w.counts.values()) == 60


@pytest.mark.parametrize("seed", range(10))
def test_on_a_slow_line_frames_that_cross_leave_nothing_behind(world: Any, rough: Any, seed: int) -> None:
    w = world(seed, clients=3, endpoints=3, faults=rough, delay=0.1, window=32)
    w.load(60)
    w.run()
    w.check_rest()


def test_one_seed_is_one_world_and_another_is_another(world: Any, rough: Any) -> None:
    def ends(seed: int) -> list[tuple[str, float]]:
        w = world(seed, clients=3, endpoints=2, faults=rough)
        w.load(60)
        w.run()
        return [(job.end, job.ended_at) for job in w.jobs]

    assert ends(3) == ends(3)
    assert ends(3) != ends(4)


@pytest.mark.parametrize("seed", range(5))
def test_a_client_that_hangs_with_demands_costs_others_250_ms_per_grant_and_then_nothing(world: Any, seed: int) -> None:
    w = world(seed, clients=2, slots=1)
    hung, other = w.clients
    for _ in range(6):
        w.at(0.0, lambda: w.arrive(0.01, hung))
    w.at(0.05, lambda: w.nap(hung, 30.0))
    for n in range(100):
        w.at(0.05 + n * 0.05, lambda: w.arrive(0.01, other))
    w.run()
    w.check_rest()
    waits = [job.ended_at - job.since - job.seconds for job in w.jobs if job.client is other]
    assert max(waits) < GRANT_SECONDS + 0.2, "one grant lapses, and then nothing is granted to who hangs"
    assert statistics.median(waits) < 0.05, "and then others go on as if it were not there"
    assert w.counts == {"ok": 106}, "who wakes up again gets its turn"


@pytest.mark.parametrize("seed", range(5))
def test_a_client_that_floods_holds_up_others_by_its_places_and_no_more(world: Any, seed: int) -> None:
    w = world(seed, clients=2, slots=2)
    flood, light = w.clients
    for _ in range(300):
        w.at(0.0, lambda: w.arrive(0.01, flood))
    for n in range(20):
        w.at(0.1 + n * 0.05, lambda: w.arrive(0.01, light))
    w.run()
    w.check_rest()
    waits = [job.ended_at - job.since - job.seconds for job in w.jobs if job.client is light]
    assert max(waits) < 0.25, "not behind 300 calls (1.5 s) but behind the few places that a mux may have"


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_reader_of_large_outputs_holds_up_nobody(world: Any, faults: Any, seed: int) -> None:
    w = world(seed, clients=2, slots=2, faults=faults(large=0.5), window=1)
    slow, other = w.clients
    for n in range(30):
        w.at(n * 0.02, lambda: w.arrive(0.01, slow))
        w.at(1.0 + n * 0.05, lambda: w.arrive(0.01, other))
    w.at(0.3, lambda: w.nap(slow, 4.0))
    w.run()
    w.check_rest()
    waits = [job.ended_at - job.since - job.seconds for job in w.jobs if job.client is other]
    assert max(waits) < GRANT_SECONDS + 0.2
    assert w.counts == {"ok": 60}
