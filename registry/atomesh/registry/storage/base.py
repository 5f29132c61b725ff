"""What a registry asks of a store."""

from __future__ import annotations

from typing import Protocol

from atomesh.registry.operations import Batch, Stored


class Storage(Protocol):
    """Keeps the committed state. One registry holds it at a time, and commits one batch at a time."""

    async def load(self) -> Stored:
        """Opens the store, for this registry alone, and answers with all that it holds.

        Raises:
            StorageError: it cannot be opened, or must not be: in one line, which and what to do.
        """
        ...

    async def commit(self, batch: Batch) -> None:
        """Returns when the batch would survive a crash, all of it.

        Raises:
            CommitFailed: it is not committed, nothing of it. The next one may be.
        """
        ...

    async def close(self) -> None:
        """Lets go of the store; closing twice is fine."""
        ...
