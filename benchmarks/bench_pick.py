"""What a pick costs: each policy, 3 and 64 endpoints, idle and half full.

    python benchmarks/bench_pick.py [--picks 20000] [--repeats 7]

The cells take turns, medians with their range. Writes benchmarks/results/pick.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from atomesh.balancer.balancer import Balancer
from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.policies import POLICIES
from atomesh.balancer.waiting import Call
from atomesh.core import Endpoint, Position, Reset, WatchEvent

SLOTS = 4


def fleet(size: int, busy: int) -> Balancer:
    """So many connected endpoints, each with `busy` of its slots taken."""
    endpoints = [Endpoint("a", f"127.0.0.1:{n + 1}", instance_id=f"i{n}", slots=SLOTS) for n in range(size)]
    balancer = Balancer("a", rng=random.Random(0))
    balancer.apply(WatchEvent((Reset(tuple(endpoints)),), Position("s", 1)), 0.0)
    for address, candidate in balancer.candidates.items():
        balancer.connected(address, SubchannelState.READY, 0.0)
        candidate.in_flight = busy
    return balancer


def microseconds(balancer: Balancer, policy: str, picks: int) -> tuple[float, float]:
    """Of one pick, and of a pick with its completion."""
    call = Call(1e9, policy)
    alone = 0.0
    begun = time.perf_counter()
    for _ in range(picks):
        before = time.perf_counter()
        pick = balancer.submit(call, 1.0)
        alone += time.perf_counter() - before
        assert pick is not None
        pick.done(1.0, None, 0)
    both = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(picks):
        before = time.perf_counter()
        time.perf_counter()
    clocks = time.perf_counter() - begun  # what the two readings of the clock cost
    return max(0.0, alone - clocks / 2) / picks * 1e6, max(0.0, both - clocks) / picks * 1e6


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(description="What a pick costs.")
    parser.add_argument("--picks", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=7)
    chosen = parser.parse_args()
    cells = [(policy, size, busy) for policy in POLICIES for size in (3, 64) for busy in (0, SLOTS // 2)]
    figures: dict[str, dict[str, list[float]]] = {}
    for _ in range(chosen.repeats):
        for policy, size, busy in cells:
            pick, both = microseconds(fleet(size, busy), policy, chosen.picks)
            found = figures.setdefault(f"{policy} {size} {busy}", {"pick_us": [], "with_done_us": []})
            found["pick_us"].append(pick)
            found["with_done_us"].append(both)
    table = Table("policy", "endpoints", "busy", "pick us", "with done us", title="a pick, median (range)")
    for policy, size, busy in cells:
        found = figures[f"{policy} {size} {busy}"]
        spread = [f"{statistics.median(v):.2f} ({min(v):.2f}-{max(v):.2f})" for v in found.values()]
        table.add_row(policy, str(size), f"{busy}/{SLOTS}", *spread)
    Console().print(table)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "pick.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
