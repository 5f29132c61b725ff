"""The clients of bench_memory, each a process of its own.

    python -m benchmarks._memory_ends cancels REGISTRY SETTINGS
    python -m benchmarks._memory_ends idle ADDRESS SETTINGS

They read their own resident memory and that of the servers (`servers` in
SETTINGS, JSON) and say what they read.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks._drive import clock, pause, resident_bytes
from benchmarks._ends import TIMEOUT, mesh, payload, run

TASKS = 64
"""Calls at once: four per slot, so that calls are cancelled while parked, bound and running."""
READINGS = 40


async def cancels(registry: str, settings: dict[str, Any]) -> None:
    """So many calls, a share of them cancelled at some moment of their lives; memory as they go."""
    from bench.v1 import work_pb2

    from atomesh.core import Contract

    contract = Contract("work", work_pb2.WorkInput, work_pb2.WorkOutput)
    rng = random.Random(settings["seed"])
    readings: list[tuple[int, int, int]] = []
    counts = {"begun": 0, "cancelled": 0}
    every = settings["calls"] // READINGS

    def read() -> None:
        gc.collect()  # cycles that wait for the collector are no leak
        sizes = [resident_bytes(pid) for pid in (os.getpid(), *settings["servers"])]
        readings.append((counts["begun"], sizes[0], sum(sizes[1:])))

    async with mesh(registry, mux=settings["mux"], timeout=TIMEOUT) as client:

        async def loop() -> None:
            while counts["begun"] < settings["calls"]:
                counts["begun"] += 1
                if counts["begun"] % every == 0:
                    read()
                call = asyncio.ensure_future(client.call(contract, work_pb2.WorkInput(sleep_us=rng.randrange(300))))
                if rng.uniform(0, 1) < settings["cancelled"]:
                    await pause(rng.uniform(0, 0.01))
                    counts["cancelled"] += call.cancel()
                await asyncio.wait([call])
                if not call.cancelled():
                    call.result()

        await asyncio.gather(*(loop() for _ in range(TASKS)))
        await client.call(contract, work_pb2.WorkInput())  # it works still
    print(json.dumps({"readings": readings, "cancelled": counts["cancelled"]}), flush=True)


class Watcher:
    """Told of everything by a subchannel or a mux, and interested in nothing."""

    def connection(self, subchannel: Any) -> None:
        """A state has changed."""

    def granted(self, *grant: Any) -> None:
        """A slot that nobody asked for."""

    def loaded(self, *load: Any) -> None:
        """News of load."""

    def changed(self) -> None:
        """A stream has changed."""

    async def answers(self) -> bool:
        """It has a mux, and nothing else is asked of it."""
        return False


async def idle(address: str, settings: dict[str, Any]) -> None:
    """So many muxes, each used once and then idle; what each costs both sides."""
    make = own_connections if settings["connections"] else one_connection
    before = await sizes_after(make(address, settings["warm"]), settings)
    after = await sizes_after(make(address, settings["muxes"]), settings)
    each = [(b - a) / settings["muxes"] for a, b in zip(before, after, strict=True)]
    print(json.dumps({"client": each[0], "server": each[1]}), flush=True)


async def sizes_after(opening: Awaitable[object], settings: dict[str, Any]) -> list[int]:
    """Opens, lets everything settle, and reads both sides' memory."""
    kept.append(await opening)
    await pause(settings["settle"])
    gc.collect()
    return [resident_bytes(os.getpid()), sum(resident_bytes(pid) for pid in settings["servers"])]


kept: list[object] = []
"""What was opened: it stays open until the process ends."""


async def own_connections(address: str, count: int) -> object:
    """Muxes that each have a connection of their own, as those of as many clients have."""
    from bench.v1 import echo_pb2

    from atomesh.balancer.subchannel import Subchannel
    from atomesh.balancer.work import Work
    from atomesh.core.clock import SYSTEM_CLOCK
    from atomesh.core.context import Context
    from atomesh.core.endpoint import Endpoint
    from atomesh.rpc.credentials import PLAINTEXT

    endpoint = Endpoint("echo", address)
    made = [Subchannel(endpoint, PLAINTEXT, Watcher(), SYSTEM_CLOCK) for _ in range(count)]
    end = clock() + TIMEOUT
    for subchannel in made:
        while subchannel.stream is None:
            await pause(0.005)
            if clock() > end:
                raise RuntimeError(f"a mux did not come about within {TIMEOUT:.0f} s")
        work = Work("echo", Context().with_request_id(), echo_pb2.EchoInput(text=payload(300)))
        await subchannel.execute(work, SYSTEM_CLOCK.now() + TIMEOUT, grant=None, returns=False)
    return made


async def one_connection(address: str, count: int) -> object:
    """Muxes that share a connection, as those of one client for several agents of a process may."""
    from bench.v1 import echo_pb2

    from atomesh.balancer.work import Work
    from atomesh.core import Context
    from atomesh.core.clock import SYSTEM_CLOCK
    from atomesh.rpc.channel import open_channel
    from atomesh.rpc.mux.client import MuxClient
    from atomesh.v1 import agent_pb2_grpc, mux_pb2

    channel = open_channel(address)
    mux: Callable[[], Any] = agent_pb2_grpc.AgentServiceStub(channel).Mux
    made = []
    work = Work("echo", Context.begun(0.0), echo_pb2.EchoInput(text=payload(300)))
    for _ in range(count):
        client = MuxClient(address, mux, lambda: mux_pb2.MuxOpen(agent="echo"), Watcher(), SYSTEM_CLOCK)
        client.connected(True)
        while client.current is None:
            await pause(0.001)
        await client.current.call(work, SYSTEM_CLOCK.now() + TIMEOUT, granted=False, returns=False)
        made.append(client)
    return channel, made


if __name__ == "__main__":
    role = {"cancels": cancels, "idle": idle}[sys.argv[1]]
    run(role(sys.argv[2], json.loads(sys.argv[3])), "asyncio")
