"""Results that wait to be read: as they came, or in the order of the inputs. Pure."""

from __future__ import annotations

from collections import deque

from atomesh.pipelines.batch.model import BatchItem


class Results:
    """Takes items as they end and gives them out in the order that was asked for."""

    def __init__(self, *, ordered: bool) -> None:
        """None yet."""
        self._ordered = ordered
        self._ready: deque[BatchItem] = deque()
        self._early: dict[int, BatchItem] = {}
        self.next = 0
        """In order: the place of the next one that can be given out."""

    def __len__(self) -> int:
        """Those that nobody has read."""
        return len(self._ready) + len(self._early)

    def put(self, item: BatchItem) -> None:
        """An item ended."""
        if not self._ordered:
            self._ready.append(item)
            return
        self._early[item.index] = item
        while (following := self._early.pop(self.next, None)) is not None:
            self._ready.append(following)
            self.next += 1

    def take(self) -> BatchItem | None:
        """The next one; None where none can be given out yet."""
        return self._ready.popleft() if self._ready else None

    def close_gaps(self) -> None:
        """Nothing more will end: what is left follows in order, whatever is missing between."""
        for index in sorted(self._early):
            self._ready.append(self._early.pop(index))
