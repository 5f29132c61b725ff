"""Goodput when more comes than can be served: at 1, 2 and 10 times an endpoint's capacity.

    python -m benchmarks.bench_overload [--kinds slots cpu] [--factors 1 2 10] [--seconds 8] [--repeats 3]

`slots`: 8 slots, calls that sleep 50 ms. `cpu`: calls that spend 2 ms of the
endpoint's CPU, which refusals cost as well. Calls come as they will (Poisson,
seeded), whatever became of those before; half of the capacity first, then the
overload, then half again. Goodput counts calls answered within their deadline.

Capacity: of `slots`, the slots over the service as it was measured (a sleep of
50 ms takes 50.5); of `cpu`, what closed loops got through the same mesh, the
mean of just before and just after. Recovery: how long after the overload the last call that failed came.
Writes benchmarks/results/overload.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from atomesh.balancer.budget import FLOOR_PER_SECOND, RATIO, RESERVE_SECONDS
from atomesh.v1 import agent_pb2, agent_pb2_grpc
from benchmarks._drive import clock, percentile
from benchmarks._harness import Figures, Peer, PeerDied, Stage, interleave, prepare
from benchmarks._report import machine, show, spread, table, verdict, write

PROCESSES, CLIENTS = 2, 4
"""Of clients, and clients in each: several budgets, queues and muxes, on the core that the endpoint leaves."""
CALM = 0.5
"""Share of the capacity before and after the overload."""
BEFORE, AFTER = 1.5, 5.0
"""Seconds of it. Recovery has 5 s at most, so that a longer calm would show nothing more."""
SETTLED = 0.5
"""Seconds of the overload that do not count: slots that were idle fill, for better or worse."""
TARGETS = {("slots", 2): 0.97, ("slots", 10): 0.90, ("cpu", 2): 0.85, ("cpu", 10): 0.80}


@dataclass(frozen=True)
class Kind:
    """What the endpoint is bound by."""

    slots: int
    sleep_us: int
    spin_us: int
    deadline: float
    threads: bool = False


KINDS = {
    "slots": Kind(8, 50_000, 0, 0.5),
    "cpu": Kind(4, 0, 2_000, 0.25),
    "cpu-threads": Kind(4, 0, 2_000, 0.25, threads=True),
}
"""Deadlines are 10 services in a slot, or 100 of those that only one can have at a time."""


@dataclass(frozen=True)
class Cell:
    """One kind at one load."""

    kind: str
    factor: float

    def __str__(self) -> str:
        """For the progress line."""
        return f"{self.kind} at {self.factor:g}x"


def measure(cell: Cell, chosen: argparse.Namespace, repeat: int) -> dict[str, float]:
    """One storm in processes of its own."""
    kind = KINDS[cell.kind]
    with Stage() as stage:
        registry = stage.start("_ends", "registry").line()
        told = json.dumps({"slots": kind.slots, "threads": kind.threads})
        endpoint = stage.start("_work", "agent", registry, told)
        address = endpoint.line()
        common = {
            "clients": CLIENTS, "deadline": kind.deadline, "sleep_us": kind.sleep_us, "spin_us": kind.spin_us,
            "mux": not chosen.unary,
        }  # fmt: skip
        bound = kind.slots / (kind.sleep_us / 1e6) if kind.sleep_us else 0.0
        capacity = bound or closed_loop(registry, common, kind)
        phases = [(BEFORE, CALM * capacity), (chosen.seconds, cell.factor * capacity), (AFTER, CALM * capacity)]
        shared = [(seconds, rate / PROCESSES) for seconds, rate in phases]
        settings = [{**common, "phases": shared, "seed": repeat * PROCESSES + n} for n in range(PROCESSES)]
        peers = [stage.start("_storm", registry, json.dumps(one)) for one in settings]
        said = send(peers, sum(seconds for seconds, _ in phases))
        endpoint.say("report")
        report = json.loads(endpoint.line())
        if not bound:
            capacity = (capacity + closed_loop(registry, common, kind)) / 2
        found = figures(said, kind, capacity, chosen.seconds)
        found["over_slots"] = max(0, report["most_at_once"] - kind.slots)
        found["refusals"] = refusals(address)
        return found


def closed_loop(registry: str, common: dict[str, Any], kind: Kind) -> float:
    """Calls per second that the endpoint serves when nothing has to be refused."""
    with Stage() as stage:
        # One call more than slots, in one client: no slot is ever without work.
        settings = {**common, "clients": 1, "closed": kind.slots + 1}
        return float(json.loads(stage.start("_storm", registry, json.dumps(settings)).line())["rate"])


def send(peers: Sequence[Peer], seconds: float) -> list[dict[str, Any]]:
    """Starts all at once; what each says at the end."""
    for peer in peers:
        peer.line()
    start = clock() + 0.3
    for peer in peers:
        peer.say(str(start))
    time.sleep(0.3 + seconds)
    return [json.loads(peer.line()) for peer in peers]


def figures(said: list[dict[str, Any]], kind: Kind, capacity: float, seconds: float) -> dict[str, float]:
    """What the calls of all clients came to."""
    calls = [(due, ended, service) for one in said for due, ended, service in one["calls"]]
    begun, end = BEFORE + SETTLED, BEFORE + seconds
    good = [(due, ended, service) for due, ended, service in calls if service and ended - due <= kind.deadline]
    inside = [(due, ended, service) for due, ended, service in good if begun <= ended < end]
    if kind.sleep_us and inside:
        capacity = kind.slots / (math.fsum(service for _, _, service in inside) / len(inside))
    failed_after = [
        due for due, ended, service in calls if due >= end and not (service and ended - due <= kind.deadline)
    ]
    counted: Counter[str] = Counter()
    for one in said:
        counted.update(one["counted"])
    clients, total = PROCESSES * CLIENTS, BEFORE + seconds + AFTER
    latencies = sorted(ended - due for due, ended, _ in inside)
    goodput = len(inside) / (end - begun)
    return {
        "capacity": capacity,
        "offered": sum(begun <= due < end for due, _, _ in calls) / (end - begun),
        "goodput": goodput,
        "share": goodput / capacity,
        # Where no call went well in time there is none to be quick.
        **({"p50_ms": percentile(latencies, 0.5) * 1e3, "p99_ms": percentile(latencies, 0.99) * 1e3} if inside else {}),
        "recovery_s": max((due - end for due in failed_after), default=0.0),
        "retries": counted["retries"],
        "budget": RATIO * len(calls) + clients * FLOOR_PER_SECOND * (RESERVE_SECONDS + total),
        **{f"failed {name}": float(count) for one in said for name, count in one["failures"].items()},
        **{name: value for name, value in counted.items() if name.startswith("attempts ")},
    }


def refusals(address: str) -> float:
    """Calls that the endpoint refused unexecuted, by its own count."""
    with grpc.insecure_channel(address) as channel:
        answer = agent_pb2_grpc.AgentServiceStub(channel).Health(agent_pb2.HealthRequest(), timeout=5)
        return float(answer.agents[0].load.refusals)


def report(found: Mapping[Cell, Mapping[str, Figures]]) -> None:
    """Prints what was found, and whether it is enough."""
    heads = ("offered/s", "goodput/s", "capacity/s", "share", "p50 ms", "p99 ms", "recovery s")
    made = table(
        "goodput under overload; median (range)", "cell", *heads, "retries", "budget", "refusals", "over slots"
    )
    targets = table("targets", "what", "found", "wanted", "verdict")
    for cell, worlds in found.items():
        seen = worlds["mesh"]
        digits = {"share": 2, "recovery_s": 2}
        names = ("offered", "goodput", "capacity", "share", "p50_ms", "p99_ms", "recovery_s", "retries", "budget")
        cells = [spread(seen.get(name, []), digits.get(name, 0)) for name in (*names, "refusals", "over_slots")]
        made.add_row(str(cell), *cells)
        if (wanted := TARGETS.get((cell.kind.partition("-")[0], int(cell.factor)))) is not None:
            targets.add_row(*verdict(f"goodput over capacity, {cell}", seen.get("share", []), wanted))
        targets.add_row(*verdict(f"recovery, s, {cell}", seen.get("recovery_s", []), 5, at_most=True))
        targets.add_row(*verdict(f"executions over slots, {cell}", seen.get("over_slots", []), 0, at_most=True))
    show(made, targets)


def main() -> None:
    """Measures, prints tables, writes JSON."""
    parser = argparse.ArgumentParser(description="Goodput under overload.")
    parser.add_argument("--kinds", choices=list(KINDS), nargs="+", default=["slots", "cpu"])
    parser.add_argument("--factors", type=float, nargs="+", default=[1, 2, 10])
    parser.add_argument("--seconds", type=float, default=8.0, help="length of the overload")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--unary", action="store_true", help="over unary calls, no muxes")
    chosen = parser.parse_args()
    prepare()
    cells = [Cell(kind, factor) for kind in chosen.kinds for factor in chosen.factors]
    repeats: Counter[Cell] = Counter()

    def one(world: str, cell: Cell) -> dict[str, float]:
        repeats[cell] += 1
        return measure(cell, chosen, repeats[cell])

    found = interleave(cells, lambda _: ["mesh"], chosen.repeats, one)
    report(found)
    listed = [{"kind": cell.kind, "factor": cell.factor, **worlds["mesh"]} for cell, worlds in found.items()]
    write("overload", {"machine": machine(), "settings": vars(chosen), "cells": listed})


if __name__ == "__main__":
    try:
        main()
    except PeerDied as error:
        raise SystemExit(f"error: {error}") from None
