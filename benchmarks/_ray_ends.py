"""Ray Serve in a process tree of its own, driven as every other world is; runs in an environment that has Ray.

    python -m benchmarks._ray_ends echo SETTINGS
    python -m benchmarks._ray_ends trace SETTINGS

`echo`: closed loops at one replica. `trace`: a trace through as many replicas as
it has endpoints, `max_ongoing_requests` being the slots. All clients are one
handle in one process, which sees all its own calls: a client that knows more
than eight separate ones do. Calls go by the deployment handle, Ray's own way
from Python to Python, without HTTP. Says its figures, ends Ray, says `closed`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"}

import ray
from ray import serve

from benchmarks._drive import Loops, clock, measure, pause
from benchmarks._ends import payload
from benchmarks._replay import own_arrivals, run_trace

OBJECT_STORE = 100 << 20
"""Bytes; calls of this size travel outside of it."""


class Echo:
    """The text, back."""

    async def __call__(self, text: str) -> str:
        """The text."""
        return text


class Work:
    """Sleeps for as long as it is told."""

    async def __call__(self, cost: float) -> tuple[float, float]:
        """When it began and ended."""
        started = clock()
        if cost:
            await pause(cost)
        return started, clock()


@dataclass(frozen=True, slots=True)
class Answer:
    """As WorkOutput."""

    started: float
    ended: float
    speed: float = 1.0


@asynccontextmanager
async def deployed(application: Any) -> AsyncIterator[Any]:
    """Its handle."""
    ray.init(
        num_cpus=8, object_store_memory=OBJECT_STORE, include_dashboard=False, log_to_driver=False,
        logging_level=logging.ERROR,
    )  # fmt: skip
    handle = await asyncio.to_thread(serve.run, application, name="bench", route_prefix=None)
    try:
        yield handle
    finally:
        await asyncio.to_thread(serve.shutdown)
        ray.shutdown()


def descendants() -> list[int]:
    """All processes below this one: the raylet, the control store, controller, replicas."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it has ended meanwhile
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


async def echo(settings: dict[str, Any]) -> None:
    """Closed loops, as in every world."""
    async with deployed(serve.deployment(Echo).options(max_ongoing_requests=1024).bind()) as handle:
        loops = []
        for size, tasks in settings["loops"]:
            text = payload(size)
            await handle.remote(text)
            loops.append(Loops(lambda text=text: _awaited(handle, text), tasks))  # type: ignore[misc] # bound, not late
        print(json.dumps(await measure(loops, settings["seconds"], descendants())), flush=True)


async def _awaited(handle: Any, value: Any) -> Any:
    return await handle.remote(value)


async def trace(settings: dict[str, Any]) -> None:
    """A trace, as in every world."""
    work = serve.deployment(Work).options(
        num_replicas=settings["replicas"],
        max_ongoing_requests=settings["slots"],
        ray_actor_options={"num_cpus": 0.1},
    )
    async with deployed(work.bind()) as handle:

        async def send(cost: float) -> Answer:
            return Answer(*await handle.remote(cost))

        arrivals = own_arrivals(settings)
        await run_trace({client: send for _, _, _, client in arrivals}, arrivals, Exception)


if __name__ == "__main__":
    words = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray prints is for people
    sys.stdout = words
    asyncio.run({"echo": echo, "trace": trace}[sys.argv[1]](json.loads(sys.argv[2])))
    print("closed", flush=True)
