"""What the registry costs, beside raw gRPC with the same messages in the same run, and how it grows.

    python -m benchmarks.bench_registry [--only register renew watch memory growth] [--quick]
                                        [--data-dir DIR] [--seconds 1] [--slices 4] [--repeats 3]

`register`: registrations per second at 1, 32 and 128 at once, in memory and
durable on SQLite, with a contract of 1 kB and one of 72 kB. `renew`: batches of
1,000 processes, over shared connections and over 1,000. `watch`: from a change
to the first and last of 1, 100 and 1,000 watchers. `memory`: of a watcher.
`growth`: changes, look-ups, starts and memory at 1,000 to 100,000 endpoints.
`raw` answers the same requests at once and keeps nothing: the ceiling. Writes
benchmarks/results/registry.json and plots. `--profile KIND` shows where the
registry's time goes instead.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from typing import Any

from benchmarks import _registry_report
from benchmarks._harness import Figures, PeerDied, interleave
from benchmarks._registry_cells import SHARED, Calls, Cell, Memory, Watch, measure, turns
from benchmarks._registry_growth import growth, sync_ms
from benchmarks._registry_profile import PROFILES, profile
from benchmarks._report import machine, write

GROUPS = ("register", "renew", "watch", "memory", "growth")
QUICK: dict[str, Any] = {
    "seconds": 0.3, "slices": 1, "repeats": 1, "changes": 10, "concurrency": [32], "contracts": ["lean"],
    "processes": 50, "watchers": [20], "settle": 0.2, "endpoints": [1000, 2000],
}  # fmt: skip


def calls(chosen: argparse.Namespace) -> list[Calls]:
    """Unary calls that are to be measured."""
    made = []
    if "register" in chosen.only:
        made += [Calls("register", tasks, contract) for contract in chosen.contracts for tasks in chosen.concurrency]
    if "renew" in chosen.only:
        made += [Calls("renew", 32, connections=connections) for connections in (SHARED, chosen.processes)]
    return made


def watches(chosen: argparse.Namespace) -> list[Watch | Memory]:
    """What is to be measured of watches."""
    made: list[Watch | Memory] = []
    if "watch" in chosen.only:
        made += [*(Watch(streams) for streams in chosen.watchers), Watch(chosen.watchers[-1], own=True)]
    if "memory" in chosen.only:
        made += [Memory(own=own) for own in (False, True)]
    return made


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=GROUPS, nargs="+", default=list(GROUPS))
    parser.add_argument("--quick", action="store_true", help="everything once and small: that it works, not how fast")
    parser.add_argument("--data-dir", default=tempfile.gettempdir(), help="a directory on the disk for SQLite")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one slice of calls")
    parser.add_argument("--slices", type=int, default=4, help="of calls in each repetition")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--contracts", choices=["lean", "rules"], nargs="+", default=["lean", "rules"])
    parser.add_argument("--processes", type=int, default=1000, help="that renew")
    parser.add_argument("--settle", type=float, default=1.0, help="seconds before memory is read")
    parser.add_argument("--watchers", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--changes", type=int, default=100, help="changes that watchers are told in one measurement")
    parser.add_argument("--endpoints", type=int, nargs="+", default=[1000, 10_000, 100_000], help="at least 1000 each")
    parser.add_argument("--profile", choices=PROFILES, help="only this: where the registry's time goes")
    chosen = parser.parse_args(given)
    if chosen.quick:
        vars(chosen).update(QUICK)
    return chosen


def run(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measures, prints tables, writes JSON and plots; what was measured."""
    sync = sync_ms(chosen.data_dir)
    found: dict[Cell, dict[str, Figures]] = dict(turns(calls(chosen), chosen).items())
    if cells := watches(chosen):
        found |= interleave(
            cells, lambda cell: cell.worlds, chosen.repeats, lambda world, cell: measure(world, cell, chosen)
        )
    grown = growth(chosen) if "growth" in chosen.only else None
    print(f"4 KiB to the disk at {chosen.data_dir} took {sync:.2f} ms")
    _registry_report.show_all(found, grown)
    report = {
        "machine": machine(sync_ms=sync),
        "settings": vars(chosen),
        "cells": [{"cell": type(cell).__name__, **asdict(cell), "worlds": worlds} for cell, worlds in found.items()],
        "growth": grown,
    }
    write("registry", report, _registry_report.plots(found))
    return report


def main() -> None:
    """Runs what the command line says."""
    chosen = arguments()
    if chosen.profile:
        profile(chosen)
    else:
        run(chosen)


if __name__ == "__main__":
    try:
        main()
    except PeerDied as error:
        raise SystemExit(f"error: {error}") from None
