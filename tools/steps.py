"""Runs make targets one after the other and ends with a table of how each went.

All of them run even when an early one fails: a typo in a docstring should not
hide a broken test until the next round. The exit status is 1 where any failed.

    python tools/steps.py lint unit integration
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass

# The last line that a tool prints is its summary: pytest, ruff, mypy, lint-imports.
WIDTH = 88


@dataclass(frozen=True)
class Outcome:
    step: str
    status: int
    seconds: float
    last_line: str


def main(steps: list[str]) -> int:
    began = time.perf_counter()
    outcomes = [run(step) for step in steps]
    print("\n" + table(outcomes), flush=True)
    failed = [outcome.step for outcome in outcomes if outcome.status]
    seconds = time.perf_counter() - began
    if failed:
        print(f"\nFAILED: {', '.join(failed)} ({seconds:.0f} s); run one alone with `make {failed[0]}`")
        return 1
    print(f"\nPASSED: all {len(steps)} steps ({seconds:.0f} s)")
    return 0


def run(step: str) -> Outcome:
    """One target, its output passed through as it comes."""
    print(f"\n=== make {step}", flush=True)
    began, last = time.perf_counter(), ""
    command = [os.environ.get("MAKE", "make"), "--no-print-directory", step]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        assert running.stdout is not None  # it was asked for above
        for raw in running.stdout:
            sys.stdout.buffer.write(raw)
            sys.stdout.buffer.flush()
            line = raw.decode(errors="replace").strip()
            last = line if line and not line.startswith("make") else last
    return Outcome(step, running.returncode, time.perf_counter() - began, last)


def table(outcomes: list[Outcome]) -> str:
    name = max(len(outcome.step) for outcome in outcomes)
    rows = (
        f"{'ok  ' if not outcome.status else 'FAIL'}  {outcome.step:<{name}}  {outcome.seconds:6.1f} s  "
        f"{outcome.last_line[:WIDTH]}"
        for outcome in outcomes
    )
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
