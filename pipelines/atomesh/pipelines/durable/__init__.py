"""Checkpoints of durable runs, on dbos (the extra `durable`).

checkpoints = open_checkpoints("runs.db")      # the place of the store of runs
await checkpoints.open()
output = await checkpoints.stage(run_id, "summary", work, repeat=False)
"""

from __future__ import annotations

from pathlib import Path

from atomesh.core.errors import InvalidArgument
from atomesh.pipelines.durable.checkpoints import DbosCheckpoints
from atomesh.pipelines.store.location import Location, parse_location

__all__ = ["DbosCheckpoints", "open_checkpoints"]


def open_checkpoints(where: str | Path) -> DbosCheckpoints:
    """The checkpoints that belong to the store of runs at `where`; `open` opens them.

    Beside a SQLite file `runs.db` they are in `runs.checkpoints.db`, in
    PostgreSQL in the same database under the schema `atomesh_checkpoints`.

    Raises:
        InvalidArgument: the store keeps nothing, or names none.
    """
    location = parse_location(str(where))
    if location.kind == "memory":
        raise InvalidArgument("a durable run needs a store that outlives its process; name a file or a database")
    if location.path is not None:
        path = location.path
        location = Location("sqlite", path=path.with_name(f"{path.stem}.checkpoints{path.suffix}"))
    return DbosCheckpoints(location)
