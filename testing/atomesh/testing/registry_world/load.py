"""Owners, watchers and askers around a registry, whoever runs it: that of a world, or a real one on a real network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

import grpc.aio

from atomesh.testing.history import Caller
from atomesh.testing.registry_world.ground import Notes
from atomesh.testing.registry_world.owners import Owner
from atomesh.testing.registry_world.scenario import OwnerPlan, WatcherPlan
from atomesh.testing.registry_world.watchers import Asker, Watcher

ASKERS = 2


class Load:
    """Works from its beginning to its end, and notes all of it.

    async with Load(notes, channel, owners, watchers) as load:
        ...                  # faults, as far as somebody makes some
        await load.rest()    # no owner does anything any more; watchers go on
    """

    def __init__(
        self,
        notes: Notes,
        channel: Callable[[str], grpc.aio.Channel],
        owners: Sequence[OwnerPlan],
        watchers: Sequence[WatcherPlan],
    ) -> None:
        """`channel` makes one to the registry for each name; they are closed here."""
        self._notes = notes
        self._channel = channel
        self._owners = owners
        self._watchers = watchers
        self._channels: list[grpc.aio.Channel] = []
        self._restless: list[asyncio.Task[None]] = []
        self._onlookers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Everybody begins."""
        notes = self._notes
        for owner in self._owners:
            work = Owner(owner, self._caller(owner.name), notes.clock, notes.rng(owner.name)).live()
            self._restless.append(_begin(owner.name, work))
        for watcher in self._watchers:
            self._onlookers.append(_begin(watcher.name, Watcher(watcher, self._caller(watcher.name), notes).live()))
        for name in (f"asker-{number + 1}" for number in range(ASKERS)):
            self._onlookers.append(_begin(name, Asker(self._caller(name), notes, notes.rng(name)).live()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Everybody ends."""
        try:
            await _end([*self._restless, *self._onlookers])
        finally:
            for channel in self._channels:
                await channel.close()

    async def rest(self) -> None:
        """Owners do nothing any more.

        Raises:
            Exception: one of them had ended with an error of its own.
        """
        restless, self._restless = self._restless, []
        await _end(restless)

    def _caller(self, name: str) -> Caller:
        channel = self._channel(name)
        self._channels.append(channel)
        return Caller(name, channel, self._notes.recorder)


def _begin(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work, name=name)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
