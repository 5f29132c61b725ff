"""Runs registry worlds by the hundred, and says of one that breaks how to see it again.

python -m atomesh.testing.registry_world --seeds 0:300     worlds of these seeds
python -m atomesh.testing.registry_world --seed 17         one, with its whole history
python -m atomesh.testing.registry_world --seed 17 --grep owner-3
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TextIO

from atomesh.testing.history import PROMISES, to_line
from atomesh.testing.registry_world.scenario import random_scenario
from atomesh.testing.registry_world.world import CRASHED, Report, run_world
from atomesh.testing.seeds import each_seed, seed_range

COMMAND = "python -m atomesh.testing.registry_world --seed"
SHOWN = 8
"""Violations that are printed of a world."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left of a world when only its end is of interest."""

    seed: int
    counts: dict[str, int]
    digest: str
    trouble: str
    """Empty where all promises were kept."""


def outcome_of(seed: int, promise: str = "") -> Outcome:
    """Runs the world of a seed; one that crashes is in trouble as well. With a `promise`, no other is looked at."""
    try:
        report = run_world(random_scenario(seed))
        if promise:
            held = tuple(each for each in report.violations if each.promise in (promise, CRASHED))
            report = replace(report, violations=held)
    except Exception as error:  # noqa: BLE001 # whatever it is, its seed must be told
        what = f"seed {seed} ended with {type(error).__name__}: {error}\n  replay: {COMMAND} {seed}"
        return Outcome(seed, {}, "", what)
    return Outcome(seed, report.counts, report.digest, explain(report))


def explain(report: Report) -> str:
    """In words, which promises were broken, when, how, and how to see it again; empty where none was."""
    if not report.violations:
        return ""
    more = len(report.violations) - SHOWN
    promises = sorted({f"[{each.promise}]" for each in report.violations})
    lines = [f"seed {report.seed} breaks {' '.join(promises)}:"]
    lines += [f"  {violation}" for violation in report.violations[:SHOWN]]
    lines += [f"  and {more} more"] if more > 0 else []
    return "\n".join([*lines, f"  replay: {COMMAND} {report.seed}"])


def run_seeds(seeds: Iterable[int], processes: int = 1, promise: str = "") -> Iterator[Outcome]:
    """The outcomes, in the order of the seeds."""
    return each_seed(partial(outcome_of, promise=promise), seeds, processes)


def main(arguments: list[str] | None = None, out: TextIO = sys.stdout) -> int:
    """The command line; 1 where some world broke a promise."""
    said = _parser().parse_args(arguments)
    if said.seed is not None:
        return _show(said.seed, said.grep, out)
    counts: Counter[str] = Counter()
    broken: list[int] = []
    worlds = 0
    for outcome in run_seeds(range(*said.seeds), said.processes, said.promise):
        worlds += 1
        counts.update(outcome.counts)
        if outcome.trouble:
            broken.append(outcome.seed)
            print(outcome.trouble, file=out, flush=True)
            if said.first:
                break
    print(f"{worlds} registry worlds: {_listed(counts)}", file=out)
    end = f"{len(broken)} broke: {', '.join(map(str, broken))}" if broken else "every promise was kept in all of them"
    print(end, file=out)
    return 1 if broken else 0


def _show(seed: int, pattern: str, out: TextIO) -> int:
    scenario = random_scenario(seed)
    print(scenario, file=out)
    report = run_world(scenario)
    for fact in report.facts:
        if re.search(pattern, line := to_line(fact)):
            print(line, file=out)
    print(explain(report) or f"seed {seed}: every promise was kept; {_listed(report.counts)}", file=out)
    print(f"history {report.digest}", file=out)
    return 1 if report.violations else 0


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda each: -each[1]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m atomesh.testing.registry_world", description="Worlds of a registry out of seeds."
    )
    parser.add_argument("--seed", type=int, help="one world, with its history as JSON Lines")
    parser.add_argument("--grep", default="", help="of the history only lines that match")
    parser.add_argument(
        "--seeds", type=seed_range, default=(0, 300), metavar="FIRST:LAST", help="worlds; 0:300 if unsaid"
    )
    parser.add_argument("--promise", default="", choices=["", *PROMISES], help="hold this one alone", metavar="NAME")
    parser.add_argument("--first", action="store_true", help="stop at the first that breaks a promise")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1), help="at once; 2 if unsaid")
    return parser
