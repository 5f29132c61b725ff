"""The same echo and the same trace through the mesh, plain grpc.aio and Ray Serve.

    python -m benchmarks.bench_peers [--worlds mesh grpc ray] [--concurrency 1 32 128]
                                     [--seconds 1.5] [--trace-seconds 15] [--repeats 3]

Each peer runs in an environment that this makes below .cache/bench; one that
cannot be made is told in one line, and left out. `grpc`: generated code, gRPC's
own round robin, a semaphore per server for slots. `ray`: deployment handles.
The trace: log-uniform costs over 1000x, 100 ms on average, at 4 endpoints of 4
slots, load 0.75. Waits are without the service and with the way there and back.
Writes benchmarks/results/peers.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks._central import central
from benchmarks._harness import ROOT, Figures, PeerDied, Stage, interleave, parse, prepare, ratios
from benchmarks._real import Run, gather, run_bare, run_mesh
from benchmarks._report import machine, show, spread, table, write
from benchmarks._score import score
from benchmarks._traces import Plan, Trace, make

NAMES = {"mesh": "mesh, mux", "grpc": "grpc.aio, round robin", "ray": "Ray Serve"}
SIZE = 300


@dataclass(frozen=True)
class Cell:
    """The echo at one concurrency, or the trace: 0."""

    concurrency: int = 0

    def __str__(self) -> str:
        """For tables."""
        return f"echo, {self.concurrency} at once" if self.concurrency else "trace"


def environment(name: str) -> str | None:
    """The Python that has this peer; None where it cannot be had, which is told."""
    env = ROOT / ".cache" / "bench" / name
    command = [sys.executable, "tools/env.py", "--bare", str(env), f"bench-{name}"]
    print(f"{name}: looking after {env.relative_to(ROOT)}", file=sys.stderr)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or [done.stderr.strip()[-200:]]
        print(f"without {NAMES[name]}: {said[0]}")
        return None
    return str(env / "bin" / "python")


def echo(world: str, cell: Cell, chosen: argparse.Namespace) -> Mapping[str, float]:
    """Closed loops at one endpoint."""
    settings: dict[str, Any] = {"loops": [(SIZE, cell.concurrency)], "seconds": chosen.seconds, "loop": "asyncio"}
    python = chosen.pythons[world]
    with Stage() as stage:
        if world == "ray":
            driver = stage.start("_ray_ends", "echo", json.dumps(settings), python=python)
            found = parse(driver.line(within=120))
            driver.line()  # Ray has ended
            return found
        if world == "mesh":
            target = stage.start("_ends", "registry").line()
            server = stage.start("_ends", "agent", target, "asyncio")
            server.line()
        else:
            server = stage.start("_ends", "bare", "asyncio", python=python)
            target = server.line()
        settings["servers"] = [server.pid]
        way = "mux" if world == "mesh" else "raw"
        return parse(stage.start("_ends", "client", way, target, json.dumps(settings), python=python).line())


def run_ray(trace: Trace, python: str) -> Run:
    """A trace through Ray Serve."""
    with Stage() as stage, tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([(one.at, one.cost, one.client) for one in trace.arrivals], file)
        file.flush()
        site = trace.sites[0]
        settings = {"trace": file.name, "share": (0, 1), "replicas": len(trace.sites), "slots": site.slots}
        driver = stage.start("_ray_ends", "trace", json.dumps(settings), python=python)
        trip = json.loads(driver.line(within=120))["round_trip"]
        run = gather(trace, [driver], [], trip)
        driver.line()  # Ray has ended
        return run


def through(world: str, chosen: argparse.Namespace, seed: int) -> Mapping[str, float]:
    """The trace's waits, in this world and in the central queue."""
    trace = make(Plan(seconds=chosen.trace_seconds, seed=seed))
    if world == "mesh":
        run = run_mesh(trace, "late_binding", mux=True)
    else:
        run = (run_ray if world == "ray" else run_bare)(trace, chosen.pythons[world])
    own, best = score(run.served), score(central(trace.arrivals, trace.sites), run.round_trip)
    return {
        "round_trip_ms": run.round_trip * 1e3,
        "mean_wait_ms": own.mean_wait * 1e3,
        "p99_wait_ms": own.p99_wait * 1e3,
        "p99_slowdown": own.p99_slowdown,
        "p99_wait_over_central": own.p99_wait / best.p99_wait,
        "p99_slowdown_over_central": own.p99_slowdown / best.p99_slowdown,
        "failed": float(run.failed),
    }


