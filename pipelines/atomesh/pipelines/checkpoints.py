"""What a durable run asks of a durable-execution library: each piece of work once, its output kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol


class Checkpoints(Protocol):
    """Keeps outputs of finished stages over the death of the process."""

    async def open(self) -> None:
        """Ready for use."""
        ...

    async def close(self) -> None:
        """Lets go."""
        ...

    async def stage(self, run_id: str, key: str, work: Callable[[], Awaitable[bytes]], *, repeat: bool) -> bytes:
        """The output of one piece of a run: the kept one where it finished before, else that of `work`, kept first.

        `key` names the piece within its run: a stage's id, with an item's place
        where it maps. `repeat` is whether work may run again that was under way
        when the process died.

        Raises:
            Interrupted: it was under way then, and must not run twice.
            Whatever `work` raises: that is not kept, a later resumption tries again.
        """
        ...

    async def forget(self, run_id: str) -> None:
        """Deletes all that is kept of a run which has ended, and whose end is on the disk. Raises StoreUnavailable."""
        ...
