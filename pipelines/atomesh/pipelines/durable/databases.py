"""The database under the checkpoints: made ready for dbos, and no other's."""

from __future__ import annotations

import sqlite3
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from atomesh.pipelines.errors import StoreUnavailable, StoreUnusable
from atomesh.pipelines.store.engine import postgres_engine, unavailable, unusable
from atomesh.pipelines.store.location import Location
from atomesh.pipelines.store.schema import check_file, damaged

SCHEMA = "atomesh_checkpoints"
"""In PostgreSQL; SQLite has none."""

CONNECTIONS = 4
"""In SQLite one writes at a time; in PostgreSQL four make 1,000 commits/s."""

_BUSY_SECONDS = 30.0
"""As long as dbos itself would wait for SQLite's lock."""


def make_engine(location: Location) -> sa.Engine:
    """Connects to nothing yet. Raises StoreUnusable where there is no driver or no URL."""
    if location.path is None:
        return postgres_engine(location, CONNECTIONS)
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(location.path)),
        connect_args={"timeout": _BUSY_SECONDS},
        pool_size=CONNECTIONS,
        max_overflow=0,
    )
    event.listen(engine, "connect", _connected)
    return engine


def _connected(connection: sqlite3.Connection, _: Any) -> None:
    # As dbos sets up an engine that it makes itself, and the write-ahead log:
    # a commit is one fsync instead of two, and readers wait for nobody.
    connection.isolation_level = "IMMEDIATE"
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def check(engine: sa.Engine, location: Location) -> None:
    """Lets a database pass that is dbos's, empty or not there yet.

    Raises:
        StoreUnusable: it is another program's, damaged, or cannot be opened.
        StoreUnavailable: it does not answer now.
    """
    if location.path is None:
        with engine.connect():
            return
    check_file(location.path)
    with engine.connect() as connection:
        tables = set(sa.inspect(connection).get_table_names())
        if tables and "dbos_migrations" not in tables:
            raise StoreUnusable(
                f"{location.shown} does not hold checkpoints (another program's SQLite file); "
                "move it away or name another place for the store"
            )
        complaint = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if complaint != "ok":
        raise damaged(location.shown, str(complaint))
    location.path.chmod(0o600)


def told(error: sa.exc.SQLAlchemyError, location: Location) -> StoreUnusable | StoreUnavailable:
    """What an error of the database means to whoever asked."""
    if isinstance(error, sa.exc.DBAPIError):
        return (unusable(error, location) if location.path is not None else None) or unavailable(error, location)
    return StoreUnavailable(f"the checkpoints {location.shown} cannot be reached: {type(error).__name__}")