def report(found: Mapping[Cell, Mapping[str, Figures]]) -> None:
    """Prints a table for the echo and one for the trace."""
    rates = table("the same echo, 300 B; median (range)", "cell", "world", "calls/s", "mesh over it", "p50 ms",
                  "p99 ms", "CPU us/call")  # fmt: skip
    waits = table("the same trace: 4 endpoints of 4 slots, log-uniform costs, load 0.75", "world", "round trip ms",
                  "mean wait ms", "p99 wait ms", "over central", "p99 slowdown", "over central", "failed")  # fmt: skip
    for cell, worlds in found.items():
        for number, (world, seen) in enumerate(worlds.items()):
            if cell.concurrency:
                over = "" if world == "mesh" else spread(ratios(worlds, "mesh", world, "rate"), 1)
                last = [spread(seen.get(name, []), 2) for name in ("p50_ms", "p99_ms")]
                cells = [spread(seen.get("rate", [])), over, *last, spread(seen.get("cpu_us", []))]
                rates.add_row(str(cell) if number == 0 else "", NAMES[world], *cells,
                              end_section=number == len(worlds) - 1)  # fmt: skip
            else:
                digits = {"round_trip_ms": 2, "mean_wait_ms": 1, "p99_wait_ms": 1, "p99_wait_over_central": 2,
                          "p99_slowdown": 1, "p99_slowdown_over_central": 2, "failed": 0}  # fmt: skip
                waits.add_row(NAMES[world], *(spread(seen.get(name, []), of) for name, of in digits.items()))
    show(*(one for one in (rates, waits) if one.row_count))


def main() -> None:
    """Makes environments, measures, prints tables, writes JSON."""
    parser = argparse.ArgumentParser(description="The same echo and the same trace through the mesh and its peers.")
    parser.add_argument("--worlds", choices=list(NAMES), nargs="+", default=list(NAMES))
    parser.add_argument("--only", choices=["echo", "trace"], nargs="+", default=["echo", "trace"])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement of the echo")
    parser.add_argument("--trace-seconds", type=float, default=15.0)
    parser.add_argument("--repeats", type=int, default=3, help="each with a trace of its own")
    chosen = parser.parse_args()
    prepare()
    made = {world: sys.executable if world == "mesh" else environment(world) for world in chosen.worlds}
    chosen.pythons = {world: python for world, python in made.items() if python}
    cells = [Cell(concurrency) for concurrency in chosen.concurrency] if "echo" in chosen.only else []
    cells += [Cell()] if "trace" in chosen.only else []
    done: list[tuple[str, Cell]] = []

    def measure(world: str, cell: Cell) -> Mapping[str, float]:
        done.append((world, cell))
        if cell.concurrency:
            return echo(world, cell, chosen)
        return through(world, chosen, seed=done.count((world, cell)))

    found = interleave(cells, lambda _: list(chosen.pythons), chosen.repeats, measure)
    report(found)
    listed = [{"cell": str(cell), "worlds": worlds} for cell, worlds in found.items()]
    settings = {name: value for name, value in vars(chosen).items() if name != "pythons"}
    write("peers", {"machine": machine(), "settings": settings, "cells": listed})


if __name__ == "__main__":
    try:
        main()
    except PeerDied as error:
        raise SystemExit(f"error: {error}") from None
