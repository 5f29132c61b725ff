"""A SQLAlchemy engine for one thread, set up for each of the two databases.

SQLite: WAL, so that readers and the one writer do not wait for each other, and
several processes may have the file open; `synchronous` is FULL (an fsync with
every commit) for what must outlive a loss of power, NORMAL (kill -9 only) for
history. PostgreSQL: every wait has an end, so that a database which hangs is
one that cannot be reached.
"""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from atomesh.pipelines.errors import StoreUnavailable, StoreUnusable
from atomesh.pipelines.store.location import Location, without_password
from atomesh.pipelines.store.schema import damaged

BUSY_SECONDS = 5.0
"""How long another process may hold SQLite's lock. Transactions take
milliseconds; a fifth of it fails under a backup, ten times is a hang."""

ANSWER_SECONDS = 10
"""How long PostgreSQL may take to answer. The largest question, a list of
1,000 runs, takes tens of milliseconds."""


def make_engine(location: Location) -> sa.Engine:
    """Connects to nothing yet.

    Raises:
        StoreUnusable: the database's driver is not installed, or its URL is none.
    """
    if location.kind == "sqlite":
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(location.path)),
            connect_args={"timeout": BUSY_SECONDS},
            pool_size=1,
            max_overflow=0,
        )
        event.listen(engine, "connect", _sqlite_connected)
        event.listen(engine, "begin", _sqlite_begins)
        return engine
    return postgres_engine(location, connections=1)


def postgres_engine(location: Location, connections: int) -> sa.Engine:
    """PostgreSQL's; raises StoreUnusable as `make_engine` does."""
    if importlib.util.find_spec("psycopg") is None:
        raise StoreUnusable(f'the store {location.shown} needs psycopg: pip install "atomesh[postgres]"')
    try:
        url = sa.make_url(location.url)
    except (sa.exc.ArgumentError, ValueError):
        raise StoreUnusable(f"{location.shown} is no URL of a database; say postgresql://user@host/database") from None
    waits = {"connect_timeout": 5, "tcp_user_timeout": ANSWER_SECONDS * 1000}
    bounds = f"-c statement_timeout={ANSWER_SECONDS}s -c lock_timeout={ANSWER_SECONDS}s -c client_encoding=utf8"
    given = str(url.query.get("options", ""))
    return sa.create_engine(
        url.difference_update_query(["options"]),
        connect_args={**waits, "options": f"{bounds} {given}".strip(), "application_name": "atomesh"},
        pool_size=connections,
        max_overflow=0,
        pool_pre_ping=True,
    )


def _sqlite_connected(connection: sqlite3.Connection, _: Any) -> None:
    # The driver begins transactions by its own lights, and never one that is immediate.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")


def _sqlite_begins(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    durable = options.get("durable", False)
    # Not to be changed within a transaction, hence here.
    connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN" if options.get("reading") else "BEGIN IMMEDIATE")


@contextmanager
def transaction(
    engine: sa.Engine, location: Location, *, durable: bool = False, reading: bool = False
) -> Iterator[sa.Connection]:
    """One transaction: commits at the end, leaves nothing behind after an error.

    Raises:
        StoreUnavailable: the database does not answer, is full, or is locked for too long.
        IntegrityError, DataError: as SQLAlchemy raises them; they are about what is written.
    """
    try:
        with engine.connect().execution_options(durable=durable, reading=reading) as connection, connection.begin():
            yield connection
    except (sa.exc.IntegrityError, sa.exc.DataError):
        raise
    except DBAPIError as error:
        raise unavailable(error, location) from error


def unavailable(error: DBAPIError, location: Location) -> StoreUnavailable:
    """The error for a store that cannot be reached now."""
    return StoreUnavailable(f"the store {location.shown} cannot be reached: {reason(error)}; try again later")


def unusable(error: DBAPIError, location: Location) -> StoreUnusable | None:
    """What an error at the opening says of a SQLite file; None where it may pass by itself."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is None or code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return None
    if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(location.shown, reason(error))
    return StoreUnusable(
        f"the store {location.shown} cannot be opened: {reason(error)}; check the disk and permissions"
    )


def reason(error: DBAPIError) -> str:
    """The driver's own words on one line, without SQL, values or passwords."""
    said = " ".join(str(error.orig).split())[:300] or type(error.orig).__name__
    return without_password(said).rstrip(".;")
