"""How much of a fleet's slot time a batch uses, beside callers whose number somebody guessed.

    python -m benchmarks.bench_batch [--seconds 4] [--repeats 3] [--cells mixed short growing]

Three endpoints, 16 slots, each a process of its own; work is sleep, so that
slots are what is scarce. `mixed` costs 0.5 to 500 ms, as many of each order of
magnitude; `short` is 20 ms each; in `growing` 16 slots more join after a third.
Busy is what the agents say that executions took, over the slots that there were:
as long as there were inputs to begin, and to the end. Fixed callers: half the
slots, the slots, twice and four times the slots.
Target: at least 0.95 while there are inputs. Writes benchmarks/results/batch.json.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping
from typing import Any

from benchmarks._drive import clock
from benchmarks._harness import Stage, interleave, prepare
from benchmarks._report import machine, show, spread, table, verdict, write

TARGET = 0.95
SLOTS = (4, 8, 4)
JOINS = 16
"""Slots that join in `growing`, a third into it."""
TOGETHER = sum(SLOTS)
WORLDS = ("batch", *(str(int(TOGETHER * factor)) for factor in (0.5, 1, 2, 4)))


def main() -> int:
    """Measures, shows, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="about how long each measurement takes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cells", nargs="+", default=["mixed", "short", "growing"])
    chosen = parser.parse_args()
    prepare()
    found = interleave(
        chosen.cells, lambda _: WORLDS, chosen.repeats, lambda world, cell: measure(world, cell, chosen.seconds)
    )
    shown = table(
        "Busy slots, and waits in the client", "cell", "world", "busy while fed", "busy in all", "wait ms", "s"
    )
    verdicts = table("Targets", "what", "median", "target", "")
    for cell, worlds in found.items():
        for world, figures in worlds.items():
            name = world if world == "batch" else f"{world} callers"
            row = [spread(figures.get(what, []), 3) for what in ("fed", "all")]
            row += [spread(figures.get("wait_ms", []), 1), spread(figures.get("seconds", []), 1)]
            shown.add_row(cell, name, *row)
        verdicts.add_row(*verdict(f"batch, {cell}", worlds["batch"].get("fed", []), TARGET))
    show(shown, verdicts)
    write("batch", {"machine": machine(), "slots": SLOTS, "joins": JOINS, "found": found, "target": TARGET})
    return 0


def costs(cell: str, seconds: float) -> list[int]:
    """Microseconds of each input; together about as many as the fleet does in that time."""
    rng = random.Random(7)
    slots = TOGETHER + (JOINS * 2 / 3 if cell == "growing" else 0)
    left, drawn = seconds * slots * 1e6, []
    while left > 0:
        drawn.append(20_000 if cell == "short" else int(10 ** rng.uniform(2.7, 5.7)))
        left -= drawn[-1]
    return drawn


def measure(world: str, cell: str, seconds: float) -> Mapping[str, float]:
    """One batch, or as many callers as the world's name says, over a fleet of its own."""
    with Stage() as stage:
        registry = stage.start("_ends", "registry").line()
        agents = [stage.start("_work", "agent", registry, json.dumps({"slots": slots})) for slots in SLOTS]
        for agent in agents:
            agent.line()
        client = stage.start("_batch_ends", registry, json.dumps({"world": world, "costs": costs(cell, seconds)}))
        client.line()
        joined = None
        if cell == "growing":
            time.sleep(seconds / 3)
            stage.start("_work", "agent", registry, json.dumps({"slots": JOINS})).line()
            joined = clock()
        told: dict[str, Any] = json.loads(client.line(within=20 * seconds + 60))
    return {
        "fed": busy(told, told["fed"], joined),
        "all": busy(told, told["ended"], joined),
        "wait_ms": told["wait_ms"],
        "seconds": told["ended"] - told["begun"],
    }


def busy(told: Mapping[str, Any], until: float, joined: float | None) -> float:
    """The share of slot time that was busy from the beginning to then."""
    used = sum(max(0.0, min(ended, until) - started) for started, ended in told["spans"])
    available = TOGETHER * (until - told["begun"])
    if joined is not None:
        available += JOINS * max(0.0, until - joined)
    return float(used / available)


if __name__ == "__main__":
    raise SystemExit(main())
