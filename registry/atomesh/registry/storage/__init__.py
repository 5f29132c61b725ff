"""Where a registry keeps what must not be lost, behind one protocol."""

from __future__ import annotations

from atomesh.registry.storage.base import Storage
from atomesh.registry.storage.memory import MemoryStorage
from atomesh.registry.storage.sqlite import SQLiteStorage

__all__ = ["MemoryStorage", "SQLiteStorage", "Storage"]
