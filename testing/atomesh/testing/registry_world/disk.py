"""A store that survives its registry: what was committed, and nothing else, is there after a kill."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from atomesh.core.clock import Clock
from atomesh.core.contract import ContractDescriptor
from atomesh.registry.errors import CommitFailed, StoreInUse
from atomesh.registry.operations import Batch, Entry, Key, Stored
from atomesh.testing.history import Committed, Recorder


@dataclass(slots=True)
class Disk:
    """What is on it, and what is wrong with it."""

    store_id: str
    rng: random.Random
    superseded_kept: int
    slowness: float = 0.0
    """A commit takes up to so many seconds."""
    full: bool = False
    revision: int = 0
    entries: dict[Key, Entry] = field(default_factory=dict)
    contracts: dict[str, ContractDescriptor] = field(default_factory=dict)
    superseded: dict[str, None] = field(default_factory=dict)
    holder: DiskStorage | None = None

    def put(self, batch: Batch) -> None:
        """All of a batch."""
        for key in batch.removed:
            self.entries.pop(key, None)
        for entry in batch.put:
            # What a renewal tells is in memory alone, as with every store.
            self.entries[entry.key] = replace(entry, endpoint=replace(entry.endpoint, load=None, recent=None))
        self.contracts.update((contract.hash, contract) for contract in batch.contracts)
        for name in batch.dropped_contracts:
            self.contracts.pop(name, None)
        self.superseded.update(dict.fromkeys(batch.superseded))
        while len(self.superseded) > self.superseded_kept:
            del self.superseded[next(iter(self.superseded))]
        self.revision = batch.revision


class DiskStorage:
    """One registry's hold on a disk: a `registry.storage.Storage`."""

    def __init__(self, disk: Disk, clock: Clock, recorder: Recorder) -> None:
        """Holds nothing before `load`."""
        self._disk = disk
        self._clock = clock
        self._recorder = recorder
        self._under_way: tuple[float, Batch] | None = None
        self._dead = False

    async def load(self) -> Stored:
        """All that was ever committed.

        Raises:
            StoreInUse: another registry holds it.
        """
        if self._disk.holder not in (None, self):
            raise StoreInUse("the disk is held by another registry; a world must end one before the next")
        self._disk.holder = self
        disk = self._disk
        contracts, superseded = tuple(disk.contracts.values()), tuple(disk.superseded)
        return Stored(disk.store_id, disk.revision, tuple(disk.entries.values()), contracts, superseded)

    async def commit(self, batch: Batch) -> None:
        """Returns when it would survive a kill.

        Raises:
            CommitFailed: the disk is full, or its registry was killed.
        """
        began = self._clock.now()
        self._under_way = (began, batch)
        if self._disk.slowness:
            await self._clock.sleep(self._disk.rng.uniform(0.0, self._disk.slowness))
        if self._dead:
            raise CommitFailed("the registry was killed")
        self._under_way = None
        if self._disk.full:
            self._note(began, batch, well=False)
            raise CommitFailed("no space left on the disk")
        self._disk.put(batch)
        self._note(began, batch, well=True)

    async def close(self) -> None:
        """Lets go of the disk."""
        self._dead = True
        if self._disk.holder is self:
            self._disk.holder = None

    def kill(self) -> None:
        """As SIGKILL in the middle of a commit: it has reached the disk, or it has not."""
        self._dead = True
        if self._disk.holder is self:
            self._disk.holder = None
        if self._under_way is not None:
            began, batch = self._under_way
            well = not self._disk.full and self._disk.rng.random() < 0.5
            if well:
                self._disk.put(batch)
            self._note(began, batch, well=well)

    def _note(self, began: float, batch: Batch, *, well: bool) -> None:
        now = self._clock.now()
        self._recorder.note(Committed(began=began, ended=now, revision=batch.revision, well=well))
