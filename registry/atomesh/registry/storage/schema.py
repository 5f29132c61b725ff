"""The tables of a registry's file, and how to tell such a file from any other.

    meta(name, value)           store_id and revision
    endpoints(agent, address)   the endpoint as protobuf, its lease's fingerprint, ttl, state, a checksum
    contracts(hash)             every contract that somebody speaks, a checksum
    superseded(seq, lease)      fingerprints whose owners must hear that they were replaced

`application_id` says whose file it is, `user_version` which layout it has: 2 has
`chunk_type` in contracts, 3 `unreachable` in endpoints; an older file is made a
new one when it is opened, step by step.
SQLite keeps no checksum of a page: `integrity_check` sees a broken tree, not a
broken value. So the rows that matter carry a CRC.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from atomesh.registry.errors import StorageError, StoreCorrupt, StoreForeign, StoreInUse, StoreUnusable

APPLICATION_ID = 0x41544D53  # "ATMS"
VERSION = 3

_MAGIC = b"SQLite format 3\0"  # https://sqlite.org/fileformat2.html#magic_header_string

_TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    """CREATE TABLE endpoints (
        agent TEXT NOT NULL,
        address TEXT NOT NULL,
        endpoint BLOB NOT NULL,
        lease TEXT NOT NULL UNIQUE,
        ttl REAL NOT NULL,
        declared INTEGER NOT NULL,
        suspect INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        unreachable INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (agent, address)
    ) WITHOUT ROWID""",
    """CREATE TABLE contracts (
        hash TEXT PRIMARY KEY,
        input_type TEXT NOT NULL,
        output_type TEXT NOT NULL,
        descriptor_set BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        chunk_type TEXT NOT NULL DEFAULT ''
    ) WITHOUT ROWID""",
    "CREATE TABLE superseded (seq INTEGER PRIMARY KEY AUTOINCREMENT, lease TEXT NOT NULL UNIQUE)",
)


def check_file(path: Path) -> None:
    """Lets a file pass that is SQLite's, empty or not there yet.

    Raises:
        StoreForeign: it is something else.
        OSError: it cannot be read.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    if head and head != _MAGIC:
        raise StoreForeign(f"{path} is not a registry's store (no SQLite file); move it away or name another place")


def check_schema(database: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is new and empty; else it is whole and ours.

    Raises:
        StoreForeign: it is another program's, or of a newer version.
        StoreCorrupt: it is damaged.
    """
    application_id = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    tables = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application_id == 0 and version == 0 and tables == 0:
        return True
    if application_id != APPLICATION_ID:
        raise StoreForeign(
            f"{path} is not a registry's store (another program's SQLite file); move it away or name another place"
        )
    if not 1 <= version <= VERSION:
        raise StoreForeign(
            f"{path} has schema {version}, this atomesh knows {VERSION}; run the version that wrote it, or move it away"
        )
    complaint = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if complaint != "ok":
        raise corrupt(path, str(complaint))
    if version < VERSION:
        _upgrade(database, version)
    return False


def create_schema(database: sqlite3.Connection, store_id: str) -> None:
    """Makes an empty file a registry's, all at once."""
    database.execute("BEGIN IMMEDIATE")
    for table in _TABLES:
        database.execute(table)
    database.execute(f"PRAGMA application_id={APPLICATION_ID}")
    database.execute(f"PRAGMA user_version={VERSION}")
    database.executemany("INSERT INTO meta VALUES (?, ?)", [("store_id", store_id), ("revision", 0)])
    database.execute("COMMIT")


_UPGRADES = {
    1: "ALTER TABLE contracts ADD COLUMN chunk_type TEXT NOT NULL DEFAULT ''",
    2: "ALTER TABLE endpoints ADD COLUMN unreachable INTEGER NOT NULL DEFAULT 0",
}
"""What makes a file of each layout one of the next. Checksums stay: see `rows`."""


def _upgrade(database: sqlite3.Connection, version: int) -> None:
    """Makes an older file one of this layout, all at once."""
    database.execute("BEGIN IMMEDIATE")
    for older in range(version, VERSION):
        database.execute(_UPGRADES[older])
    database.execute(f"PRAGMA user_version={VERSION}")
    database.execute("COMMIT")


def corrupt(path: Path, why: str) -> StoreCorrupt:
    """The error for a damaged file; agents register again by themselves, so starting anew loses little."""
    line = " ".join(why.split())[:200]
    return StoreCorrupt(
        f"the store {path} is damaged ({line}); restore a copy, or move it away with its -wal: agents register again"
    )


def explain(error: sqlite3.Error, path: Path) -> StorageError:
    """What SQLite's error at the opening means to an operator."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreInUse(f"the store {path} is open in another registry; stop that one or name another place")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return corrupt(path, str(error))
    return StoreUnusable(f"the store {path} cannot be opened: {error}; check the disk and its permissions")
