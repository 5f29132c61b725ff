"""Every storage that a registry can have, and a registry with real gRPC on it that can be stopped and started again.

A storage is one entry of STORAGES: how it is made, and whether it keeps what
was committed. What a test does with a registry is noted, and after the test
every promise is held against the history.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc.aio
import pytest

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.registry import MemoryStorage, RegistryServer, RegistrySettings, SQLiteStorage
from atomesh.registry.errors import CommitFailed
from atomesh.registry.operations import Batch, Stored
from atomesh.registry.storage import Storage
from atomesh.testing.history import Caller, Recorder, Rules, Started, Stopped, Trouble, check
from atomesh.testing.registry_world import Notes, rules_of
from atomesh.testing.registry_world.contracts import BREAKING

SETTINGS = RegistrySettings(
    min_ttl=2.0,
    default_ttl=2.0,
    tick=0.2,
    bookmark_interval=1.0,
    history_changes=40,
    watch_queue=40,
    warm_within=1.0,
    probe_interval=0.0,  # callers here serve nothing that could be probed
)

SLACK = 3.0
"""Seconds within which something is answered or told, on a machine that may have other work."""


@dataclass(frozen=True)
class Kind:
    """A storage: `make` gives one on a folder, again and again on the same one."""

    name: str
    kept: bool
    make: Callable[[Path], Storage]


STORAGES = (
    Kind("memory", False, lambda _: MemoryStorage()),
    Kind("sqlite", True, lambda folder: SQLiteStorage(folder / "registry.db")),
)


class Refusing:
    """Any storage, whose commits fail while `full`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.full = False

    async def load(self) -> Stored:
        return await self._storage.load()

    async def commit(self, batch: Batch) -> None:
        if self.full:
            raise CommitFailed("no space left on the disk")
        await self._storage.commit(batch)

    async def close(self) -> None:
        await self._storage.close()


@dataclass
class Place:
    """Where registries run, one after the other."""

    kind: Kind
    folder: Path
    settings: RegistrySettings
    recorder: Recorder
    storage: Refusing = field(init=False)
    server: RegistryServer | None = None
    address: str = "127.0.0.1:0"
    starts: int = 0
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    async def start(self) -> None:
        began = SYSTEM_CLOCK.now()
        self.storage = Refusing(self.kind.make(self.folder))
        self.server = RegistryServer(storage=self.storage, bind=self.address, settings=self.settings)
        await self.server.start()
        self.address = self.server.address
        self.starts += 1
        kept = self.kind.kept or self.starts == 1
        self.recorder.note(Started(began=began, at=SYSTEM_CLOCK.now(), kept=kept))

    async def stop(self) -> None:
        if self.server is not None:
            server, self.server = self.server, None
            await server.stop()
            self.recorder.note(Stopped(at=SYSTEM_CLOCK.now(), killed=False))

    async def restart(self) -> None:
        began = SYSTEM_CLOCK.now()
        await self.stop()
        await self.start()
        self.trouble("stop", "registry", began, SYSTEM_CLOCK.now() + SLACK)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        began = SYSTEM_CLOCK.now()
        self.storage.full = True
        try:
            yield
        finally:
            self.storage.full = False
            self.trouble("full", "disk", began, SYSTEM_CLOCK.now())

    def trouble(self, kind: str, who: str, began: float, ended: float) -> None:
        self.recorder.note(Trouble(kind=kind, who=who, began=began, ended=ended))  # type: ignore[arg-type] # one of its kinds

    def channel(self, name: str) -> grpc.aio.Channel:
        del name
        return grpc.aio.insecure_channel(self.address, options=[("grpc.max_reconnect_backoff_ms", 500)])

    def caller(self, name: str) -> Caller:
        channel = self.channel(name)
        self.channels.append(channel)
        return Caller(name, channel, self.recorder)

    def notes(self, seed: int) -> Notes:
        return Notes(seed, SYSTEM_CLOCK, self.recorder)


def rules(settings: RegistrySettings) -> Rules:
    in_transit = 10_000  # gRPC's windows, and a socket's buffers on both sides
    return rules_of(settings, slack=SLACK, straggling=SLACK, in_transit=in_transit, breaking=BREAKING)


@contextlib.asynccontextmanager
async def placed(kind: Kind, folder: Path, settings: RegistrySettings = SETTINGS) -> AsyncIterator[Place]:
    """A registry that serves; when all is over, every promise is held against the history."""
    recorder = Recorder(SYSTEM_CLOCK.now)
    recorder.note(rules(settings))
    place = Place(kind, folder, settings, recorder)
    await place.start()
    try:
        yield place
    finally:
        for channel in place.channels:
            await channel.close()
        await place.stop()
    broken = check(recorder.facts)
    assert not broken, "every promise must be kept:\n" + "\n".join(map(str, broken[:8]))


@pytest.fixture(params=STORAGES, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found = request.param
    assert isinstance(found, Kind)
    return found


@pytest.fixture
def registry(kind: Kind, tmp_path: Path) -> Callable[..., contextlib.AbstractAsyncContextManager[Place]]:
    """`async with registry() as place:`."""

    def make(settings: RegistrySettings = SETTINGS) -> contextlib.AbstractAsyncContextManager[Place]:
        return placed(kind, tmp_path, settings)

    return make
