"""Policies beside one central queue, on the same traces.

    python -m benchmarks.bench_policies --real [--cells 1 2] [--policies late_binding p2c]
                                        [--seconds 20] [--seeds 1 2 3]

Over real gRPC, for the key cells: an agent sleeps a call's cost over its speed,
clients send when the trace says so, and wait and slowdown are held against an
exact simulation of the central queue on the same trace, one measured round trip
added (`_central.py`). One policy at a time: two at once would measure the
machine. Writes benchmarks/results/policies-real.json and a plot.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from atomesh.balancer import POLICIES
from benchmarks import _policy_report as report
from benchmarks._central import central
from benchmarks._harness import PeerDied, prepare
from benchmarks._policy_report import Result
from benchmarks._real import run_mesh
from benchmarks._report import machine, show, write
from benchmarks._score import score
from benchmarks._traces import Plan, make

KEY_CELLS = (
    Plan("log_uniform", "homogeneous", 0.75, 8),
    Plan("log_uniform", "heterogeneous", 0.75, 8),
    Plan("bimodal", "heterogeneous", 0.75, 32),
    Plan("log_uniform", "one_slow", 0.75, 32),
    Plan("log_uniform", "homogeneous", 0.9, 8),
)
"""Where policies differ most, and one where they should not. Services of 100 ms
on average, so that the round trip of a busy machine is under 2 % of them."""
KEY_POLICIES = ("late_binding", "weighted_least_outstanding", "p2c", "peak_ewma", "round_robin")
REAL_LIMIT = 1.4
"""p99 of wait and slowdown over the central queue's, in each key cell."""


def real(chosen: argparse.Namespace) -> list[Result]:
    """Each policy in each cell, a seed after the other."""
    plans = [replace(KEY_CELLS[number - 1], seconds=chosen.seconds) for number in chosen.cells]
    results = {(plan, policy): Result(plan, policy, 0.0) for plan in plans for policy in chosen.policies}
    for seed in chosen.seeds:
        for plan in plans:
            trace = make(replace(plan, seed=seed))
            reference = central(trace.arrivals, trace.sites)
            for policy in chosen.policies:
                print(f"{plan}, seed {seed}: {policy} ", end="", flush=True, file=sys.stderr)
                run = run_mesh(trace, policy, mux=not chosen.unary)
                result = results[plan, policy]
                result.round_trip = result.round_trip or run.round_trip
                result.failed += run.failed
                result.over_slots += sum(
                    most > site.slots for most, site in zip(run.most_at_once, trace.sites, strict=True)
                )
                result.scores.append(score(run.served))
                result.ratios.append(result.scores[-1].over(score(reference, run.round_trip)))
                told = f"p99 wait {result.ratios[-1].p99_wait:.2f}, round trip {run.round_trip * 1e3:.2f} ms"
                print(told, run.reason and f"{run.failed} failed: {run.reason}", file=sys.stderr)
    return list(results.values())


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Policies beside one central queue, on the same traces.")
    parser.add_argument("--real", action="store_true", required=True, help="over real gRPC, the key cells")
    numbers = range(1, len(KEY_CELLS) + 1)
    listed = "; ".join(f"{number}: {plan}" for number, plan in enumerate(KEY_CELLS, start=1))
    parser.add_argument("--cells", type=int, nargs="+", choices=numbers, default=list(numbers), help=listed)
    known = [name for name in KEY_POLICIES if name in POLICIES]
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=known)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a trace")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--unary", action="store_true", help="over unary calls, no muxes")
    return parser.parse_args()


def main() -> None:
    """Measures, prints tables, writes JSON and a plot."""
    chosen = arguments()
    prepare()
    results = real(chosen)
    show(report.show_results("real gRPC", results), report.show_targets(results, REAL_LIMIT, None))
    found = {
        "machine": machine(),
        "settings": {key: value for key, value in vars(chosen).items() if key != "real"},
        "results": report.to_json(results),
    }
    write("policies-real", found, {"policies-real": report.plot("p99 wait over the central queue, real gRPC", results)})


if __name__ == "__main__":
    try:
        main()
    except PeerDied as error:
        raise SystemExit(f"error: {error}") from None
