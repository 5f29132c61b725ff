"""Where runs, pipelines and definitions are kept.

store = open_store("runs.db")              # or postgresql://host/database, or memory
await store.open()
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from atomesh.pipelines.store.base import MAX_OUTPUT, Resumption, RunStore
from atomesh.pipelines.store.location import parse_location as _parse_location
from atomesh.pipelines.store.location import without_password
from atomesh.pipelines.store.memory import MemoryStore
from atomesh.pipelines.store.retention import Retention
from atomesh.pipelines.store.settings import StoreSettings

__all__ = [
    "MAX_OUTPUT",
    "MemoryStore",
    "Resumption",
    "Retention",
    "RunStore",
    "StoreSettings",
    "open_store",
    "without_password",
]


def open_store(
    where: str | Path, settings: StoreSettings | None = None, *, on_lost: Callable[[int], None] | None = None
) -> RunStore:
    """The store at a path, a `sqlite:///` or `postgresql://` URL, or in `memory`; `open` opens it.

    `on_lost` is told how many runs could not be kept, on another thread.

    Raises:
        InvalidArgument: it names no store that there is.
    """
    location = _parse_location(str(where))
    if location.kind == "memory":
        return MemoryStore(settings)
    from atomesh.pipelines.store.sql import SqlStore  # SQLAlchemy takes 0.2 s to import

    return SqlStore(location, settings, on_lost=on_lost or (lambda lost: None))
