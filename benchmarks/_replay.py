"""A trace through a real world: several clients in one process, calls sent when the trace says so.

    python -m benchmarks._replay WORLD TARGETS SETTINGS

WORLD is `mesh` (TARGETS the registry) or `raw` (the endpoints, in turn). SETTINGS
is JSON: `trace` (a file of [at, cost, client] lists), `share` ([number, of]: the
clients whose index is `number` modulo `of` are this process's), `policy`, `mux`.
It connects and says `{"round_trip": ...}`; told when the trace starts, it sends,
and says what became of each call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._drive import clock, replay
from benchmarks._ends import mesh, run

TIMEOUT = 60.0
"""Seconds for a call: longer than any policy that is stable lets one wait."""
TRIPS = 50
"""Calls of no cost, one after the other, of which the median is the round trip."""

Send = Callable[[float], Awaitable[Any]]
"""Sends one call of so many seconds; the answer says when and how fast it ran."""


Call = tuple[int, float, float, int]
"""Of a trace: its number in it, at, cost, client."""


async def run_trace(sends: dict[int, Send], arrivals: Sequence[Call], failure: type[Exception]) -> None:
    """Says the round trip, waits for the start, replays, says the outcomes.

    An outcome is a call's number, its wait and the speed that it ran at; a
    `failure` has the speed 0.
    """
    for send in sends.values():
        await send(0.0)  # connected, and watched
    trips = []
    for _ in range(TRIPS):
        begun = clock()
        await next(iter(sends.values()))(0.0)
        trips.append(clock() - begun)
    print(json.dumps({"round_trip": statistics.median(trips)}), flush=True)
    start = float(await asyncio.to_thread(sys.stdin.readline))
    outcomes: list[tuple[int, float, float]] = []
    reasons: list[str] = []

    async def one(which: int) -> None:
        number, at, cost, client = arrivals[which]
        try:
            answer = await sends[client](cost)
        except failure as error:
            outcomes.append((number, clock() - start - at, 0.0))
            reasons.append(f"{type(error).__name__}: {error}")
            return
        outcomes.append((number, clock() - start - at - (answer.ended - answer.started), answer.speed))

    await replay([at for _, at, _, _ in arrivals], start, one)
    print(json.dumps({"outcomes": outcomes, "failures": reasons[:3]}), flush=True)


@contextlib.asynccontextmanager
async def mesh_sends(registry: str, clients: Sequence[int], settings: dict[str, Any]) -> AsyncIterator[dict[int, Send]]:
    """A mesh client of its own for each."""
    from bench.v1 import work_pb2

    from atomesh.core import Contract

    work = Contract("work", work_pb2.WorkInput, work_pb2.WorkOutput)
    said = {"policy": settings["policy"]} if settings.get("policy") else {}

    def sender(client: Any) -> Send:
        return lambda cost: client.call(work, work_pb2.WorkInput(sleep_us=round(cost * 1e6)))

    async with contextlib.AsyncExitStack() as stack:
        made = {}
        for index in clients:
            client = mesh(registry, mux=settings["mux"], timeout=TIMEOUT, **said)
            made[index] = sender(await stack.enter_async_context(client))
        yield made


@contextlib.asynccontextmanager
async def bare_sends(addresses: Sequence[str], clients: Sequence[int]) -> AsyncIterator[dict[int, Send]]:
    """A channel for each client over all addresses, with gRPC's own round robin."""
    import grpc.aio
    from bench.v1 import work_pb2, work_pb2_grpc

    target = "ipv4:" + ",".join(addresses)
    options = [
        ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
        ("grpc.use_local_subchannel_pool", 1),
    ]

    def sender(channel: Any) -> Send:
        stub: Any = work_pb2_grpc.WorkServiceStub(channel)
        return lambda cost: stub.Execute(work_pb2.WorkInput(sleep_us=round(cost * 1e6)), timeout=TIMEOUT)

    async with contextlib.AsyncExitStack() as stack:
        made = {}
        for index in clients:
            made[index] = sender(await stack.enter_async_context(grpc.aio.insecure_channel(target, options)))
        yield made


def own_arrivals(settings: dict[str, Any]) -> list[Call]:
    """This process's share of the trace."""
    number, of = settings["share"]
    trace = json.loads(Path(settings["trace"]).read_text())
    return [(which, at, cost, client) for which, (at, cost, client) in enumerate(trace) if client % of == number]


async def main(world: str, targets: str, settings: dict[str, Any]) -> None:
    """Replays this process's share."""
    arrivals = own_arrivals(settings)
    clients = sorted({client for _, _, _, client in arrivals})
    if world == "mesh":
        from atomesh.core.errors import AtomeshError

        async with mesh_sends(targets, clients, settings) as sends:
            await run_trace(sends, arrivals, AtomeshError)
    else:
        import grpc.aio

        async with bare_sends(targets.split(","), clients) as sends:
            await run_trace(sends, arrivals, grpc.aio.AioRpcError)


if __name__ == "__main__":
    run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])), "asyncio")
