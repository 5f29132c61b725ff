"""A trace over real gRPC: endpoints and clients in processes of their own, one policy at a time."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks._central import Served
from benchmarks._drive import clock
from benchmarks._harness import Peer, Stage
from benchmarks._replay import TIMEOUT
from benchmarks._traces import Trace

PROCESSES = 2
"""Of clients, at most. Each holds many; more than cores would only wait for each other."""
HEAD_START = 0.3
"""Seconds from the word to the trace's start: more than a line needs to every process."""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a trace."""

    served: tuple[Served, ...]
    """What was answered, in no order."""
    failed: int
    round_trip: float
    """Seconds of a call that costs nothing, over the same way, with nothing else going on."""
    most_at_once: tuple[int, ...]
    """Of each endpoint's executions."""
    reason: str
    """Of one failure."""


def run_mesh(trace: Trace, policy: str, *, mux: bool) -> Run:
    """Through the mesh: a registry, an endpoint per site, clients with this policy."""
    with Stage() as stage:
        registry = stage.start("_ends", "registry").line()
        endpoints = [stage.start("_work", "agent", registry, site_settings(trace, n)) for n in range(len(trace.sites))]
        for endpoint in endpoints:
            endpoint.line()
        return replay(stage, trace, endpoints, ["mesh", registry], {"policy": policy, "mux": mux})


def run_bare(trace: Trace, python: str) -> Run:
    """Through plain grpc.aio: servers with a semaphore, gRPC's own round robin."""
    with Stage() as stage:
        endpoints = [
            stage.start("_work", "bare", site_settings(trace, n), python=python) for n in range(len(trace.sites))
        ]
        targets = ",".join([endpoint.line() for endpoint in endpoints])
        return replay(stage, trace, endpoints, ["raw", targets], {}, python)


def site_settings(trace: Trace, number: int) -> str:
    """What an endpoint's process is told of its site."""
    site = trace.sites[number]
    if site.away:
        raise ValueError("endpoints that come and go are for virtual time; real ones here stay")
    return json.dumps({"slots": site.slots, "speeds": site.speeds})


def replay(
    stage: Stage, trace: Trace, endpoints: Sequence[Peer], way: list[str], settings: dict[str, Any], python: str = ""
) -> Run:
    """Starts the clients, sends the trace, and gathers what became of it."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([(one.at, one.cost, one.client) for one in trace.arrivals], file)
        file.flush()
        of = min(PROCESSES, len({one.client for one in trace.arrivals}))
        own = {"python": python} if python else {}
        told = [{**settings, "trace": file.name, "share": (number, of)} for number in range(of)]
        clients = [stage.start("_replay", *way, json.dumps(one), **own) for one in told]
        trips = [json.loads(client.line())["round_trip"] for client in clients]
    return gather(trace, clients, endpoints, min(trips))


def gather(trace: Trace, clients: Sequence[Peer], endpoints: Sequence[Peer], round_trip: float) -> Run:
    """Gives the word, and makes one list of all clients' outcomes."""
    start = clock() + HEAD_START
    for peer in (*clients, *endpoints):
        peer.say(f"start {start}" if peer in endpoints else f"{start}")
    length = trace.arrivals[-1].at
    time.sleep(HEAD_START + length)
    outcomes: list[tuple[int, float, float]] = []
    reasons: list[str] = []
    for client in clients:
        said = json.loads(client.line(within=TIMEOUT + 30))
        outcomes += [(int(number), wait, speed) for number, wait, speed in said["outcomes"]]
        reasons += said["failures"]
    served = []
    for number, wait, speed in outcomes:
        cost = trace.arrivals[number].cost
        if speed:
            served.append(Served(max(0.0, wait), cost / speed, cost))
    return Run(tuple(served), len(outcomes) - len(served), round_trip, _most(endpoints), (reasons or [""])[0])


def _most(endpoints: Sequence[Peer]) -> tuple[int, ...]:
    for endpoint in endpoints:
        endpoint.say("report")
    return tuple(json.loads(endpoint.line())["most_at_once"] for endpoint in endpoints)
