"""The embedded store: one SQLite file, durable at every commit.

WAL with `synchronous=FULL`: every commit is an fsync of the log, so what was
acknowledged survives kill -9 and, as far as the disk does not lie, the loss of
power. `NORMAL` would only survive the former. All work is on one thread of its
own, never on the event loop; while one batch commits, the next one gathers.
The file is locked for as long as it is open: two registries on it would both lose.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from atomesh.registry.errors import CommitFailed, StorageError, StoreUnusable
from atomesh.registry.operations import Batch, Stored
from atomesh.registry.storage import rows
from atomesh.registry.storage.schema import check_file, check_schema, corrupt, create_schema, explain

_T = TypeVar("_T")


class SQLiteStorage:
    """A registry's state in one file, made where there is none."""

    def __init__(
        self,
        path: Path,
        *,
        superseded_kept: int = 10_000,
        new_store_id: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        """Nothing is opened before `load`. `new_store_id` gives 32 hex digits, for a new file only."""
        self.path = path
        self._superseded_kept = superseded_kept
        self._new_store_id = new_store_id
        self._thread: ThreadPoolExecutor | None = None
        self._database: sqlite3.Connection | None = None

    async def load(self) -> Stored:
        """Opens the file, checks that it is whole and ours, and reads it.

        Raises:
            StoreInUse: another registry has it open.
            StoreForeign: it is another program's, or of a newer version.
            StoreCorrupt: it is damaged.
            StoreUnusable: it cannot be opened, or would not be durable there.
        """
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="atomesh-store")
        try:
            return await self._run(self._load)
        except StorageError:
            await self.close()
            raise

    async def commit(self, batch: Batch) -> None:
        """Commits with an fsync; all of the batch or nothing.

        Raises:
            CommitFailed: the disk is full, gone or refuses.
        """
        await self._run(lambda: self._commit(batch))

    async def close(self) -> None:
        """Writes the log back into the file and lets go of it."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(thread, self._close))
            thread.shutdown()

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._thread is None:
            raise CommitFailed(f"the store {self.path} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _load(self) -> Stored:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            check_file(self.path)
        except OSError as error:
            raise StoreUnusable(f"the store {self.path} cannot be opened: {error.strerror or error}") from None
        try:
            self._database = _open(self.path)
            if check_schema(self._database, self.path):
                create_schema(self._database, self._new_store_id())
            return rows.read(self._database, self.path)
        except sqlite3.Error as error:
            raise explain(error, self.path) from error
        except UnicodeDecodeError as error:
            # CPython reads SQLite's complaint as UTF-8, and it may quote the damage.
            raise corrupt(self.path, "its schema is no UTF-8") from error

    def _commit(self, batch: Batch) -> None:
        database = self._database
        if database is None:
            raise CommitFailed(f"the store {self.path} is closed")
        try:
            database.execute("BEGIN IMMEDIATE")
            rows.write(database, batch, self._superseded_kept)
            database.execute("COMMIT")
        except sqlite3.Error as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise CommitFailed(f"the store {self.path} did not commit: {error}") from error

    def _close(self) -> None:
        if self._database is not None:
            database, self._database = self._database, None
            database.close()


def _open(path: Path) -> sqlite3.Connection:
    """The file, locked for this process alone, every commit an fsync."""
    database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        path.chmod(0o600)
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        if _pragma(database, "journal_mode=WAL") != "wal":
            raise StoreUnusable(f"the store {path} cannot keep a write-ahead log there; put it on a local disk")
        database.execute("PRAGMA synchronous=FULL")
        if _pragma(database, "synchronous") != 2:
            raise StoreUnusable(f"the store {path} refuses synchronous=FULL, so a commit would not be durable")
        # Takes the lock now: in exclusive mode the first write keeps it until the file is closed.
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")
    except BaseException:
        database.close()
        raise
    return database


def _pragma(database: sqlite3.Connection, what: str) -> object:
    return database.execute(f"PRAGMA {what}").fetchone()[0]
