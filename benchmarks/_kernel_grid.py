"""The grid of bench-policies in virtual time: its cells, and what each policy makes of them.

All seeds' calls of a cell are judged together. At low load one call in a hundred
waits, and the p99 of one short trace is either a round trip or a queue, by
chance: single traces scatter by a factor of five where the policy is the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

from benchmarks._central import Served, central
from benchmarks._kernel import Network
from benchmarks._kernel_run import LATE, World
from benchmarks._policy_report import Result
from benchmarks._score import score
from benchmarks._traces import COSTS, FLEETS, LOADS, Plan, Trace, linkerd, make

CLIENTS = (1, 8, 32)
ROUND_TRIP = 0.0004
"""Seconds: the same machine or rack; 0.4 % of the mean service."""
LONG_SHARES = (0.02, 0.1, 0.4)
"""Round trips as shares of the mean service: as far as late binding goes, where it has to
adapt, and another continent."""
DECLARED = ("heterogeneous",)
"""Fleets whose operators say how fast each endpoint is; nobody says of the others."""


@dataclass(frozen=True, slots=True)
class Job:
    """One policy in one cell, over all seeds."""

    plan: Plan
    policy: str
    round_trip: float
    seeds: tuple[int, ...]


def whole_grid(seconds: float) -> list[Plan]:
    """Every combination."""
    return [
        Plan(costs, fleet, load, clients, seconds)
        for fleet in FLEETS
        for costs in COSTS
        for clients in CLIENTS
        for load in LOADS
    ]


def subset(seconds: float) -> list[Plan]:
    """A Latin square of it: each fleet under each kind of costs, loads and clients in turn."""
    return [
        Plan(costs, fleet, LOADS[(row + 2 * column) % 3], CLIENTS[(row + column) % 3], seconds)
        for row, fleet in enumerate(FLEETS)
        for column, costs in enumerate(COSTS)
    ]


def long_way(seconds: float, *, full: bool) -> list[Plan]:
    """Cells for long round trips."""
    fleets = ("homogeneous", "heterogeneous", "one_slow")
    if full:
        return [Plan(c, f, load, 8, seconds) for f in fleets for c in COSTS for load in LOADS]
    return [
        Plan("log_uniform", "homogeneous", 0.75, 8, seconds),
        Plan("uniform", "homogeneous", 0.9, 8, seconds),
        Plan("log_uniform", "heterogeneous", 0.75, 32, seconds),
        Plan("log_uniform", "one_slow", 0.75, 8, seconds),
    ]


def run(job: Job) -> Result:
    """Its ratios over the central queue: one for all seeds together."""
    network = Network(job.round_trip / 2)
    result = Result(job.plan, job.policy, job.round_trip)
    served: list[Served] = []
    reference: list[Served] = []
    for seed in job.seeds:
        trace = make(replace(job.plan, seed=seed))
        outcome = world(trace, job, network, seed).run()
        served += outcome.served
        reference += central(trace.arrivals, trace.sites)
        result.over_slots += outcome.over_slots
    result.scores.append(score(served))
    result.ratios.append(result.scores[0].over(score(reference, network.round_trip)))
    return result


def world(trace: Trace, job: Job, network: Network, seed: int) -> World:
    """With the weights that operators declare."""
    made = World(trace, job.policy, network, seed)
    if job.plan.fleet in DECLARED:
        made.declare([site.speed(0.0) for site in trace.sites])
    return made


def run_all(jobs: Sequence[Job], processes: int | None = None) -> list[Result]:
    """In the order of the jobs; each process takes what is next."""
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
        return list(pool.map(run, jobs))


LINKERD_POLICIES = ("round_robin", "least_connections", "p2c", "peak_ewma", LATE)
LINKERD_SAID = {"round_robin": 0.95, "least_connections": 0.99, "peak_ewma": 0.999}
"""Answered within a second, as published."""


def linkerd_success(policy: str, seed: int) -> float:
    """The share of calls that is answered within a second."""
    trace = linkerd(seed)
    served = World(trace, policy, Network(ROUND_TRIP / 2), seed).run().served
    return _share(one.wait + one.service <= 1.0 for one in served)


def linkerd_all(seed: int, processes: int | None = None) -> dict[str, float]:
    """By policy."""
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
        found = pool.map(linkerd_success, LINKERD_POLICIES, [seed] * len(LINKERD_POLICIES))
        return dict(zip(LINKERD_POLICIES, found, strict=True))


def _share(which: Iterable[bool]) -> float:
    found = list(which)
    return sum(found) / len(found)
