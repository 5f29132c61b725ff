"""What is asked of the database and written to it, each within somebody's transaction.

Both databases have `INSERT ... ON CONFLICT`; where they differ otherwise, the
connection's dialect decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import sqlalchemy as sa
from google.protobuf import any_pb2
from sqlalchemy.dialects import postgresql, sqlite

from atomesh.pipelines.errors import RunExists
from atomesh.pipelines.owner import given_up
from atomesh.pipelines.record import RunStatus, RunTypes
from atomesh.pipelines.store.base import Resumption
from atomesh.pipelines.store.missing import unknown_run
from atomesh.pipelines.store.rows import Row
from atomesh.pipelines.store.schema import DESCRIPTORS, RUNS
from atomesh.v1 import context_pb2, pipeline_pb2

_NO_RESUMPTION: dict[str, Any] = {"seen_at": None, "spec": None, "input": None, "context": None}


@dataclass(frozen=True, slots=True)
class Claimable:
    """What decides over a claim, and what is given then."""

    status: int
    durable: bool
    owner: str
    seen_at: float | None
    spec: str | None
    input: bytes | None
    context: bytes | None
    started_at: float


def insert_begun(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Runs that go on; one that is there already stays as it is."""
    insert = _insert(connection, RUNS).on_conflict_do_nothing()
    connection.execute(insert, [row.values() for row in rows])


