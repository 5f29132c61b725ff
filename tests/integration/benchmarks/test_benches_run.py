"""Every way of measuring works, in its shortest form; what it measures is for a quiet machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import (
    _report,
    bench_batch,
    bench_memory,
    bench_mux,
    bench_overload,
    bench_pipelines,
    bench_registry,
    bench_tracing,
)
from benchmarks._harness import prepare
from benchmarks._real import run_bare, run_mesh
from benchmarks._traces import Plan, make


@pytest.fixture(scope="module", autouse=True)
def contract() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend("")  # puts back what prepare adds
        prepare()
        yield


@pytest.mark.parametrize("world", ["raw", "unary", "mux"])
def test_every_world_answers_and_is_measured_on_both_sides(world: str) -> None:
    chosen = argparse.Namespace(seconds=0.3, loop="asyncio")
    cell = bench_mux.Cell("beside", concurrency=2, endpoints=2)
    found = bench_mux.measure(world, cell, chosen)
    assert found["rate"] > 0
    assert found["rate_2"] > 0, "large calls must be made beside the small ones"
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["cpu_us"] == pytest.approx(found["client_cpu_us"] + found["server_cpu_us"])


def test_a_trace_comes_back_whole_over_the_mesh_and_over_plain_grpc() -> None:
    trace = make(Plan("bimodal", "heterogeneous", 0.5, clients=3, seconds=1.0, mean_cost=0.02))
    for run in (run_mesh(trace, "late_binding", mux=True), run_bare(trace, python=sys.executable)):
        assert (len(run.served), run.failed) == (len(trace.arrivals), 0), run.reason
        assert all(most <= site.slots for most, site in zip(run.most_at_once, trace.sites, strict=True))


def test_an_overload_is_offered_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_overload, "AFTER", 0.5)
    chosen = argparse.Namespace(seconds=1.0, unary=False)
    found = bench_overload.measure(bench_overload.Cell("slots", 4), chosen, 1)
    assert found["offered"] == pytest.approx(4 * 160, rel=0.25)
    assert found["over_slots"] == 0, "an endpoint never runs more than its slots"
    assert found["retries"] <= found["budget"]


def test_memory_is_read_on_both_sides() -> None:
    chosen = argparse.Namespace(calls=2_000, cancelled=0.05, unary=False, muxes=20)
    found = bench_memory.cancels(chosen)
    assert 20 < found["cancelled"] < 300, "about every twentieth call must be cancelled"
    assert len(found["readings"]) == 40
    assert set(bench_memory.idle(chosen, connections=True)) == {"client", "server"}


@pytest.mark.parametrize("world", ["batch", "16"])
def test_a_fleet_of_slots_is_filled_and_read(world: str) -> None:
    found = bench_batch.measure(world, "short", seconds=0.5)
    assert 0 < found["fed"] <= 1
    assert 0 < found["all"] <= 1, "no more is busy than there are slots"
    assert found["wait_ms"] > 0


def test_a_chain_is_measured_by_hand_and_as_a_pipeline() -> None:
    spent = bench_pipelines.measure(2, argparse.Namespace(chains=20, slices=2, size=10))
    assert {world: len(slices) for world, slices in spent.items()} == {"direct": 2, "run": 2, "kept": 2}
    assert all(took > 0 for slices in spent.values() for took in slices)


@pytest.mark.parametrize("world", bench_tracing.WORLDS)
def test_tracing_is_measured_off_and_on(world: str) -> None:
    found = bench_tracing.measure(world, bench_tracing.Cell("mux", 4), 0.3)
    assert found["client_cpu_us"] > 0
    assert found["server_cpu_us"] > 0


def _registry(group: str, patch: pytest.MonkeyPatch, results: Path) -> dict[str, Any]:
    patch.setattr(_report, "RESULTS", results)
    report = bench_registry.run(bench_registry.arguments(["--quick", "--only", group]))
    assert (results / "registry.json").exists(), "what was measured must be kept"
    return report


@pytest.mark.parametrize(("group", "worlds"), [("register", {"raw", "memory", "sqlite"}), ("renew", {"raw", "memory"})])
def test_a_registrys_calls_are_measured_beside_the_ceiling(
    group: str, worlds: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for cell in _registry(group, monkeypatch, tmp_path)["cells"]:
        assert set(cell["worlds"]) == worlds
        for figures in cell["worlds"].values():
            assert figures["rate"][0] > 0
            assert figures["server_cpu_us"][0] > 0
    if group == "register":
        assert cell["worlds"]["sqlite"]["operations_per_commit"][0] >= 1, "a commit has an operation at least"


def test_a_change_is_timed_to_the_first_and_the_last_of_its_watchers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared, own = _registry("watch", monkeypatch, tmp_path)["cells"]
    assert (set(shared["worlds"]), set(own["worlds"])) == ({"raw", "equal", "distinct"}, {"raw", "equal"})
    for figures in (*shared["worlds"].values(), *own["worlds"].values()):
        [first], [last] = figures["first_ms"], figures["last_ms"]
        assert len(first) == len(last) == bench_registry.QUICK["changes"]
        assert all(0 < early <= late for early, late in zip(first, last, strict=True))


def test_a_watchers_memory_is_read_on_both_sides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shared, own = _registry("memory", monkeypatch, tmp_path)["cells"]
    assert (shared["own"], own["own"]) == (False, True)
    assert all(set(figures) == {"server", "client"} for cell in (shared, own) for figures in cell["worlds"].values())


def test_a_registry_is_measured_at_every_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    grown = _registry("growth", monkeypatch, tmp_path)["growth"]
    for shape, kinds in (("many", 5), ("one", 2)):
        assert set(grown[shape]) == {"1000", "2000"}
        assert all(len(figures) == kinds for figures in grown[shape].values())
    [start] = grown["start"]
    full = start["2000"]
    assert 0 < full["serves"] <= full["answers"] <= full["finds"]
    assert full["bytes"] > start["0"]["bytes"], "endpoints take memory"
