"""Who looks: watchers that follow, nap, leave and resume, and askers that take snapshots."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator

from atomesh.testing.history import Caller, Place, WatchTold
from atomesh.testing.registry_world.ground import Notes
from atomesh.testing.registry_world.scenario import AGENTS, WHOLE, WatcherPlan, random_wanted

SILENCE = 10.0
"""Seconds without a message after which a watch is begun again: more than three bookmarks."""
_AGAIN = 0.2


class Watcher:
    """Follows one selector for as long as the world lasts."""

    def __init__(self, plan: WatcherPlan, caller: Caller, notes: Notes) -> None:
        """It does nothing before `live`."""
        self._plan = plan
        self._caller = caller
        self._notes = notes
        self._rng = notes.rng(plan.name)
        self._places: list[Place] = []

    async def live(self) -> None:
        """Watch after watch."""
        while True:
            watch = self._caller.watch(self._plan.wanted, self._after())
            async with contextlib.aclosing(watch):
                await self._follow(watch)
            await self._notes.clock.sleep(_AGAIN * self._rng.uniform(0.5, 4.0))

    async def _follow(self, watch: AsyncGenerator[WatchTold, None]) -> None:
        leaves = self._plan.leaves * self._rng.uniform(0.3, 2.0)
        until = self._notes.clock.now() + leaves if leaves else float("inf")
        with contextlib.suppress(StopAsyncIteration, TimeoutError):
            while self._notes.clock.now() < until:
                async with asyncio.timeout(SILENCE):
                    told = await anext(watch)
                self._places.append(told.place)
                if self._plan.naps and self._rng.random() < 0.2:
                    await self._nap()

    async def _nap(self) -> None:
        self._notes.trouble("unread", self._plan.name)
        try:
            await self._notes.clock.sleep(self._plan.naps * self._rng.uniform(0.3, 1.5))
        finally:
            self._notes.over("unread", self._plan.name)

    def _after(self) -> Place | None:
        """Where it left, mostly; else the start, long ago, the future, or another store."""
        if not self._places:
            return None
        drawn, last = self._rng.random(), self._places[-1]
        if drawn < 0.75:
            return last
        if drawn < 0.85:
            return self._rng.choice(self._places[-40:])
        if drawn < 0.90:
            return Place(last.store, last.revision + 1_000_000)
        if drawn < 0.93:
            return Place("f" * 32, last.revision)
        return None


class Asker:
    """Takes snapshots, and asks for the contracts of what it sees."""

    def __init__(self, caller: Caller, notes: Notes, rng: random.Random) -> None:
        """It does nothing before `live`."""
        self._caller = caller
        self._notes = notes
        self._rng = rng

    async def live(self) -> None:
        """Question after question."""
        while True:
            wanted = WHOLE if self._rng.random() < 0.5 else random_wanted(self._rng)
            call = await self._caller.discover(wanted)
            if call.shown and self._rng.random() < 0.5:
                await self._caller.get_contract(contract_hash=self._rng.choice(call.shown).contract)
            elif self._rng.random() < 0.2:
                await self._caller.get_contract(agent=self._rng.choice(AGENTS))
            await self._notes.clock.sleep(self._rng.uniform(0.1, 1.0))
