"""Which calls are out of time: a heap that forgets lazily.

A timer of the loop per call costs more than the rest of its way through the
mux, and nearly no call needs its own. What ended early stays in the heap until
it is more than what lives; then it is swept out, at O(1) per call on average.
"""

from __future__ import annotations

import heapq
from collections.abc import Container

_SWEEP = 256  # dead entries that are not worth a sweep


class Deadlines:
    """Deadlines by id, in monotonic seconds. `alive` holds the ids that still matter."""

    __slots__ = ("_alive", "_heap", "_sweep_at")

    def __init__(self, alive: Container[int]) -> None:
        """Looks into `alive` whenever it needs to know; it is the owner's own table."""
        self._alive = alive
        self._heap: list[tuple[float, int]] = []
        self._sweep_at = _SWEEP

    def add(self, deadline: float, id: int) -> None:  # the word of the wire
        """The call is out of time then."""
        heapq.heappush(self._heap, (deadline, id))
        if len(self._heap) > self._sweep_at:
            self._heap = [entry for entry in self._heap if entry[1] in self._alive]
            heapq.heapify(self._heap)
            self._sweep_at = 2 * len(self._heap) + _SWEEP

    def first(self) -> float | None:
        """When the next one is out of time; None where nobody ever is."""
        heap = self._heap
        while heap and heap[0][1] not in self._alive:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> list[int]:
        """Those that are out of time, each told of once."""
        found = []
        while (first := self.first()) is not None and first <= now:
            found.append(heapq.heappop(self._heap)[1])
        return found
