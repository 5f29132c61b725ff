"""Those who watch, in bench_registry, a process of its own: `python -m benchmarks._registry_watchers SETTINGS`.

SETTINGS (JSON): `address`, `servers` (pids that count), `measured` (`changes` or
`memory`), `streams`, `connections` (0: one for each stream), `distinct` (whether
selectors differ), for changes `changes` and `gap`,
for memory `settle` (seconds before it is read). Answers stay bytes, and of
those only the first is looked at, which says what kind of step it is; even so a
message costs this process about as much as it costs the sender, on the same
machine. What a change would take if the registry did nothing but send is what
the raw server shows, to the same receivers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from atomesh.v1 import registry_pb2
from benchmarks import _registry_messages as messages
from benchmarks._drive import clock, cpu_seconds, pause, percentile, resident_bytes
from benchmarks._ends import TIMEOUT, run
from benchmarks._registry_load import SERVICE, Connections, Send

RESET, CHANGES = 0x0A, 0x12
"""The first byte of a WatchResponse: the tag of what it carries (fields 1 and 2, length-delimited)."""
WARM = 50
"""Streams that are there before memory is read first: they pay for code and pools."""
MOMENTS = ("ack", "first", "last", "after_ack")
"""From the sending of a change to its acknowledgement, to the first and to the last watcher; to the last from the acknowledgement."""
SKIPPED = 3
"""Changes that do not count: the first ones find cold code."""


class Audience:
    """So many streams, and when a change came to the first and to the last of them."""

    def __init__(self, size: int) -> None:
        """Nobody follows yet."""
        self._size = size
        self._begun = 0
        self._all_begun = asyncio.Event()
        self.first = self.last = 0.0
        self._told = 0
        self._all_told = asyncio.Event()

    async def follow(self, stream: AsyncIterator[bytes]) -> None:
        """Reads for as long as there is something to read."""
        begun = False
        async for raw in stream:
            if raw[0] == CHANGES:
                self._tell()
            elif raw[0] == RESET and not begun:
                begun = True
                self._begin()
        raise RuntimeError("a watch has ended")

    def _begin(self) -> None:
        self._begun += 1
        if self._begun == self._size:
            self._all_begun.set()

    def _tell(self) -> None:
        now = clock()
        if self._told == 0:
            self.first = now
        self._told += 1
        if self._told == self._size:
            self.last = now
            self._all_told.set()

    def expect(self) -> None:
        """The next change is about to be made."""
        self._told = 0
        self._all_told.clear()

    async def told(self) -> None:
        """Returns when everybody has the change.

        Raises:
            TimeoutError: somebody has not, within the time that a call may take.
        """
        async with asyncio.timeout(TIMEOUT):
            await self._all_told.wait()

    async def begun(self) -> None:
        """Returns when everybody has its Reset.

        Raises:
            TimeoutError: somebody has not, within four times what a call may take.
        """
        async with asyncio.timeout(4 * TIMEOUT):
            await self._all_begun.wait()


class Watching:
    """Streams that are open, and the tasks that read them."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """Nothing is open yet."""
        self._settings = settings
        self._tasks: list[asyncio.Task[None]] = []
        self._connections: list[Connections] = []
        self._numbers = itertools.count()

    async def open(self, streams: int) -> Audience:
        """That many more, all of which have their Reset."""
        audience = Audience(streams)
        connections = Connections(self._settings["address"], self._settings["connections"] or streams)
        self._connections.append(connections)
        calls: list[Any] = [channel.unary_stream(f"{SERVICE}Watch") for channel in connections.channels]
        for call in itertools.islice(itertools.cycle(calls), streams):
            request = messages.watch(next(self._numbers), distinct=self._settings["distinct"])
            self._tasks.append(asyncio.create_task(audience.follow(call(request))))
        begun = asyncio.create_task(audience.begun())
        done, _ = await asyncio.wait([begun, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        return audience


async def changes(settings: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds from sending a change to its acknowledgement, to the first and to the last watcher; CPU of both sides."""
    changer = Connections(settings["address"], 1)
    lease = await _endpoints(changer.method("Register"))
    update = changer.method("Update")
    audience = await Watching(settings).open(settings["streams"])
    rows: list[tuple[float, ...]] = []
    before, counted = [0.0, 0.0], 0.0
    for number in range(-SKIPPED, settings["changes"]):
        if number == 0:
            before, counted = _cpu(settings), clock()
        await pause(settings["gap"])
        request = messages.update(lease, 0, f"change-{number % 2}")
        audience.expect()
        begun = clock()
        answer = asyncio.create_task(_when(update(request)))
        await audience.told()
        acknowledged = await answer
        rows.append((acknowledged - begun, audience.first - begun, audience.last - begun, audience.last - acknowledged))
    client, server = (after - at for after, at in zip(_cpu(settings), before, strict=True))
    sent = settings["changes"] * settings["streams"]
    found: dict[str, Any] = {
        "messages_per_s": sent / (clock() - counted),
        "client_cpu_us": client / sent * 1e6,
        "server_cpu_us": server / sent * 1e6,
    }
    for name, column in zip(MOMENTS, zip(*rows[SKIPPED:], strict=True), strict=True):
        ordered = sorted(column)
        found[f"{name}_p50_ms"], found[f"{name}_p99_ms"] = (percentile(ordered, share) * 1e3 for share in (0.5, 0.99))
        found[f"{name}_ms"] = [round(value * 1e3, 3) for value in column]
    return found


async def _when(call: Any) -> float:
    await call
    return clock()


async def _endpoints(register: Send) -> str:
    """One agent's endpoints; the lease of the first, as its owner learns it."""
    answers = [await register(messages.registration(number, "lean")) for number in range(messages.SIBLINGS)]
    return str(registry_pb2.RegisterResponse.FromString(answers[0]).lease_id)


def _cpu(settings: dict[str, Any]) -> list[float]:
    return [cpu_seconds(os.getpid()), sum(map(cpu_seconds, settings["servers"]))]


async def memory(settings: dict[str, Any]) -> dict[str, Any]:
    """Bytes that a watch takes at each side, once it has its Reset."""
    changer = Connections(settings["address"], 1)
    await _endpoints(changer.method("Register"))
    watching = Watching(settings)
    kept = [await watching.open(WARM)]
    before = await _sizes(settings)
    kept.append(await watching.open(settings["streams"]))
    after = await _sizes(settings)
    client, server = ((late - early) / settings["streams"] for early, late in zip(before, after, strict=True))
    return {"client": client, "server": server}


async def _sizes(settings: dict[str, Any]) -> list[int]:
    await pause(settings["settle"])
    gc.collect()
    return [resident_bytes(os.getpid()), sum(map(resident_bytes, settings["servers"]))]


async def main(settings: dict[str, Any]) -> None:
    """Measures, says the figures, and ends with everything open: nothing that counts happens at the end."""
    with contextlib.suppress(BrokenPipeError):
        found = await (memory if settings["measured"] == "memory" else changes)(settings)
        print(json.dumps(found), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    run(main(json.loads(sys.argv[1])), "asyncio")
