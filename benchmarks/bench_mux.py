"""What a call costs: bare grpc.aio, the mesh over unary calls, the mesh over muxes, and bare grpc-go.

    python -m benchmarks.bench_mux [--only rate] [--concurrency 1 32] [--endpoints 1]
                                   [--seconds 1] [--repeats 3] [--worlds raw mux]

Three groups of cells: `rate` (300 B at each concurrency, at 1 and 3 endpoints),
`size` (16 KiB, 64 KiB, 1 MiB), `beside` (small calls beside two loops of 1 MiB
calls over the same client). Every endpoint is a process of its own. Ratios are
taken pair by pair. grpc-go is beside the others in `rate`. Writes
benchmarks/results/mux.json and plots.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import _mux_report
from benchmarks._go import go_program
from benchmarks._harness import Figures, PeerDied, Stage, interleave, parse, prepare
from benchmarks._report import machine, write

SMALL = 300
"""Bytes of the small payload: a sentence or two, as an agent's input has."""
SIZES = ((16 << 10, 32), (64 << 10, 8), (1 << 20, 8))
"""Larger payloads, each with the concurrency that it is measured at."""
LARGE = 1 << 20
BESIDE = 8
"""Small calls at once beside the large ones: as many tasks wait for small
answers as keep unary busy, and no more, so that p99 is not the generator's."""


@dataclass(frozen=True)
class Cell:
    """One setting that all worlds are measured in."""

    group: str
    concurrency: int
    endpoints: int = 1
    size: int = SMALL

    def __str__(self) -> str:
        """For the progress line."""
        return f"{self.group}: {self.concurrency} at once, {self.endpoints} endpoints, {self.size} B"

    @property
    def loops(self) -> list[tuple[int, int]]:
        """Payload and tasks of each loop."""
        small = [(self.size, self.concurrency)]
        return [*small, (LARGE, 2)] if self.group == "beside" else small


def cells(chosen: argparse.Namespace) -> list[Cell]:
    """What is to be measured."""
    made = []
    for endpoints in chosen.endpoints:
        if "rate" in chosen.only:
            made += [Cell("rate", concurrency, endpoints) for concurrency in chosen.concurrency]
        if "beside" in chosen.only:
            made.append(Cell("beside", BESIDE, endpoints))
    if "size" in chosen.only:
        made += [Cell("size", concurrency, 1, size) for size, concurrency in SIZES]
    return made


def measure(world: str, cell: Cell, chosen: argparse.Namespace) -> Mapping[str, float]:
    """One measurement in processes of its own."""
    with Stage() as stage:
        registry = ""
        if world == "go":
            servers = [stage.run(str(chosen.go), "server") for _ in range(cell.endpoints)]
        elif world == "raw":
            servers = [stage.start("_ends", "bare", chosen.loop) for _ in range(cell.endpoints)]
        else:
            registry = stage.start("_ends", "registry").line()
            servers = [stage.start("_ends", "agent", registry, chosen.loop) for _ in range(cell.endpoints)]
        addresses = [server.line() for server in servers]
        settings: dict[str, Any] = {
            "loops": cell.loops,
            "seconds": chosen.seconds,
            "servers": [server.pid for server in servers],
            "loop": chosen.loop,
        }
        targets = registry or ",".join(addresses)
        if world == "go":
            client = stage.run(str(chosen.go), "client", targets, json.dumps(settings))
        else:
            client = stage.start("_ends", "client", world, targets, json.dumps(settings))
        return parse(client.line(within=chosen.seconds + 60))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="What a call costs, over each transport.")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each world in each cell")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32, 128, 512])
    parser.add_argument("--endpoints", type=int, nargs="+", default=[1, 3])
    groups, worlds = ["rate", "size", "beside"], ["raw", "unary", "mux", "go"]
    parser.add_argument("--only", choices=groups, nargs="+", default=groups)
    parser.add_argument("--worlds", choices=worlds, nargs="+", default=worlds)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="of both ends, in all worlds")
    return parser.parse_args()


def available(chosen: argparse.Namespace) -> list[str]:
    """The worlds that can be measured here; what is missing is said in one line each."""
    worlds = [world for world in chosen.worlds if world != "go"]
    if "go" in chosen.worlds:
        chosen.go, reason = go_program()
        if chosen.go is None:
            print(f"without grpc-go: {reason}")
        else:
            worlds.append("go")
    return worlds


def main() -> None:
    """Measures, prints tables, writes JSON and plots."""
    chosen = arguments()
    prepare()
    worlds = available(chosen)
    figures: dict[Cell, dict[str, Figures]] = interleave(
        cells(chosen),
        lambda cell: worlds if cell.group == "rate" else [world for world in worlds if world != "go"],
        chosen.repeats,
        lambda world, cell: measure(world, cell, chosen),
    )
    if not any(found for cell in figures.values() for found in cell.values()):
        raise SystemExit("error: nothing could be measured; the lines above say why")
    _mux_report.show_all(figures)
    report = {
        "machine": machine(loop=chosen.loop),
        "settings": {"seconds": chosen.seconds, "repeats": chosen.repeats},
        "cells": [{**asdict(cell), "worlds": found} for cell, found in figures.items()],
    }
    write("mux", report, _mux_report.plots(figures))


if __name__ == "__main__":
    try:
        main()
    except PeerDied as error:
        raise SystemExit(f"error: {error}") from None
