"""The registry of a world: the real one, on a host that can be killed, stopped and starved."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from atomesh.registry.server import RegistryServer
from atomesh.registry.storage import MemoryStorage, Storage
from atomesh.testing.history import Started, Stopped
from atomesh.testing.registry_world.disk import Disk, DiskStorage
from atomesh.testing.registry_world.ground import Ground
from atomesh.testing.registry_world.scenario import Scenario

PORT = 7400
NAME = "registry"
RECONNECTING = 3.0
"""Seconds after a registry is back in which callers may still wait to connect: gRPC's backoff, at most 2 s, its jitter, and the way there."""
_STOP_SECONDS = 30.0  # for a registry to stop, with a slow disk
_KILL_SECONDS = 10.0  # for the tasks of a dead process to end


class RegistryHost:
    """Runs one registry after the other at one address."""

    def __init__(self, ground: Ground, scenario: Scenario) -> None:
        """Nothing runs yet."""
        self._ground = ground
        self._scenario = scenario
        self._ids = (f"{number:032x}" for number in itertools.count(0x5706E))
        self._disk = Disk(
            next(self._ids),
            ground.rng("disk"),
            superseded_kept=scenario.settings.superseded_kept,
            slowness=scenario.commit_seconds,
        )
        self._host = ground.network.host(NAME)
        self._storage: DiskStorage | None = None
        self._server: RegistryServer | None = None
        self._starts = 0
        self.address = f"{self._host.ip}:{PORT}"
        self.graves: list[asyncio.Task[Any]] = []

    async def start(self) -> None:
        """Serves, unless it does already; on a new host where the last one died."""
        if self._server is not None:
            return
        ground = self._ground
        self._host = self._host if self._host.alive else ground.network.host(NAME)
        began, self._starts = ground.clock.now(), self._starts + 1
        server = RegistryServer(
            storage=self._open(),
            bind=self.address,
            settings=self._scenario.settings,
            clock=ground.clock,
            rng=ground.rng(f"registry {self._starts}"),
            network=self._host,
        )
        await self._host.spawn(server.start(), "start registry")
        self._server = server
        kept = self._scenario.kept or self._starts == 1
        ground.recorder.note(Started(began=began, at=ground.clock.now(), kept=kept))
        for kind in ("kill", "stop"):
            ground.over(kind, NAME, RECONNECTING)

    async def stop(self) -> None:
        """As SIGTERM.

        Raises:
            TimeoutError: it does not end.
        """
        server, self._server = self._server, None
        if server is not None:
            self._ground.trouble("stop", NAME)
            async with asyncio.timeout(_STOP_SECONDS):
                await self._host.spawn(server.stop(), "stop registry")
            self._ground.recorder.note(Stopped(at=self._ground.clock.now(), killed=False))

    def kill(self) -> None:
        """As SIGKILL."""
        server, self._server = self._server, None
        if server is None:
            return
        self._ground.trouble("kill", NAME)
        self._ground.recorder.note(Stopped(at=self._ground.clock.now(), killed=True))
        if self._storage is not None:
            self._storage.kill()
        self._ground.network.kill(self._host)
        self.graves.append(self._host.spawn(_bury(server), "grave of the registry"))

    def pause(self) -> None:
        """As SIGSTOP."""
        self._ground.trouble("pause", NAME)
        self._ground.network.pause(self._host)

    def resume(self) -> None:
        """As SIGCONT."""
        self._ground.network.resume(self._host)
        self._ground.over("pause", NAME)

    def fill(self) -> None:
        """No space is left on the disk."""
        self._ground.trouble("full", "disk")
        self._disk.full = True

    def clear(self) -> None:
        """There is space again."""
        self._disk.full = False
        self._ground.over("full", "disk")

    def slow_down(self, longest: float) -> None:
        """A commit takes up to so many seconds."""
        self._ground.trouble("slow", "disk")
        self._disk.slowness = longest

    def speed_up(self) -> None:
        """As before; what is under way may still take as long."""
        longest, self._disk.slowness = self._disk.slowness, self._scenario.commit_seconds
        self._ground.over("slow", "disk", longest)

    def jump(self, by: float) -> None:
        """Somebody sets the wall clock of its machine."""
        self._ground.trouble("jump", "clock")
        self._ground.wall.offset += by
        self._ground.over("jump", "clock")

    def _open(self) -> Storage:
        if not self._scenario.kept:
            return MemoryStorage(new_store_id=lambda: next(self._ids))
        self._storage = DiskStorage(self._disk, self._ground.clock, self._ground.recorder)
        return self._storage


async def _bury(server: RegistryServer) -> None:
    async with asyncio.timeout(_KILL_SECONDS):
        await server.stop()
