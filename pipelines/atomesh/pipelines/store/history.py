"""Writes runs behind their runners' backs, and holds them while the database is away.

All of it happens on the store's writer thread. An outage is logged once, at its
beginning and at its end, with what was lost of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from atomesh.core.clock import Clock
from atomesh.pipelines.errors import StoreUnavailable
from atomesh.pipelines.owner import Host, owner_gone
from atomesh.pipelines.record import RunRecord
from atomesh.pipelines.store import statements
from atomesh.pipelines.store.backlog import Backlog
from atomesh.pipelines.store.claims import LIFE_EVERY
from atomesh.pipelines.store.engine import transaction
from atomesh.pipelines.store.location import Location
from atomesh.pipelines.store.retention import CHUNK, EVERY, Retention
from atomesh.pipelines.store.rows import Row, begun, ended

log = logging.getLogger("atomesh.pipelines.store")

BATCH = 1000
"""Rows of one transaction: about 20 ms. Others that have SQLite open wait so long."""

AGAIN_SECONDS = 1.0
"""Between two tries while the database is away. Each may hang for as long as
connecting takes, which is the longer wait."""

Handed = tuple[RunRecord, bool]
"""A run, and whether it has ended."""


@dataclass(slots=True)
class Schedule:
    """What is due when, in monotonic seconds."""

    retry: float = 0.0
    prune: float = 0.0
    life: float = 0.0


@dataclass(slots=True)
class History:
    """What waits to be written, and the upkeep of what is."""

    location: Location
    retention: Retention
    max_output: int
    clock: Clock
    host: Host
    on_lost: Callable[[int], None]
    backlog: Backlog = field(default_factory=Backlog)
    owned: dict[str, str] = field(default_factory=dict)
    """Durable runs under way in this process, with the owner as whom."""
    _described: set[str] = field(default_factory=set)
    """Hashes of types that are written."""
    _due: Schedule = field(default_factory=Schedule)
    _away: bool = False
    _told: int = 0
    _lost_before: int = 0

    def take(self, handed: list[Handed], *, lost: int = 0) -> None:
        """Makes rows of what was handed over; `lost` ends were not, since this thread hung too long."""
        self.backlog.lost += lost
        over = {id(run) for run, has_ended in handed if has_ended}
        for run, has_ended in handed:
            if not has_ended and id(run) in over:
                continue  # it ended meanwhile: written once
            try:
                self.backlog.add(ended(run, self.max_output) if has_ended else begun(run))
            except Exception:  # one record that is none must not stop the others
                log.exception("run %s cannot be kept", run.id)
                self.backlog.lost += 1
            if has_ended:
                self.owned.pop(run.id, None)

    def work(self, engine: sa.Engine, *, hurry: bool) -> None:
        """Writes what waits, and does what is due; `hurry`: even if the last try was just now."""
        now = self.clock.now()
        if self._away and not hurry and now < self._due.retry:
            return
        try:
            self._write_all(engine)
            self._upkeep(engine, now)
        except StoreUnavailable as error:
            self._due.retry = now + AGAIN_SECONDS
            self._went_away(error)
        self._tell_lost()

    def _write_all(self, engine: sa.Engine) -> None:
        written = 0
        while rows := self.backlog.take(BATCH):
            try:
                self._write(engine, rows)
            except (sa.exc.StatementError, ValueError):
                self._write_singly(engine, rows)
            self.backlog.written(rows)
            written += len(rows)
        if written and self._away:
            self._away = False
            lost = self.backlog.lost - self._lost_before
            log.info("the store %s is back: %d runs written, %d lost", self.location.shown, written, lost)

    def _write(self, engine: sa.Engine, rows: list[Row]) -> None:
        over = [row for row in rows if row.ended_at is not None]
        under_way = [row for row in rows if row.ended_at is None]
        types = (row.types for row in over)
        new = {each.hash: each for each in types if each is not None and each.hash not in self._described}
        # The end of a durable run is what lets its checkpoints go.
        with transaction(engine, self.location, durable=any(row.durable for row in over)) as connection:
            if under_way:
                statements.insert_begun(connection, under_way)
            if over:
                statements.upsert_ended(connection, over)
            if new:
                statements.insert_descriptors(connection, list(new.values()))
        self._described.update(new)

    def _write_singly(self, engine: sa.Engine, rows: list[Row]) -> None:
        """Where one row of a batch is refused, the others are written all the same."""
        for row in rows:
            try:
                self._write(engine, [row])
            except (sa.exc.StatementError, ValueError) as error:
                log.error("run %s cannot be kept: %s", row.id, " ".join(str(error).split())[:200])
                self.backlog.lost += 1

    def _upkeep(self, engine: sa.Engine, now: float) -> None:
        if self.owned and now >= self._due.life:
            self._due.life = now + LIFE_EVERY
            with transaction(engine, self.location) as connection:
                seen = statements.now(connection, self.clock.wall())
                statements.sign_of_life(connection, list(self.owned.items()), seen)
        if now >= self._due.prune:
            more = self._prune(engine)
            self._due.prune = now if more else now + EVERY

    def _prune(self, engine: sa.Engine) -> bool:
        """Takes away what is too old or too much; whether there is more of it."""
        cutoff = self.retention.cutoff(self.clock.wall())
        with transaction(engine, self.location) as connection:
            gone = [
                run for run, owner in statements.select_under_way(connection, cutoff) if owner_gone(owner, self.host)
            ]
            if gone:
                statements.delete_runs(connection, gone)
            return statements.prune(connection, cutoff, self.retention.runs, CHUNK) == CHUNK

    def _went_away(self, error: StoreUnavailable) -> None:
        if not self._away:
            self._away = True
            self._lost_before = self.backlog.lost
            log.warning("%s; up to %d runs are held until then", error, self.backlog.max_rows)

    def _tell_lost(self) -> None:
        if (lost := self.backlog.lost - self._told) > 0:
            self._told = self.backlog.lost
            self.on_lost(lost)
