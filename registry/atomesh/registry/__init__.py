"""Who is alive and what they can do: leases, revisions, watches, and where they are kept."""

from atomesh.registry.errors import (
    CommitFailed,
    StorageError,
    StoreCorrupt,
    StoreForeign,
    StoreInUse,
    StoreUnusable,
)
from atomesh.registry.server import RegistryServer
from atomesh.registry.settings import RegistrySettings
from atomesh.registry.storage import MemoryStorage, SQLiteStorage, Storage

__all__ = [
    "CommitFailed",
    "MemoryStorage",
    "RegistryServer",
    "RegistrySettings",
    "SQLiteStorage",
    "Storage",
    "StorageError",
    "StoreCorrupt",
    "StoreForeign",
    "StoreInUse",
    "StoreUnusable",
]
