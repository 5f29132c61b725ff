"""The tables of a store, and how to tell it from anything else.

    atomesh_runs          one run; what a durable one needs to go on, until it has ended
    atomesh_pipelines     what people stored
    atomesh_definitions   how agents are started
    atomesh_descriptors   the types of runs' outputs, each once, by hash
    atomesh_store         the layout's version, one row

In SQLite `application_id` says whose file it is. In PostgreSQL the tables stand
in whatever schema comes first in `search_path`, beside those of others.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from atomesh.pipelines.errors import StoreUnusable

APPLICATION_ID = 0x41544D50  # "ATMP"
VERSION = 1

CHECKED = 64 * 1024 * 1024
"""Bytes of a SQLite file that is checked whole when it is opened, which takes up
to half a second. `atomesh runs ls` on a larger one would wait for it each time;
there damage is told where it is met."""

_MAGIC = b"SQLite format 3\0"  # https://sqlite.org/fileformat2.html#magic_header_string
_LOCK = 0x41544D50
"""Of PostgreSQL's advisory locks: two processes that make the tables at once would both fail."""

TABLES = sa.MetaData()

RUNS = sa.Table(
    "atomesh_runs",
    TABLES,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("status", sa.SmallInteger, nullable=False),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("durable", sa.Boolean, nullable=False),
    sa.Column("seen_at", sa.Double),  # the last sign of life of a durable run's owner
    sa.Column("spec", sa.Text),
    sa.Column("input", sa.LargeBinary),
    sa.Column("context", sa.LargeBinary),
    sa.Column("head", sa.LargeBinary, nullable=False),
    sa.Column("whole", sa.LargeBinary),
    sa.Index("atomesh_runs_by_time", "started_at", "id"),
)

PIPELINES = sa.Table(
    "atomesh_pipelines",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("proto", sa.LargeBinary, nullable=False),
)

DEFINITIONS = sa.Table(
    "atomesh_definitions",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("proto", sa.LargeBinary, nullable=False),
)

DESCRIPTORS = sa.Table(
    "atomesh_descriptors",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),  # the hash
    sa.Column("proto", sa.LargeBinary, nullable=False),
)

STORE = sa.Table("atomesh_store", TABLES, sa.Column("version", sa.Integer, nullable=False))


def check_file(path: Path) -> None:
    """Lets a file pass that is SQLite's, empty or not there yet; makes its folder.

    Raises:
        StoreUnusable: it is something else, or cannot be read.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            return
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError as error:
        raise StoreUnusable(
            f"the store {path} cannot be opened: {error.strerror or error}; name another place"
        ) from None
    if head and head != _MAGIC:
        raise StoreUnusable(f"{path} is not a store of runs (no SQLite file); move it away or name another place")


def prepare(connection: sa.Connection, name: str) -> None:
    """Makes the tables where there are none; the connection is in a transaction.

    Raises:
        StoreUnusable: the store is another program's, damaged, or of a newer version.
    """
    if connection.dialect.name == "sqlite":
        _check_sqlite(connection, name)
    else:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    present = {table for table in TABLES.tables if sa.inspect(connection).has_table(table)}
    if not present:
        TABLES.create_all(connection, checkfirst=False)
        connection.execute(sa.insert(STORE), {"version": VERSION})
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
        return
    if missing := TABLES.tables.keys() - present:
        raise StoreUnusable(
            f"the store {name} has {min(present)} and no {min(missing)}: another program's, or damaged; "
            "restore a copy, or name another place"
        )
    _check_version(connection, name)


def _check_version(connection: sa.Connection, name: str) -> None:
    versions = list(connection.execute(sa.select(STORE.c.version)).scalars())
    if versions != [VERSION]:
        raise StoreUnusable(
            f"the store {name} has layout {versions[0] if versions else 'none'}, this atomesh knows {VERSION}; "
            "run the version that wrote it, or name another place"
        )


def _check_sqlite(connection: sa.Connection, name: str) -> None:
    application_id = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar_one()
    if application_id != APPLICATION_ID and (application_id or tables):
        raise StoreUnusable(
            f"{name} is not a store of runs (another program's SQLite file); move it away or name another place"
        )
    pages, size = (connection.exec_driver_sql(f"PRAGMA {what}").scalar_one() for what in ("page_count", "page_size"))
    if pages * size > CHECKED:
        return
    complaint = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if complaint != "ok":
        raise damaged(name, str(complaint))


def damaged(name: str, why: str) -> StoreUnusable:
    """The error for a damaged file."""
    line = " ".join(why.split())[:200]
    return StoreUnusable(
        f"the store {name} is damaged ({line}); restore a copy, or move it away with its -wal and -shm"
    )
