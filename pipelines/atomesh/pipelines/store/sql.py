"""A store in SQLite or PostgreSQL: SQL on a thread of its own, history behind the runs.

`begin` and `end` cost the event loop an append to a deque. Everything else
waits for the writer thread, which first writes what was handed over, so that
whoever reads sees what he wrote. Several processes may have one SQLite file
open: transactions are short, and each waits for the other's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.pipelines.errors import NotResumable, StoreUnavailable
from atomesh.pipelines.machine import this_host
from atomesh.pipelines.owner import Host
from atomesh.pipelines.record import RunRecord, RunStatus
from atomesh.pipelines.store import statements
from atomesh.pipelines.store.backlog import MAX_ROWS
from atomesh.pipelines.store.base import Resumption
from atomesh.pipelines.store.claims import check_claimable
from atomesh.pipelines.store.engine import make_engine, transaction, unavailable, unusable
from atomesh.pipelines.store.history import Handed, History
from atomesh.pipelines.store.location import Location
from atomesh.pipelines.store.missing import unknown_definition, unknown_pipeline
from atomesh.pipelines.store.rows import begun
from atomesh.pipelines.store.schema import DEFINITIONS, DESCRIPTORS, PIPELINES, check_file, prepare
from atomesh.pipelines.store.settings import StoreSettings
from atomesh.pipelines.store.writer import Writer
from atomesh.v1 import pipeline_pb2

log = logging.getLogger("atomesh.pipelines.store")

_T = TypeVar("_T")


def _inert(_: int) -> None:
    """Counts nothing."""


class SqlStore:
    """Runs, pipelines and definitions in a database."""

    def __init__(
        self,
        location: Location,
        settings: StoreSettings | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        host: Host | None = None,
        on_lost: Callable[[int], None] = _inert,
    ) -> None:
        """Nothing is opened before `open`. `on_lost` is told of runs that could not be kept, on the writer's thread."""
        settings = settings or StoreSettings()
        self.name = location.shown
        self._location = location
        self._engine: sa.Engine | None = None
        self._overrun = 0
        self._history = History(location, settings.retention, settings.max_output, clock, host or this_host(), on_lost)
        self._writer = self._new_writer()

    def _new_writer(self) -> Writer[Handed]:
        # Twice: a run that is handed over has a begin and an end.
        return Writer(f"store {self.name}", self._write, limit=2 * MAX_ROWS, gave_way=self._gave_way)

    def _gave_way(self, handed: Handed) -> None:
        self._overrun += handed[1]

    async def open(self) -> None:
        """Opens it, makes it where there is none.

        Raises:
            StoreUnusable: it is another program's, damaged, of a newer version, or cannot be opened at all.
            StoreUnavailable: it does not answer now.
        """
        if self._engine is not None:
            return
        engine = make_engine(self._location)
        self._writer = self._new_writer()
        self._writer.start()
        try:
            await self._writer.run(lambda: self._prepare(engine))
        except BaseException:
            await self._writer.close()
            engine.dispose()
            raise
        self._engine = engine

    async def close(self) -> None:
        """Writes what is left, and lets go; what cannot be written is logged by its number."""
        engine = self._engine
        if engine is None:
            return
        await self._writer.close()
        self._engine = None
        engine.dispose()
        if left := len(self._history.backlog):
            log.error("the store %s is closed while it is away: %d runs are lost", self.name, left)

    async def flush(self) -> None:
        """Returns once all that was handed over is written. Raises StoreUnavailable where it is not."""

        def written() -> None:
            if left := len(self._history.backlog):
                raise StoreUnavailable(f"the store {self.name} cannot be reached; {left} runs wait to be written")

        await self._run(written)

    def begin(self, run: RunRecord) -> None:
        """A run began. Returns at once."""
        self._writer.hand_over((run, False))

    def end(self, run: RunRecord) -> None:
        """A run ended; nothing in its record changes any more. Returns at once."""
        self._writer.hand_over((run, True))

    async def begin_durable(self, run: RunRecord, resumption: Resumption) -> None:
        """A durable run begins: on the disk, and resumable, on return. Raises RunExists."""
        row = begun(run)

        def insert(connection: sa.Connection) -> None:
            now = statements.now(connection, self._history.clock.wall())
            statements.insert_durable(connection, row, resumption, now)

        await self._transaction(insert, durable=True)
        self._history.owned[run.id] = run.owner

    async def claim(self, run_id: str, owner: str) -> Resumption:
        """Takes over an interrupted durable run, so that no other process does too.

        Raises:
            UnknownRun: there is none.
            NotResumable: it has ended, is not durable, or its owner still runs.
        """

        def take(connection: sa.Connection) -> Resumption:
            now = statements.now(connection, self._history.clock.wall())
            old = statements.select_claimable(connection, run_id)
            check_claimable(
                run_id,
                RunStatus(old.status),
                old.owner,
                durable=old.durable,
                silence=now - (old.seen_at or 0.0),
                here=self._history.host,
            )
            taken = statements.take_over(connection, run_id, old, owner, now)
            if taken is None:
                raise NotResumable(f"run {run_id} was taken over by another process just now")
            return taken

        taken = await self._transaction(take, durable=True)
        self._history.owned[run_id] = owner
        return taken

    async def release(self, run_id: str, owner: str) -> None:
        """Gives up a durable run that is `owner`'s and has not ended, so that anybody may claim it at once; else nothing."""
        self._history.owned.pop(run_id, None)
        await self._transaction(lambda connection: statements.give_up(connection, run_id, owner), durable=True)

    async def get_run(self, run_id: str) -> pipeline_pb2.Run:
        """A run with its stages. Raises UnknownRun."""
        return await self._transaction(lambda connection: statements.select_run(connection, run_id), reading=True)

    async def find_runs(self, beginning: str, limit: int = 10) -> list[str]:
        """Ids of runs that begin so, in order."""
        return await self._transaction(
            lambda connection: statements.select_ids(connection, beginning, limit), reading=True
        )

    async def get_types(self, digest: str) -> bytes:
        """The types of outputs; empty where they are not kept."""
        return await self._get(DESCRIPTORS, digest) or b""

    async def list_runs(
        self, pipeline: str = "", statuses: Sequence[RunStatus] = (), limit: int = 50, before: str = ""
    ) -> list[pipeline_pb2.Run]:
        """Runs without their stages, logs and outputs, newest first, those that began before the run `before`."""

        def select(connection: sa.Connection) -> list[pipeline_pb2.Run]:
            return statements.select_runs(connection, pipeline, statuses, limit, before)

        return await self._transaction(select, reading=True)

    async def put_pipeline(self, pipeline: pipeline_pb2.StoredPipeline) -> None:
        """Stores it over what has its name; durable on return."""
        await self._put(PIPELINES, pipeline.name, pipeline.SerializeToString())

    async def get_pipeline(self, name: str) -> pipeline_pb2.StoredPipeline:
        """Raises UnknownPipeline."""
        if (found := await self._get(PIPELINES, name)) is None:
            raise unknown_pipeline(name)
        return pipeline_pb2.StoredPipeline.FromString(found)

    async def list_pipelines(self) -> list[pipeline_pb2.StoredPipeline]:
        """By name."""
        return [pipeline_pb2.StoredPipeline.FromString(found) for found in await self._all(PIPELINES)]

    async def delete_pipeline(self, name: str) -> None:
        """Raises UnknownPipeline."""
        if not await self._delete(PIPELINES, name):
            raise unknown_pipeline(name)

    async def put_definition(self, definition: pipeline_pb2.Definition) -> None:
        """Stores it over what has its name; durable on return."""
        await self._put(DEFINITIONS, definition.name, definition.SerializeToString())

    async def get_definition(self, name: str) -> pipeline_pb2.Definition:
        """Raises UnknownDefinition."""
        if (found := await self._get(DEFINITIONS, name)) is None:
            raise unknown_definition(name)
        return pipeline_pb2.Definition.FromString(found)

    async def list_definitions(self) -> list[pipeline_pb2.Definition]:
        """By name."""
        return [pipeline_pb2.Definition.FromString(found) for found in await self._all(DEFINITIONS)]

    async def delete_definition(self, name: str) -> None:
        """Raises UnknownDefinition."""
        if not await self._delete(DEFINITIONS, name):
            raise unknown_definition(name)

    async def _put(self, table: sa.Table, name: str, proto: bytes) -> None:
        await self._transaction(lambda connection: statements.put(connection, table, name, proto), durable=True)

    async def _get(self, table: sa.Table, name: str) -> bytes | None:
        return await self._transaction(lambda connection: statements.get(connection, table, name), reading=True)

    async def _all(self, table: sa.Table) -> list[bytes]:
        return await self._transaction(lambda connection: statements.all_of(connection, table), reading=True)

    async def _delete(self, table: sa.Table, name: str) -> bool:
        return await self._transaction(lambda connection: statements.delete(connection, table, name), durable=True)

    async def _transaction(
        self, work: Callable[[sa.Connection], _T], *, durable: bool = False, reading: bool = False
    ) -> _T:
        engine = self._opened()

        def within() -> _T:
            with transaction(engine, self._location, durable=durable, reading=reading) as connection:
                return work(connection)

        return await self._run(within)

    async def _run(self, work: Callable[[], _T]) -> _T:
        self._opened()
        return await self._writer.run(work)

    def _opened(self) -> sa.Engine:
        if self._engine is None or not self._writer.runs:
            raise StoreUnavailable(f"the store {self.name} is not open")
        return self._engine

    def _write(self, handed: list[Handed], hurry: bool) -> None:
        """What the writer thread does at each turn."""
        overrun, self._overrun = self._overrun, 0
        self._history.take(handed, lost=overrun)
        if self._engine is not None:
            self._history.work(self._engine, hurry=hurry)

    def _prepare(self, engine: sa.Engine) -> None:
        if self._location.path is not None:
            check_file(self._location.path)
        try:
            with engine.connect().execution_options(durable=True) as connection, connection.begin():
                prepare(connection, self.name)
        except DBAPIError as error:
            raise unusable(error, self._location) or unavailable(error, self._location) from error
        if self._location.path is not None:
            self._location.path.chmod(0o600)
