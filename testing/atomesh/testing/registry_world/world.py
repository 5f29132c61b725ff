"""A world of one registry: owners, watchers and askers around it, faults, and every promise held against the history."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections import Counter
from dataclasses import dataclass

import grpc.aio

from atomesh.testing.history import Fact, Recorder, Rules, Violation, WatchTold, check, digest
from atomesh.testing.memory import MemoryNetwork, run_hosts
from atomesh.testing.registry_world.contracts import BREAKING
from atomesh.testing.registry_world.faults import Fault
from atomesh.testing.registry_world.ground import Ground, WallClock
from atomesh.testing.registry_world.load import Load
from atomesh.testing.registry_world.registry import NAME, RegistryHost
from atomesh.testing.registry_world.rules import rules_of
from atomesh.testing.registry_world.scenario import Scenario

START = 100.0
"""The loop's time at the beginning: 0 would hide what takes it for unset."""
SLACK = 0.5
"""Seconds within which something is answered or told: ten times the longest way there and back, and a commit."""
AFTER_PARTITION = 3.5
"""Seconds after a partition in which what it held up still arrives: TCP's retransmission timer, doubled."""
_SMALLEST_CHANGE = 60
"""Bytes of a message with one change, at least; more fit into a window than of real ones."""
CRASHED = "the world"
"""In place of a promise, where a world has ended with an error of its own."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a world."""

    seed: int
    time: float
    facts: tuple[Fact, ...]
    counts: dict[str, int]
    """How many facts of each kind."""
    violations: tuple[Violation, ...]
    digest: str


class RegistryWorld:
    """Runs one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        """Inside a running HostLoop; nothing lives before `run`."""
        self.scenario = scenario
        clock = WallClock(loop=asyncio.get_running_loop())
        self.recorder = Recorder(clock.now, alias=True)
        self.recorder.note(_rules(scenario))
        network = MemoryNetwork(
            random.Random(f"network {scenario.seed}"), profile=scenario.link, window=scenario.window
        )
        ground = Ground(scenario.seed, clock, self.recorder, network=network, wall=clock)
        self.ground = ground
        self.registry = RegistryHost(ground, scenario)

    async def run(self) -> None:
        """From the first start to the last stop."""
        began = self.ground.clock.now()
        await self.registry.start()
        async with Load(self.ground, self._channel, self.scenario.owners, self.scenario.watchers) as load:
            for fault in self.scenario.faults:
                await self._suffer(fault, began)
            await self.ground.clock.sleep(max(0.0, began + self.scenario.seconds - self.ground.clock.now()))
            await load.rest()
            await self.ground.clock.sleep(self._last_lease())
        await self.registry.stop()
        await asyncio.gather(*self.registry.graves)

    # What faults do.

    def part(self, name: str) -> None:
        """Nothing gets from one to the registry, nor back."""
        self.ground.trouble("partition", name)
        self.ground.network.block(name, NAME)
        self.ground.network.block(NAME, name)

    def join(self, name: str) -> None:
        """Together again."""
        self.ground.network.heal(name, NAME)
        self.ground.network.heal(NAME, name)
        self.ground.over("partition", name, AFTER_PARTITION)

    def cut(self, name: str) -> None:
        """Resets what there is between one and the registry."""
        self.ground.trouble("cut", name)
        self.ground.network.cut(name, NAME)
        self.ground.over("cut", name, SLACK)

    def _channel(self, name: str) -> grpc.aio.Channel:
        return self.ground.network.host(name).channel(self.registry.address)

    async def _suffer(self, fault: Fault, began: float) -> None:
        clock = self.ground.clock
        await clock.sleep(max(0.0, began + fault.at - clock.now()))
        await fault.begin(self)
        await clock.sleep(fault.seconds)
        await fault.end(self)

    def _last_lease(self) -> float:
        """Seconds until the last lease must have ended, where nobody renews any more."""
        longest = max(plan.ttl for plan in self.scenario.owners)
        settings = self.scenario.settings
        return longest * (1 + settings.suspect_ttls) + 3 * settings.tick + 2 * SLACK


def _rules(scenario: Scenario) -> Rules:
    return rules_of(
        scenario.settings,
        slack=SLACK,
        straggling=AFTER_PARTITION,
        in_transit=scenario.window // _SMALLEST_CHANGE + 2,
        watched_commits=scenario.kept,
        breaking=BREAKING,
    )


def run_world(scenario: Scenario) -> Report:
    """Runs a scenario from beginning to end, in virtual time of its own, and checks its history."""
    worlds: list[RegistryWorld] = []

    async def live() -> None:
        worlds.append(RegistryWorld(scenario))
        await worlds[0].run()

    # Finalizers run when the collector says so, which is another time in every process.
    collects = gc.isenabled()
    gc.disable()
    muted = logging.getLogger("atomesh").level
    logging.getLogger("atomesh").setLevel(logging.CRITICAL + 1)
    crash: list[Violation] = []
    try:
        run_hosts(live(), start=START)
    except Exception as error:  # whatever ends a world has a seed and a history as well
        if not worlds:
            raise
        crash = [Violation(float("inf"), f"the world ends with {type(error).__name__}: {error}", CRASHED)]
    finally:
        logging.getLogger("atomesh").setLevel(muted)
        if collects:
            gc.enable()
    facts = tuple(worlds[0].recorder.facts)
    counts = Counter(type(fact).__name__ for fact in facts)
    told = [fact.at for fact in facts if isinstance(fact, WatchTold)]
    return Report(scenario.seed, max(told, default=0.0), facts, dict(counts), (*check(facts), *crash), digest(facts))
