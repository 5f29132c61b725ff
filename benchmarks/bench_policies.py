"""Policies beside one central queue, on the same traces.

    python -m benchmarks.bench_policies [--full] [--policies late_binding p2c] [--seconds 60] [--seeds 1 2]
    python -m benchmarks.bench_policies --real [--cells 1 2] [--policies late_binding p2c]
                                        [--seconds 20] [--seeds 1 2 3]

In virtual time, over a grid of cells: the mesh's own classes, moved by a heap of
events (`_kernel*.py`). Late binding is the mesh as it is: muxes, demands,
grants. The others are run as they commonly are: the real picker binds a call
when it arrives, and it waits at its endpoint. Wait is the time from arrival to
answer that is no execution, slowdown that time with the execution over the
call's cost; both are ratios over an exact simulation of one central queue that
dispatches to the fastest free slot, one round trip added (`_central.py`,
`_score.py`). A subset in two minutes; `--full` is every combination.

Over real gRPC (`--real`), for the key cells: an agent sleeps a call's cost over
its speed, clients send when the trace says so. One policy at a time: two at once
would measure the machine. Writes benchmarks/results/policies.json, or
policies-real.json, and plots.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from atomesh.balancer import POLICIES
from benchmarks import _kernel_grid as grid
from benchmarks import _kernel_report as virtual_report
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

VIRTUAL_LIMIT, MEDIAN_LIMIT = 1.3, 1.15
"""The same in virtual time: in each cell, and in the median cell."""
SECONDS, SEEDS = 60.0, (1, 2)
"""Of a cell in virtual time: some 15,000 calls, of which p99 leaves 150."""


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


def virtual(chosen: argparse.Namespace) -> tuple[list[Result], list[Result]]:
    """The grid at a short round trip, and some of it at long ones."""
    seconds = chosen.seconds or SECONDS
    plans = grid.whole_grid(seconds) if chosen.full else grid.subset(seconds)
    plans = list(dict.fromkeys([*plans, *(replace(plan, seconds=seconds) for plan in KEY_CELLS)]))
    seeds = tuple(chosen.seeds or SEEDS)
    policies = chosen.policies or list(POLICIES)
    jobs = [grid.Job(plan, policy, grid.ROUND_TRIP, seeds) for plan in plans for policy in policies]
    far = [
        grid.Job(plan, policy, share * plan.mean_cost, seeds[:1])
        for share in grid.LONG_SHARES
        for plan in grid.long_way(seconds, full=chosen.full)
        for policy in policies
    ]
    results = grid.run_all([*jobs, *far], chosen.jobs)
    return results[: len(jobs)], results[len(jobs) :]


def main_virtual(chosen: argparse.Namespace) -> None:
    """Runs the grid, prints tables, writes JSON and plots."""
    near, far = virtual(chosen)
    linkerd = grid.linkerd_all(1, chosen.jobs)
    keys = [one for one in near if replace(one.plan, seconds=KEY_CELLS[0].seconds) in KEY_CELLS]
    show(
        report.show_results("key cells, virtual time", keys),
        virtual_report.show_policies(f"{len({one.plan for one in near})} cells, virtual time", near),
        virtual_report.show_long(far, KEY_CELLS[0].mean_cost),
        virtual_report.show_linkerd(linkerd),
        virtual_report.show_over(near, VIRTUAL_LIMIT),
        report.show_targets(near, VIRTUAL_LIMIT, MEDIAN_LIMIT),
    )
    found = {
        "machine": machine(),
        "settings": vars(chosen),
        "results": report.to_json(near),
        "long_round_trips": report.to_json(far),
        "linkerd": linkerd,
    }
    plots = {
        "policies": report.plot("p99 wait over the central queue, virtual time", near),
        "policies-slowdown": report.plot("p99 slowdown over the central queue, virtual time", near, "p99_slowdown"),
    }
    write("policies", found, plots)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Policies beside one central queue, on the same traces.")
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), help="default: all; with --real, five")
    parser.add_argument("--seconds", type=float, help=f"length of a trace; default {SECONDS:g}, with --real 20")
    parser.add_argument("--seeds", type=int, nargs="+", help="default 1 2; with --real 1")
    parser.add_argument("--full", action="store_true", help="the whole grid, in virtual time")
    parser.add_argument("--jobs", type=int, help="processes for virtual time; default: as many as cores")
    parser.add_argument("--real", action="store_true", help="over real gRPC, the key cells")
    numbers = range(1, len(KEY_CELLS) + 1)
    listed = "; ".join(f"{number}: {plan}" for number, plan in enumerate(KEY_CELLS, start=1))
    parser.add_argument("--cells", type=int, nargs="+", choices=numbers, default=list(numbers), help=listed)
    parser.add_argument("--unary", action="store_true", help="with --real: over unary calls, no muxes")
    return parser.parse_args()


def main() -> None:
    """Measures, prints tables, writes JSON and a plot."""
    chosen = arguments()
    if chosen.real:
        main_real(chosen)
    else:
        main_virtual(chosen)


def main_real(chosen: argparse.Namespace) -> None:
    """The key cells over real gRPC."""
    chosen.policies = chosen.policies or list(KEY_POLICIES)
    chosen.seconds = chosen.seconds or 20.0
    chosen.seeds = chosen.seeds or [1]
    prepare()
    results = real(chosen)
    show(report.show_results("real gRPC", results), report.show_targets(results, REAL_LIMIT, None))
    found = {
        "machine": machine(),
        "settings": {key: value for key, value in vars(chosen).items() if key not in ("real", "full", "jobs")},
        "results": report.to_json(results),
    }
    write("policies-real", found, {"policies-real": report.plot("p99 wait over the central queue, real gRPC", results)})


if __name__ == "__main__":
    try:
        main()
    except PeerDied as error:
        raise SystemExit(f"error: {error}") from None
