"""Memory: over 200,000 calls of which 5 % are cancelled, and of muxes that nobody uses.

    python -m benchmarks.bench_memory [--only cancels] [--calls 200000] [--muxes 1000] [--unary]

Resident memory of both sides, read from the operating system. Flat means: over
the last three quarters of the calls the slope (Theil and Sen: the median of all
pairs' slopes, so that one jump of the allocator does not decide) is at most
SLOPE. Writes benchmarks/results/memory.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from typing import Any

from benchmarks._harness import PeerDied, Stage, median, prepare
from benchmarks._report import machine, show, spread, table, verdict, write

SLOPE = 10.0
"""Bytes per call that pass for flat. One object that leaks with every twentieth
call is 10 to 50; at 5 the allocator's own noise fails one run in ten."""
SLOTS = 16
IDLE_TARGET = 60_000.0
"""Bytes that an idle mux may cost an endpoint."""
WARM = 50
"""Muxes that are there before the first reading: the first ones pay for code and pools."""


def cancels(chosen: argparse.Namespace) -> dict[str, Any]:
    """One run; the readings, and the slope of each side."""
    with Stage() as stage:
        registry = stage.start("_ends", "registry").line()
        endpoint = stage.start("_work", "agent", registry, json.dumps({"slots": SLOTS}))
        endpoint.line()
        settings = {
            "calls": chosen.calls, "cancelled": chosen.cancelled, "seed": 1, "mux": not chosen.unary,
            "servers": [endpoint.pid],
        }  # fmt: skip
        client = stage.start("_memory_ends", "cancels", registry, json.dumps(settings))
        said: dict[str, Any] = json.loads(client.line(within=600))
    late = [reading for reading in said["readings"] if reading[0] > chosen.calls / 4]
    for side, column in (("client", 1), ("server", 2)):
        said[f"{side}_slope"] = slope([(reading[0], reading[column]) for reading in late])
        said[f"{side}_mib"] = [late[0][column] / 2**20, late[-1][column] / 2**20]
    return said


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median slope of all pairs of points (Theil 1950, Sen 1968)."""
    return median([(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(points, 2) if b[0] != a[0]])


def idle(chosen: argparse.Namespace, *, connections: bool) -> dict[str, float]:
    """Bytes per idle mux at both sides."""
    with Stage() as stage:
        registry = stage.start("_ends", "registry").line()
        endpoint = stage.start("_ends", "agent", registry, "asyncio")
        address = endpoint.line()
        settings = {
            "muxes": chosen.muxes, "warm": WARM, "settle": 1.0, "connections": connections, "servers": [endpoint.pid],
        }  # fmt: skip
        client = stage.start("_memory_ends", "idle", address, json.dumps(settings))
        found: dict[str, float] = json.loads(client.line(within=180))
        return found


def show_cancels(runs: Sequence[dict[str, Any]], chosen: argparse.Namespace) -> None:
    """Prints what the calls cost."""
    made = table(
        f"{chosen.calls:,} calls, {median([run['cancelled'] for run in runs]):,.0f} of them cancelled",
        "what", "MiB after a quarter", "MiB at the end", "bytes per call", "verdict",
    )  # fmt: skip
    for side in ("client", "server"):
        slopes = [run[f"{side}_slope"] for run in runs]
        first, last = (spread([run[f"{side}_mib"][end] for run in runs], 1) for end in (0, 1))
        made.add_row(side, first, last, spread(slopes, 1), verdict("", slopes, SLOPE, at_most=True)[-1])
    show(made)


def show_idle(runs: dict[str, list[dict[str, float]]], chosen: argparse.Namespace) -> None:
    """Prints what idle muxes cost."""
    made = table(f"an idle mux, of {chosen.muxes:,}", "what", "client kB", "server kB", "verdict")
    for name, found in runs.items():
        client, server = ([run[side] / 1e3 for run in found] for side in ("client", "server"))
        made.add_row(
            name, spread(client, 1), spread(server, 1), verdict("", server, IDLE_TARGET / 1e3, at_most=True)[-1]
        )
    show(made)


def main() -> None:
    """Measures, prints tables, writes JSON."""
    parser = argparse.ArgumentParser(description="Memory of calls, and of idle muxes.")
    parser.add_argument("--only", choices=["cancels", "idle"], nargs="+", default=["cancels", "idle"])
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--cancelled", type=float, default=0.05, help="share of calls that are cancelled")
    parser.add_argument("--muxes", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--unary", action="store_true", help="the calls over unary, no muxes")
    chosen = parser.parse_args()
    prepare()
    report: dict[str, Any] = {"machine": machine(), "settings": vars(chosen)}
    if "cancels" in chosen.only:
        report["cancels"] = [cancels(chosen) for _ in range(chosen.repeats)]
        show_cancels(report["cancels"], chosen)
    if "idle" in chosen.only:
        ways = {"with a connection of its own": True, "on a shared connection": False}
        report["idle"] = {
            name: [idle(chosen, connections=own) for _ in range(chosen.repeats)] for name, own in ways.items()
        }
        show_idle(report["idle"], chosen)
    write("memory", report)


if __name__ == "__main__":
    try:
        main()
    except PeerDied as error:
        raise SystemExit(f"error: {error}") from None
