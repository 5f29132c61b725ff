"""Runs worlds by the hundred, and says of one that breaks how to see it again.

python -m atomesh.testing.world --seeds 0:300     worlds of these seeds
python -m atomesh.testing.world --seed 17         one, with its whole trace
python -m atomesh.testing.world --seed 17 --grep client-1
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TextIO

from atomesh.testing.seeds import each_seed, seed_range
from atomesh.testing.world.scenario import random_scenario
from atomesh.testing.world.world import Report, run_world

COMMAND = "python -m atomesh.testing.world --seed"
SHOWN = 20
"""Last events that are printed of a violation."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of a world when only its end is of interest."""

    seed: int
    time: float
    calls: int
    results: dict[str, int]
    digest: str
    trouble: str
    """Empty where all rules held."""


def outcome_of(seed: int) -> Outcome:
    """Runs the world of a seed; one that crashes is in trouble as well."""
    try:
        report = run_world(random_scenario(seed))
    except Exception as error:  # noqa: BLE001 # whatever it is, its seed must be told
        what = f"seed {seed} ended with {type(error).__name__}: {error}\n  replay: {COMMAND} {seed}"
        return Outcome(seed, 0.0, 0, {}, "", what)
    return Outcome(seed, report.time, report.calls, report.results, report.digest, explain(report))


def explain(report: Report) -> str:
    """In words, what broke, when, after what, and how to see it again; empty where nothing did."""
    if not report.violations:
        return ""
    first = report.violations[0]
    lines = [f"seed {report.seed}, at {first.time:.6f} s of virtual time: {first.what}"]
    lines += [f"  and at {more.time:.6f} s: {more.what}" for more in report.violations[1:]]
    lines += ["  last events:", *(f"    {event}" for event in first.events[-SHOWN:])]
    lines.append(f"  replay: {COMMAND} {report.seed}")
    return "\n".join(lines)


def run_seeds(seeds: Iterable[int], processes: int = 1) -> Iterator[Outcome]:
    """The outcomes, in the order of the seeds."""
    return each_seed(outcome_of, seeds, processes)


def main(arguments: list[str] | None = None, out: TextIO = sys.stdout) -> int:
    """The command line; 1 where some world broke."""
    said = _parser().parse_args(arguments)
    if said.seed is not None:
        return _show(said.seed, said.grep, out)
    first, last = said.seeds
    results: Counter[str] = Counter()
    worlds = calls = 0
    broken: list[int] = []
    for outcome in run_seeds(range(first, last), said.processes):
        worlds += 1
        calls += outcome.calls
        results.update(outcome.results)
        if outcome.trouble:
            broken.append(outcome.seed)
            print(outcome.trouble, file=out, flush=True)
            if said.first:
                break
    print(f"{worlds} worlds, {calls} calls: {_listed(results)}", file=out)
    print(
        f"{len(broken)} broke: {', '.join(map(str, broken))}" if broken else "every rule held in all of them", file=out
    )
    return 1 if broken else 0


def _show(seed: int, pattern: str, out: TextIO) -> int:
    scenario = random_scenario(seed)
    print(scenario, file=out)
    report = run_world(scenario)
    for line in report.lines:
        if re.search(pattern, line):
            print(line, file=out)
    print(explain(report) or f"seed {seed}: every rule held; {_listed(report.results)}", file=out)
    print(f"trace {report.digest}", file=out)
    return 1 if report.violations else 0


def _listed(results: dict[str, int]) -> str:
    return ", ".join(f"{count} {result}" for result, count in sorted(results.items(), key=lambda each: -each[1]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m atomesh.testing.world", description="Worlds out of seeds.")
    parser.add_argument("--seed", type=int, help="one world, with its trace")
    parser.add_argument("--grep", default="", help="of the trace only lines that match")
    parser.add_argument(
        "--seeds", type=seed_range, default=(0, 300), metavar="FIRST:LAST", help="worlds; 0:300 if unsaid"
    )
    parser.add_argument("--first", action="store_true", help="stop at the first that breaks")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1), help="at once; 2 if unsaid")
    return parser
