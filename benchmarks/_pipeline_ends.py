"""The ends of `bench_pipelines`: three agents that do nothing, and a client that chains them by hand and by a runner.

    python -m benchmarks._pipeline_ends agents REGISTRY
    python -m benchmarks._pipeline_ends client REGISTRY STORE SETTINGS

The client goes through its worlds in turn, a slice of each at a time, in one
process over one client of the mesh: what differs between them is the runner.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks._ends import TIMEOUT, forever, payload

AGENTS = ("first", "second", "third")
Work = Callable[[], Awaitable[object]]


async def serve(registry: str) -> None:
    """The three agents, in one process."""
    from bench.v1 import echo_pb2

    from atomesh.agents import Agent, AgentServer, ExecutionContext

    class Same(Agent[echo_pb2.EchoInput, echo_pb2.EchoInput]):
        """Gives what it takes."""

        slots = 1024  # more than runs at once: this measures what a stage costs, not who waits
        idempotent = True

        async def execute(self, input: echo_pb2.EchoInput, context: ExecutionContext, /) -> echo_pb2.EchoInput:
            return input

    agents = [type("Same", (Same,), {"name": name})() for name in AGENTS]
    async with AgentServer(agents, registry=registry) as server:
        await server.registered.wait()
        await forever(server.address)


async def drive(registry: str, store_path: str, settings: dict[str, Any]) -> dict[str, list[float]]:
    """Microseconds for each chain of three, by world, one value per slice."""
    from bench.v1 import echo_pb2

    from atomesh.balancer import Client
    from atomesh.pipelines import Pipeline, Runner
    from atomesh.pipelines.store import open_store

    store = open_store(store_path)
    await store.open()
    async with Client(registry, timeout=TIMEOUT) as mesh, Runner(mesh) as bare, Runner(mesh, store=store) as kept:
        pipeline = Pipeline("chain")
        for name in AGENTS:
            pipeline.stage(name, name)
        plan = await pipeline.plan(mesh)
        message = echo_pb2.EchoInput(text=payload(settings["size"]))
        contracts = [step.target.contract for step in plan.steps]

        async def direct() -> None:
            output: Any = message
            for contract in contracts:
                output = await mesh.call(contract, output, timeout=TIMEOUT)

        async def run() -> None:
            await bare.run(plan, message, timeout=TIMEOUT)

        async def run_kept() -> None:
            await kept.run(plan, message, timeout=TIMEOUT)

        worlds: dict[str, Work] = {"direct": direct, "run": run, "kept": run_kept}
        spent: dict[str, list[float]] = {name: [] for name in worlds}
        for turn in range(-1, settings["slices"]):  # the first, which warms up, does not count
            for name in list(worlds) if turn % 2 else reversed(list(worlds)):
                took = await _slice(worlds[name], settings["chains"], settings["concurrency"])
                if turn >= 0:
                    spent[name].append(took)
    await store.close()
    return spent


async def _slice(work: Work, chains: int, concurrency: int) -> float:
    left = iter(range(chains))

    async def caller() -> None:
        for _ in left:
            await work()

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in itertools.repeat(None, concurrency)))
    return (time.perf_counter() - begun) / chains * 1e6


if __name__ == "__main__":
    if sys.argv[1] == "agents":
        asyncio.run(serve(sys.argv[2]))
    else:
        print(json.dumps(asyncio.run(drive(sys.argv[2], sys.argv[3], json.loads(sys.argv[4])))), flush=True)
