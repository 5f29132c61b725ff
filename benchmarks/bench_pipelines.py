"""What a pipeline costs over the same calls made by hand: three agents that do nothing, one after the other.

    python -m benchmarks.bench_pipelines [--concurrency 1 8 32] [--chains 1500] [--slices 9] [--size 100]

`direct` is three calls; `run` is a run of a pipeline with these three stages,
with its record, events, metrics and deadline; `kept` is the same with its
history written to SQLite behind it. All in one client process, slice by slice
in turn; a ratio is taken slice by slice before its median is.
Target: a run takes at most 1.15 of three calls. Writes benchmarks/results/pipelines.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from benchmarks._harness import Stage, prepare
from benchmarks._report import machine, show, spread, table, verdict, write

TARGET = 1.15
WORLDS = ("run", "kept")


def main() -> int:
    """Measures, shows, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--chains", type=int, default=1500)
    parser.add_argument("--slices", type=int, default=9)
    parser.add_argument("--size", type=int, default=100, help="bytes of the text that goes through")
    chosen = parser.parse_args()
    prepare()
    times = table(
        "Three stages over three calls", "at once", "direct us", "run us", "kept us", "run ratio", "kept ratio"
    )
    verdicts = table("Targets", "what", "median", "target", "")
    found: dict[int, dict[str, list[float]]] = {}
    for concurrency in chosen.concurrency:
        spent = found[concurrency] = measure(concurrency, chosen)
        ratios = {
            world: [took / direct for took, direct in zip(spent[world], spent["direct"], strict=True)]
            for world in WORLDS
        }
        times.add_row(
            str(concurrency),
            *(f"{statistics.median(spent[world]):.0f}" for world in ("direct", *WORLDS)),
            *(spread(ratios[world], 2) for world in WORLDS),
        )
        for world in WORLDS:
            verdicts.add_row(*verdict(f"{world} at {concurrency}", ratios[world], TARGET, at_most=True))
    show(times, verdicts)
    write("pipelines", {"machine": machine(), "microseconds": found, "target": TARGET})
    return 0


def measure(concurrency: int, chosen: argparse.Namespace) -> dict[str, list[float]]:
    """Microseconds of each world, slice by slice, with processes of its own."""
    settings = {"concurrency": concurrency, "chains": chosen.chains, "slices": chosen.slices, "size": chosen.size}
    with Stage() as stage, tempfile.TemporaryDirectory(prefix="atomesh-bench-") as directory:
        registry = stage.start("_ends", "registry").line()
        stage.start("_pipeline_ends", "agents", registry).line()
        client = stage.start("_pipeline_ends", "client", registry, Path(directory, "runs.db"), json.dumps(settings))
        said: dict[str, list[float]] = json.loads(client.line(within=600))
        return said


if __name__ == "__main__":
    raise SystemExit(main())