def upsert_ended(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Runs that have ended, over what was there of them.

    Not over a run that somebody else has taken over meanwhile, and not over one
    that has ended: a process that slept must not undo what happened since.
    """
    insert = _insert(connection, RUNS)
    changed = {name: insert.excluded[name] for name in ("status", "ended_at", "head", "whole")}
    insert = insert.on_conflict_do_update(
        index_elements=["id"],
        set_=changed | _NO_RESUMPTION,
        where=sa.and_(RUNS.c.owner == insert.excluded.owner, RUNS.c.ended_at.is_(None)),
    )
    connection.execute(insert, [row.values() for row in rows])


def insert_durable(connection: sa.Connection, row: Row, resumption: Resumption, now: float) -> None:
    """A durable run, with what it needs to go on. Raises RunExists."""
    values = row.values() | {
        "seen_at": now,
        "spec": resumption.spec,
        "input": resumption.input.SerializeToString(),
        "context": resumption.context.SerializeToString(),
    }
    insert = _insert(connection, RUNS).on_conflict_do_nothing().returning(RUNS.c.id)
    if connection.execute(insert, values).first() is None:
        raise RunExists(f"there is a run {row.id} already; name another, or leave the id out")


def select_run(connection: sa.Connection, run_id: str) -> pipeline_pb2.Run:
    """All of a run. Raises UnknownRun."""
    row = connection.execute(
        sa.select(RUNS.c.owner, RUNS.c.head, RUNS.c.whole).where(RUNS.c.id == run_id)
    ).one_or_none()
    if row is None:
        raise unknown_run(run_id)
    return _run(row.whole if row.whole is not None else row.head, row.owner)


def select_runs(
    connection: sa.Connection, pipeline: str, statuses: Sequence[RunStatus], limit: int, before: str
) -> list[pipeline_pb2.Run]:
    """Runs as lists show them, newest first. Raises UnknownRun for a `before` that is none."""
    query = sa.select(RUNS.c.owner, RUNS.c.head).order_by(RUNS.c.started_at.desc(), RUNS.c.id.desc()).limit(limit)
    if pipeline:
        query = query.where(RUNS.c.pipeline == pipeline)
    if statuses:
        query = query.where(RUNS.c.status.in_([int(status) for status in statuses]))
    if before:
        started_at = connection.execute(sa.select(RUNS.c.started_at).where(RUNS.c.id == before)).scalar_one_or_none()
        if started_at is None:
            raise unknown_run(before)
        query = query.where(sa.tuple_(RUNS.c.started_at, RUNS.c.id) < sa.tuple_(sa.literal(started_at), before))
    return [_run(row.head, row.owner) for row in connection.execute(query)]


def select_ids(connection: sa.Connection, beginning: str, limit: int) -> list[str]:
    """Ids that begin so, in order."""
    # Not LIKE: SQLite's takes "a" for "A", and "_" stands for anything.
    same = sa.func.substr(RUNS.c.id, 1, len(beginning)) == beginning
    return list(connection.execute(sa.select(RUNS.c.id).where(same).order_by(RUNS.c.id).limit(limit)).scalars())


def select_claimable(connection: sa.Connection, run_id: str) -> Claimable:
    """Raises UnknownRun."""
    columns = [RUNS.c[field.name] for field in fields(Claimable)]
    row = connection.execute(sa.select(*columns).where(RUNS.c.id == run_id)).one_or_none()
    if row is None:
        raise unknown_run(run_id)
    return Claimable(*row)


def take_over(connection: sa.Connection, run_id: str, old: Claimable, owner: str, now: float) -> Resumption | None:
    """Compare and set: the run is `owner`'s, unless it is no longer as it was read; then None."""
    same = (RUNS.c.id == run_id, RUNS.c.owner == old.owner, RUNS.c.seen_at == old.seen_at, RUNS.c.ended_at.is_(None))
    changed = connection.execute(sa.update(RUNS).where(*same).values(owner=owner, seen_at=now))
    if changed.rowcount != 1:
        return None
    return Resumption(
        run_id=run_id,
        spec=old.spec or "",
        input=any_pb2.Any.FromString(old.input or b""),
        context=context_pb2.Context.FromString(old.context or b""),
        owner=old.owner,
        started_at=old.started_at,
    )


def give_up(connection: sa.Connection, run_id: str, owner: str) -> None:
    """The durable run is nobody's any more, where it was `owner`'s and has not ended."""
    own = (RUNS.c.id == run_id, RUNS.c.owner == owner, RUNS.c.durable.is_(True), RUNS.c.ended_at.is_(None))
    connection.execute(sa.update(RUNS).where(*own).values(owner=given_up(owner)))


def sign_of_life(connection: sa.Connection, owned: Sequence[tuple[str, str]], now: float) -> None:
    """These durable runs, with their owners, go on."""
    update = (
        sa.update(RUNS)
        .where(RUNS.c.id == sa.bindparam("run"), RUNS.c.owner == sa.bindparam("of"), RUNS.c.ended_at.is_(None))
        .values(seen_at=sa.bindparam("now"))
    )
    connection.execute(update, [{"run": run, "of": owner, "now": now} for run, owner in owned])


def select_under_way(connection: sa.Connection, started_before: float) -> list[tuple[str, str]]:
    """Id and owner of runs without checkpoints that have not ended and began long ago."""
    where = (RUNS.c.ended_at.is_(None), RUNS.c.durable.is_(False), RUNS.c.started_at < started_before)
    rows = connection.execute(sa.select(RUNS.c.id, RUNS.c.owner).where(*where))
    return [(str(row.id), str(row.owner)) for row in rows]


def prune(connection: sa.Connection, cutoff: float, runs: int, chunk: int) -> int:
    """Takes away up to `chunk` ended runs that are too old or too many; how many those were."""
    newest_out = (
        sa.select(RUNS.c.started_at).order_by(RUNS.c.started_at.desc(), RUNS.c.id.desc()).offset(runs).limit(1)
    ).scalar_subquery()
    too_old = RUNS.c.started_at < cutoff
    too_many = RUNS.c.started_at <= newest_out  # NULL, so never, where there are no more than `runs`
    chosen = sa.select(RUNS.c.id).where(RUNS.c.ended_at.is_not(None), too_old | too_many).limit(chunk)
    return connection.execute(sa.delete(RUNS).where(RUNS.c.id.in_(chosen))).rowcount


def delete_runs(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Takes these away, as they have not ended."""
    connection.execute(sa.delete(RUNS).where(RUNS.c.id.in_(list(ids)), RUNS.c.ended_at.is_(None)))


def put(connection: sa.Connection, table: sa.Table, name: str, proto: bytes) -> None:
    """What people store, over what has its name."""
    insert = _insert(connection, table)
    insert = insert.on_conflict_do_update(index_elements=["name"], set_={"proto": insert.excluded.proto})
    connection.execute(insert, {"name": name, "proto": proto})


def get(connection: sa.Connection, table: sa.Table, name: str) -> bytes | None:
    """None where there is none."""
    return connection.execute(sa.select(table.c.proto).where(table.c.name == name)).scalar_one_or_none()


def insert_descriptors(connection: sa.Connection, types: Sequence[RunTypes]) -> None:
    """The types of outputs; those that are there stay."""
    insert = _insert(connection, DESCRIPTORS).on_conflict_do_nothing()
    connection.execute(insert, [{"name": each.hash, "proto": each.descriptor_set} for each in types])


def all_of(connection: sa.Connection, table: sa.Table) -> list[bytes]:
    """By name."""
    rows = connection.execute(sa.select(table.c.name, table.c.proto))
    return [row.proto for row in sorted(rows, key=lambda row: str(row.name))]  # not by a database's collation


def delete(connection: sa.Connection, table: sa.Table, name: str) -> bool:
    """Whether there was one."""
    return connection.execute(sa.delete(table).where(table.c.name == name)).rowcount == 1


def now(connection: sa.Connection, here: float) -> float:
    """Unix seconds by the clock that all who have the store open share; `here` is this machine's."""
    if connection.dialect.name == "sqlite":
        return here
    return float(connection.execute(sa.select(sa.func.extract("epoch", sa.func.clock_timestamp()))).scalar_one())


def _insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert:
    """Either database's own INSERT: they have the same ON CONFLICT, and no type in common that says so."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return cast("sqlite.Insert", postgresql.insert(table))


def _run(proto: bytes, owner: str) -> pipeline_pb2.Run:
    run = pipeline_pb2.Run.FromString(proto)
    run.owner = owner  # another one has taken it over, perhaps
    return run
