"""The client of `bench_batch`: the same inputs through a batch, or through a number of callers that somebody guessed.

    python -m benchmarks._batch_ends REGISTRY SETTINGS

SETTINGS is JSON: `world` (`batch`, or callers as a number), `costs` (microseconds
of each input). Says `begun` at its first input, and at the end JSON: when each
execution started and ended by the agents' clock, which is this machine's, when
the inputs ran out, and how long items waited.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks._drive import clock
from benchmarks._ends import TIMEOUT, run


class Inputs:
    """The inputs, and when the last of them was taken."""

    def __init__(self, costs: list[int]) -> None:
        """None was taken."""
        self._costs = costs
        self.begun = self.fed = 0.0

    def __iter__(self) -> Iterator[Any]:
        """One after the other."""
        from bench.v1 import work_pb2

        self.begun = clock()
        print("begun", flush=True)
        for cost in self._costs:
            yield work_pb2.WorkInput(sleep_us=cost)
        self.fed = clock()


async def drive(registry: str, settings: dict[str, Any]) -> None:
    """All of them; says what came of it."""
    from atomesh.balancer import Client

    inputs = Inputs(settings["costs"])
    async with Client(registry, timeout=TIMEOUT) as mesh:
        await mesh.meet("work")
        if settings["world"] == "batch":
            spans, waits = await _batch(mesh, inputs)
        else:
            spans, waits = await _callers(mesh, inputs, int(settings["world"]))
    told = {
        "spans": spans,
        "begun": inputs.begun,
        "fed": inputs.fed,
        "ended": clock(),
        "wait_ms": 1000 * sum(waits) / len(waits),
    }
    print(json.dumps(told), flush=True)


async def _batch(mesh: Any, inputs: Inputs) -> tuple[list[tuple[float, float]], list[float]]:
    from atomesh.pipelines.batch import BatchSettings, open_batch

    spans, waits = [], []
    async with open_batch(mesh, "work", inputs, BatchSettings(item_timeout=TIMEOUT)) as batch:
        async for item in batch:
            spans.append((item.output.started, item.output.ended))
            waits.append(item.seconds - (item.output.ended - item.output.started))
    return spans, waits


async def _callers(mesh: Any, inputs: Inputs, callers: int) -> tuple[list[tuple[float, float]], list[float]]:
    spans, waits = [], []
    left = iter(inputs)

    async def caller() -> None:
        for message in left:
            begun = clock()
            output = await mesh.call("work", message)
            spans.append((output.started, output.ended))
            waits.append(clock() - begun - (output.ended - output.started))

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return spans, waits


if __name__ == "__main__":
    run(drive(sys.argv[1], json.loads(sys.argv[2])), "asyncio")
