"""A store that forgets: for tests, and for registries whose agents all come back anyway."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from atomesh.registry.operations import Batch, Stored


class MemoryStorage:
    """Every registry on it is a new store: watchers of the one before get a Reset."""

    def __init__(self, *, new_store_id: Callable[[], str] = lambda: secrets.token_hex(16)) -> None:
        """`new_store_id` gives 32 hex digits."""
        self._new_store_id = new_store_id

    async def load(self) -> Stored:
        """Nothing, under a new store id."""
        return Stored(self._new_store_id())

    async def commit(self, batch: Batch) -> None:
        """Done at once: the registry's own state is all there is."""

    async def close(self) -> None:
        """Nothing to let go of."""
