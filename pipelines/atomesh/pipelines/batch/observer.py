"""Who is told what happens in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from atomesh.pipelines.batch.model import BatchItem, BatchSummary


class BatchObserver(Protocol):
    """Is told what happens, in the batch's own loop: what it raises ends the batch."""

    def started(self, batch_id: str, target: str) -> None:
        """A batch begins."""
        ...

    def items_starting(self, batch_id: str, keys: Sequence[str]) -> None:
        """These items are about to be sent, and are not before this returns."""
        ...

    def item_ended(self, batch_id: str, item: BatchItem) -> None:
        """An item has its outcome."""
        ...

    def ended(self, summary: BatchSummary) -> None:
        """The batch is over."""
        ...


class Unobserved:
    """Nobody looks; what an observer of your own does not care for it inherits from here."""

    def started(self, batch_id: str, target: str) -> None:
        """Nothing."""

    def items_starting(self, batch_id: str, keys: Sequence[str]) -> None:
        """Nothing."""

    def item_ended(self, batch_id: str, item: BatchItem) -> None:
        """Nothing."""

    def ended(self, summary: BatchSummary) -> None:
        """Nothing."""


class Observers(Unobserved):
    """Several as one."""

    def __init__(self, *observers: BatchObserver) -> None:
        """In this order."""
        self._observers = observers

    def started(self, batch_id: str, target: str) -> None:
        """Tells each."""
        for observer in self._observers:
            observer.started(batch_id, target)

    def items_starting(self, batch_id: str, keys: Sequence[str]) -> None:
        """Tells each."""
        for observer in self._observers:
            observer.items_starting(batch_id, keys)

    def item_ended(self, batch_id: str, item: BatchItem) -> None:
        """Tells each."""
        for observer in self._observers:
            observer.item_ended(batch_id, item)

    def ended(self, summary: BatchSummary) -> None:
        """Tells each."""
        for observer in self._observers:
            observer.ended(summary)


class Throttle:
    """Lets something through once in so many seconds. Pure."""

    def __init__(self, seconds: float) -> None:
        """The first goes through."""
        self._seconds = seconds
        self._last = float("-inf")

    def passes(self, now: float) -> bool:
        """Whether it is time again."""
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True
