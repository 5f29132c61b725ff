"""Clients and endpoints on muxes together, under every interleaving that a seed gives; `conftest.World` says what must hold."""

from typing import Any

import pytest


@pytest.mark.parametrize("seed", range(40))
def test_calls_go_through_and_nothing_is_left_behind(world: Any, seed: int) -> None:
    w = world(seed, clients=4, endpoints=1 + seed % 3)
    w.load(80)
    w.run()
    w.check_rest()
    assert w.counts == {"ok": 80}


@pytest.mark.parametrize("seed", range(160))
def test_under_cancels_deadlines_naps_large_payloads_and_broken_streams_every_call_ends_once_and_slots_balance(
    world: Any, rough: Any, seed: int
) -> None:
    w = world(seed, clients=1 + seed % 5, endpoints=1 + seed % 3, faults=rough, window=1 + seed % 4)
    w.load(60)
    w.run()
    w.check_rest()
    assert w.counts["ok"] > 5
    assert sum(w.counts.values()) == 60
