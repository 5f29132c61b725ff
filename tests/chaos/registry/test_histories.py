"""Real processes, killed, stopped and not read from; every promise is held against what their callers saw."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.registry import RegistrySettings
from atomesh.testing.history import (
    STATES,
    Caller,
    Evidence,
    Place,
    Recorder,
    Rules,
    Started,
    Stopped,
    Trouble,
    Wanted,
    WatchTold,
    check,
    from_lines,
)
from atomesh.testing.registry_world import rules_of
from atomesh.testing.registry_world.contracts import PLAIN
from atomesh.v1 import registry_pb2

WHOLE = Wanted(states=STATES)
SLACK = 5.0
"""Seconds within which something is answered or told: all processes of the test share two cores."""
SETTINGS: dict[str, Any] = {"probe_interval": 0.0, "bookmark_interval": 1.0, "warm_within": 1.0}
SLEEPER = Path(__file__).with_name("watch_slowly.py")


def rules(**settings: Any) -> Rules:
    said = RegistrySettings(**{"min_ttl": 1.0, "tick": 0.2, **SETTINGS, **settings})
    # A watch that nobody reads has gRPC's windows and the sockets' buffers on its way.
    return rules_of(said, slack=SLACK, straggling=SLACK, in_transit=20_000)


class History:
    """What is noted, and the callers that do."""

    def __init__(self, address: str, **settings: Any) -> None:
        self.recorder = Recorder(SYSTEM_CLOCK.now)
        self.recorder.note(rules(**settings))
        self.recorder.note(Started(began=SYSTEM_CLOCK.now(), at=SYSTEM_CLOCK.now(), kept=True))
        self._address = address
        self._channels: list[grpc.aio.Channel] = []

    def caller(self, name: str) -> Caller:
        self._channels.append(grpc.aio.insecure_channel(self._address))
        return Caller(name, self._channels[-1], self.recorder, timeout=10)

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    def trouble(self, kind: str, began: float, ended: float) -> None:
        self.recorder.note(Trouble(kind=kind, who="registry", began=began, ended=ended))  # type: ignore[arg-type] # one of its kinds

    def hold(self) -> Evidence:
        broken = check(self.recorder.facts)
        assert not broken, "every promise must be kept:\n" + "\n".join(map(str, broken[:8]))
        return Evidence(self.recorder.facts)


def spec(number: int) -> registry_pb2.EndpointSpec:
    """A new instance at one of 60 addresses: what is at it is superseded."""
    return registry_pb2.EndpointSpec(
        agent="alpha", address=f"10.0.0.1:{number % 60 + 1}", instance_id=f"instance-{number}"
    )


async def register_for_ever(caller: Caller, numbers: Iterator[int]) -> None:
    while True:
        await caller.register(spec(next(numbers)), PLAIN.proto, PLAIN.hash, 600.0)


async def follow(caller: Caller) -> None:
    """Watches everything, and goes on where it was."""
    place: Place | None = None
    while True:
        async with contextlib.aclosing(caller.watch(WHOLE, place)) as watch:
            async for told in watch:
                place = told.place
        await SYSTEM_CLOCK.sleep(0.05)


@contextlib.asynccontextmanager
async def at_work(*works: Any) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), f"no work may fail: {ended}"


async def test_kill_9_under_the_highest_rate_breaks_no_promise(tmp_path: Path, registry_process: Any) -> None:
    async with registry_process(tmp_path / "registry.db", **SETTINGS) as registry:
        history, numbers = History(registry.address), itertools.count()
        works = [register_for_ever(history.caller(f"owner-{n}"), numbers) for n in range(16)]
        async with at_work(*works, follow(history.caller("watcher-1")), follow(history.caller("watcher-2"))):
            for part in range(3):
                await SYSTEM_CLOCK.sleep(0.4 + 0.13 * part)
                killed = SYSTEM_CLOCK.now()
                history.recorder.note(Stopped(at=killed, killed=True))
                await registry.end(signal.SIGKILL)
                began = SYSTEM_CLOCK.now()
                await registry.start()
                history.recorder.note(Started(began=began, at=SYSTEM_CLOCK.now(), kept=True))
                history.trouble("kill", killed, SYSTEM_CLOCK.now() + SLACK)
            await SYSTEM_CLOCK.sleep(1.5)
        asker = history.caller("asker")
        leases = [call.lease for call in Evidence(history.recorder.facts).registers if call.done]
        for first in range(0, len(leases), 1000):
            await asker.renew(leases[first : first + 1000])
        found = await asker.discover(WHOLE)
        await history.close()
    assert len(found.shown) == 60
    evidence = history.hold()
    assert sum(call.done for call in evidence.registers) > 200, "there must have been something to lose"
    lost = [call for call in evidence.registers if not call.done]
    assert lost, "the kills must have come in the middle"


async def test_leases_outlive_a_registry_that_is_stopped(tmp_path: Path, registry_process: Any) -> None:
    async with registry_process(tmp_path / "registry.db", **SETTINGS) as registry:
        history = History(registry.address)
        owner = history.caller("owner")
        leases = [(await owner.register(spec(n), PLAIN.proto, PLAIN.hash, 2.0))[1] for n in range(6)]
        async with at_work(follow(history.caller("watcher"))):
            began = SYSTEM_CLOCK.now()
            registry.send(signal.SIGSTOP)
            await SYSTEM_CLOCK.sleep(4.5)
            registry.send(signal.SIGCONT)
            history.trouble("pause", began, SYSTEM_CLOCK.now())
            assert (await owner.renew(leases)).statuses == ("RENEWED",) * 6
            while (await owner.discover(WHOLE)).shown:
                await SYSTEM_CLOCK.sleep(0.2)
        await history.close()
    evidence = history.hold()
    (log,) = evidence.logs.values()
    assert sum(change.reason == "EXPIRED" for step in log.steps.values() for change in step) == 6


async def test_a_process_that_does_not_read_its_watch_is_reset_and_holds_up_nobody(
    tmp_path: Path, registry_process: Any
) -> None:
    settings = {"history_changes": 50, "watch_queue": 50}
    async with registry_process(tmp_path / "registry.db", **SETTINGS, **settings) as registry:
        history, numbers = History(registry.address, **settings), itertools.count()
        sleeper = await asyncio.create_subprocess_exec(
            *(sys.executable, str(SLEEPER), registry.address, str(tmp_path / "seen.jsonl")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert sleeper.stdin is not None
        assert sleeper.stdout is not None
        await sleeper.stdout.readline()
        works = [register_for_ever(history.caller(f"owner-{n}"), numbers) for n in range(16)]
        async with at_work(*works, follow(history.caller("watcher"))):
            while next(numbers) < 4000:  # enough for every buffer on the way
                await SYSTEM_CLOCK.sleep(0.05)
        sleeper.stdin.write(b"read\n")
        await SYSTEM_CLOCK.sleep(1.5)
        sleeper.stdin.write(b"enough\n")
        await sleeper.communicate()
        await history.close()
    with (tmp_path / "seen.jsonl").open() as lines:
        seen = list(from_lines(lines))
    history.recorder.facts.extend(seen)
    history.hold()
    reasons = [fact.reason for fact in seen if isinstance(fact, WatchTold) and fact.kind == "reset"]
    assert reasons == ["FIRST", "SLOW_WATCHER"]
