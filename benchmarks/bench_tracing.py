"""What tracing costs a call: without, with one trace in a hundred sampled, and with all.

    python -m benchmarks.bench_tracing [--concurrency 1 32] [--transports mux unary] [--seconds 2] [--repeats 5]

A sampled call is three spans (call, attempt, execution), begun, ended, encoded
and exported to a collector beside it, whose own time does not count. CPU is of
the client's and the endpoint's processes, exporters included, per call; what a
world costs over `off` is taken pair by pair. Writes benchmarks/results/tracing.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from benchmarks._harness import Figures, PeerDied, Stage, interleave, median, parse, prepare
from benchmarks._report import machine, show, spread, table, write
from benchmarks._tracing_ends import OFF

WORLDS = (OFF, "0.01", "1.0")
SIZE = 300  # bytes of the input: a sentence or two


@dataclass(frozen=True)
class Cell:
    """One setting that all worlds are measured in."""

    transport: str
    concurrency: int

    def __str__(self) -> str:
        """For the tables."""
        return f"{self.transport}, {self.concurrency} at once"


def measure(world: str, cell: Cell, seconds: float) -> Mapping[str, float]:
    """One measurement in processes of its own."""
    with Stage() as stage:
        collector = stage.start("_tracing_ends", "collector").line()
        agent = stage.start("_tracing_ends", "agent", collector, world)
        address = agent.line()
        settings = {"size": SIZE, "concurrency": cell.concurrency, "seconds": seconds, "servers": [agent.pid]}
        ends = (cell.transport, address, collector, world)
        return parse(stage.start("_tracing_ends", "client", *ends, json.dumps(settings)).line(within=seconds + 60))


def more(figures: Mapping[str, Figures], world: str, name: str) -> list[float]:
    """What a world takes more than `off`, pair by pair."""
    pairs = zip(figures[world].get(name, []), figures[OFF].get(name, []), strict=True)
    return [on - off for on, off in pairs]


def main() -> None:
    """Measures, shows, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--transports", choices=["mux", "unary"], nargs="+", default=["mux", "unary"])
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each world in each cell")
    chosen = parser.parse_args()
    prepare()
    cells = [Cell(transport, concurrency) for transport in chosen.transports for concurrency in chosen.concurrency]
    found = interleave(
        cells, lambda _: WORLDS, chosen.repeats, lambda world, cell: measure(world, cell, chosen.seconds)
    )
    costs = table("CPU per call, microseconds", "cell", "sampled", "both ends", "more than off", "client", "endpoint")
    rates = table("Calls per second", "cell", *WORLDS)
    for cell, figures in found.items():
        for world in WORLDS:
            of = figures[world]
            cpu = [spread(of.get(name, [])) for name in ("cpu_us", "client_cpu_us", "server_cpu_us")]
            costs.add_row(str(cell), world, cpu[0], spread(more(figures, world, "cpu_us")), *cpu[1:])
        rates.add_row(str(cell), *(f"{median(figures[world].get('rate', [])):,.0f}" for world in WORLDS))
    show(costs, rates)
    cells_found = [{**asdict(cell), "worlds": figures} for cell, figures in found.items()]
    write("tracing", {"machine": machine(), "cells": cells_found})


if __name__ == "__main__":
    try:
        main()
    except PeerDied as error:
        raise SystemExit(f"error: {error}") from None
