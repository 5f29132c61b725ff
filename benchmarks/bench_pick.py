"""What a pick costs: each policy, 3 and 64 endpoints, idle and half full; zones and canaries; new sessions.

    python benchmarks/bench_pick.py [--picks 20000] [--repeats 7]

The cells take turns, medians with their range. Writes benchmarks/results/pick.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
import timeit
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from atomesh.balancer.balancer import Balancer
from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.filters import NO_FILTERS, Filters
from atomesh.balancer.policies import DEFAULT_POLICY, POLICIES
from atomesh.balancer.waiting import Call
from atomesh.core import Endpoint, Position, Reset, WatchEvent

SLOTS = 4


def fleet(size: int, busy: int, filters: Filters = NO_FILTERS) -> Balancer:
    """So many connected endpoints in two zones, a tenth of them of version 2, each with `busy` of its slots taken."""
    endpoints = [
        Endpoint(
            "a",
            f"127.0.0.1:{n + 1}",
            instance_id=f"i{n}",
            slots=SLOTS,
            zone="near" if n % 2 else "far",
            version="1.0.0" if n % 10 else "2.0.0",
        )
        for n in range(size)
    ]
    balancer = Balancer("a", rng=random.Random(0), filters=filters)
    balancer.apply(WatchEvent((Reset(tuple(endpoints)),), Position("s", 1)), 0.0)
    for address, candidate in balancer.candidates.items():
        balancer.connected(address, SubchannelState.READY, 0.0)
        candidate.in_flight = busy
    return balancer


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    policy: str
    size: int
    busy: int
    filters: Filters = NO_FILTERS
    sessions: int = 100
    note: str = ""

    @property
    def name(self) -> str:
        """What is measured, in words."""
        return f"{self.policy}{self.note and f', {self.note}'}"


def cells() -> list[Cell]:
    """Every policy; then the default behind filters, and affinity with sessions that were never seen."""
    shapes = [(size, busy) for size in (3, 64) for busy in (0, SLOTS // 2)]
    made = [Cell(policy, *shape) for policy in POLICIES for shape in shapes]
    canary = Filters("near", {">=2": 10, "<2": 90})
    made += [Cell(DEFAULT_POLICY, *shape, filters=canary, sessions=1, note="zone and canary") for shape in shapes]
    made += [Cell("rendezvous", *shape, sessions=20_000, note="new sessions") for shape in shapes]
    return made


def microseconds(cell: Cell, picks: int) -> tuple[float, float]:
    """Of one pick, and of a pick with its completion."""
    balancer = fleet(cell.size, cell.busy, cell.filters)
    calls = [Call(1e9, cell.policy, f"session {n}" if cell.sessions > 1 else "") for n in range(cell.sessions)][:picks]
    alone, now = 0.0, 1.0
    begun = time.perf_counter()
    for n in range(picks):
        call = calls[n % len(calls)]
        before = time.perf_counter()
        pick = balancer.submit(call, now)
        alone += time.perf_counter() - before
        assert pick is not None
        now += 0.001
        pick.done(now, None, 0)
    both = time.perf_counter() - begun
    begun = time.perf_counter()
    for n in range(picks):
        call = calls[n % len(calls)]
        before = time.perf_counter()
        now += 0.001
        time.perf_counter()
    loop = time.perf_counter() - begun  # what the loop and the two readings of the clock cost
    clocks = timeit.timeit(time.perf_counter, number=picks)
    return max(0.0, alone - clocks) / picks * 1e6, max(0.0, both - loop) / picks * 1e6


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(description="What a pick costs.")
    parser.add_argument("--picks", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=7)
    chosen = parser.parse_args()
    figures: dict[str, dict[str, list[float]]] = {}
    for _ in range(chosen.repeats):
        for cell in cells():
            pick, both = microseconds(cell, chosen.picks)
            found = figures.setdefault(f"{cell.name} {cell.size} {cell.busy}", {"pick_us": [], "with_done_us": []})
            found["pick_us"].append(pick)
            found["with_done_us"].append(both)
    table = Table("policy", "endpoints", "busy", "pick us", "with done us", title="a pick, median (range)")
    for cell in cells():
        found = figures[f"{cell.name} {cell.size} {cell.busy}"]
        spread = [f"{statistics.median(v):.2f} ({min(v):.2f}-{max(v):.2f})" for v in found.values()]
        table.add_row(cell.name, str(cell.size), f"{cell.busy}/{SLOTS}", *spread)
    Console().print(table)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "pick.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
