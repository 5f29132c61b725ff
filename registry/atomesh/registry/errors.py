"""What can go wrong with a store.

AtomeshError
└── StorageError
    ├── StoreInUse       another registry has it open
    ├── StoreForeign     not a registry's file, or of a newer schema
    ├── StoreCorrupt     a registry's file, but damaged
    ├── StoreUnusable    cannot be opened, or would not be durable
    └── CommitFailed     this batch was not committed; nothing of it is

The first four are an operator's, at the start. The last never reaches a
client: what it waits for is refused with RegistryUnavailable.
"""

from __future__ import annotations

from google.rpc import code_pb2

from atomesh.core.errors import AtomeshError


class StorageError(AtomeshError):
    """A store cannot do what a registry needs of it."""

    code = code_pb2.UNAVAILABLE
    reason = "STORAGE"
    executed = False


class StoreInUse(StorageError):
    """Another registry has the store open; two of them would both lose."""

    reason = "STORE_IN_USE"


class StoreForeign(StorageError):
    """The file is not a registry's, or of a schema that this version does not know."""

    reason = "STORE_FOREIGN"


class StoreCorrupt(StorageError):
    """The file is a registry's, but damaged."""

    reason = "STORE_CORRUPT"


class StoreUnusable(StorageError):
    """The file cannot be opened, or what is written there would not be durable."""

    reason = "STORE_UNUSABLE"


class CommitFailed(StorageError):
    """A batch was not committed, and nothing of it is visible."""

    reason = "COMMIT_FAILED"
