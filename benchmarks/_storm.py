"""Clients that send more than can be served: open-loop arrivals, each call with its deadline.

    python -m benchmarks._storm REGISTRY SETTINGS

SETTINGS is JSON: `phases` ([[seconds, calls per second], ...]), `seed`, `clients`
(how many in this process), `deadline` (seconds), `sleep_us`, `spin_us`, `mux`. It
connects and says `ready`; told when it starts, it sends Poisson arrivals and says
what became of them and what the clients counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
from collections import Counter
from typing import Any

from benchmarks._drive import Loops, clock, measure, replay
from benchmarks._ends import mesh, run
from benchmarks._traces import poisson


def arrivals(phases: list[tuple[float, float]], rng: random.Random) -> list[float]:
    """Poisson times of all phases, one after the other."""
    times: list[float] = []
    begun = 0.0
    for seconds, rate in phases:
        times += [begun + at for at in poisson(rng, rate, seconds)]
        begun += seconds
    return times


class Storm:
    """One process's clients, and what became of their calls."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Nothing is sent yet."""
        from bench.v1 import work_pb2

        from atomesh.core import Contract

        self._settings = settings
        self._contract = Contract("work", work_pb2.WorkInput, work_pb2.WorkOutput)
        self._message = work_pb2.WorkInput(sleep_us=settings["sleep_us"], spin_us=settings["spin_us"])
        self._nothing = work_pb2.WorkInput()
        self._calls: list[tuple[float, float, float]] = []
        """When it was due, when it ended, and its service: 0 where it failed."""
        self._failures: Counter[str] = Counter()

    async def main(self, registry: str) -> None:
        """Connects, waits for the start, sends, says what came of it."""
        from atomesh.balancer import ClientMetrics

        settings = self._settings
        metrics = [ClientMetrics() for _ in range(settings["clients"])]
        async with contextlib.AsyncExitStack() as stack:
            clients: list[Any] = []
            for one in metrics:
                client = mesh(registry, mux=settings["mux"], timeout=settings["deadline"], metrics=one)
                clients.append(await stack.enter_async_context(client))
                await client.call(self._contract, self._nothing, timeout=10)
            if settings.get("closed"):
                await self._closed_loop(clients, settings["closed"])
                return
            print("ready", flush=True)
            start = float(await asyncio.to_thread(sys.stdin.readline))
            times = arrivals(settings["phases"], random.Random(settings["seed"]))

            async def one_call(which: int) -> None:
                await self._call(clients[which % len(clients)], start, times[which])

            await replay(times, start, one_call)
            said = {"calls": self._calls, "failures": self._failures, "counted": counted(metrics)}
            print(json.dumps(said), flush=True)

    async def _closed_loop(self, clients: list[Any], tasks: int) -> None:
        """What the endpoint can do for tasks that wait for each answer: its capacity."""
        each = [
            Loops(lambda client=client: client.call(self._contract, self._message, timeout=30), tasks)  # type: ignore[misc] # bound, not late
            for client in clients
        ]
        found = await measure(each, 2.0, ())
        print(json.dumps({"rate": sum(value for name, value in found.items() if name.startswith("rate"))}), flush=True)

    async def _call(self, client: Any, start: float, due: float) -> None:
        from atomesh.core.errors import AtomeshError

        try:
            answer = await client.call(self._contract, self._message)
        except AtomeshError as error:
            self._failures[type(error).__name__] += 1
            self._calls.append((due, clock() - start, 0.0))
        else:
            self._calls.append((due, clock() - start, answer.ended - answer.started))


def counted(metrics: list[Any]) -> dict[str, float]:
    """Retries, hedges, and attempts by how they ended, of all clients together."""
    found: Counter[str] = Counter()
    for one in metrics:
        for family in one.registry.collect():
            for sample in family.samples:
                if sample.name == "atomesh_client_attempts_total":
                    found[f"attempts {sample.labels['reason']}"] += sample.value
                elif sample.name.endswith(("_retries_total", "_hedges_total", "_rejects_total")):
                    found[sample.name.split("_")[-2]] += sample.value
    return dict(found)


if __name__ == "__main__":
    run(Storm(json.loads(sys.argv[2])).main(sys.argv[1]), "asyncio")
