"""How many calls a batch has outstanding at a target, and which targets are served next: pure.

The window is the slots that can be picked and a small reserve, so that a slot
that comes free finds a call waiting rather than a round of this process away.
It follows the fleet: endpoints that join or leave change the slots, and where
other callers have some of them, so that more than the reserve waits here, the
window shrinks to what is served.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from atomesh.balancer.capacity import Capacity

RESERVE_SHARE = 8
"""The reserve is an eighth of the slots at least: with calls of one length many slots
come free in the same moment. With half as much some of those wait for this process;
twice as much only waits longer in the client."""
MIN_RESERVE = 2
"""With one, a slot that comes free while the next call is being made finds none."""

MEMORY = 64
"""Items over which means are taken."""

LOOK_SECONDS = 0.01
"""Between two looks at the capacity, which cost O(endpoints). What changes the slots
themselves is told at once; in between only other callers come and go, and their news
are older than that."""

_LONGEST = 1.0  # round trips per execution, beyond which more calls under way bring nothing


class Window:
    """How many calls may be outstanding at one target."""

    __slots__ = ("_around", "_execution", "_looked", "_samples", "capacity", "limit")

    def __init__(self) -> None:
        """One call, until the fleet is known: it fails as it must where there is none."""
        self.capacity = Capacity()
        self.limit = 1
        self._looked = float("-inf")
        self._samples = 0
        self._around = 0.0
        self._execution = 0.0

    def took(self, execution: float, around: float) -> None:
        """An item kept a slot busy for so long, and was under way for `around` beside that and its waits."""
        self._samples = samples = min(self._samples + 1, MEMORY)
        self._execution += (execution - self._execution) / samples
        self._around += (around - self._around) / samples

    @property
    def reserve(self) -> int:
        """Calls beyond the slots.

        As many as end in two round trips, as those are that a client lets wait at
        an endpoint where they are long beside the work (`balancer.binding`), and
        never more than there are slots.
        """
        slots = self.capacity.slots
        ratio = min(_LONGEST, self._around / self._execution) if self._execution > 0 else 0.0
        under_way = min(slots, math.ceil(2 * slots * ratio))
        return max(MIN_RESERVE, math.ceil(slots / RESERVE_SHARE), under_way)

    @property
    def throttled(self) -> bool:
        """Whether it is less than the fleet's whole, so that it may grow with nothing ending here."""
        return self.limit < self.capacity.slots + self.reserve

    def due(self, now: float) -> bool:
        """Whether the capacity should be looked at."""
        return now - self._looked >= LOOK_SECONDS

    def look(self, capacity: Capacity, outstanding: int, now: float) -> None:
        """Takes the capacity, of which this batch has so many calls."""
        self._looked = now
        self.capacity = capacity
        if not capacity.slots:
            self.limit = 1
            return
        reserve = self.reserve
        served = outstanding + capacity.free + reserve - capacity.waiting
        self.limit = max(1, min(capacity.slots + reserve, served))


@dataclass(frozen=True, slots=True)
class Want:
    """One target's wish to begin calls."""

    limit: int
    outstanding: int
    held: int
    """Inputs at hand."""

    @property
    def wanted(self) -> int:
        """What it could begin now."""
        return max(0, min(self.limit - self.outstanding, self.held))


def shares(wants: Sequence[Want], room: int) -> list[int]:
    """How many calls each target begins now, not more than `room` together.

    Where there is room for all, each what it can; else one after the other to
    whoever has the smallest part of its window, so that a cap is shared out by
    the targets' sizes.
    """
    wanted = [want.wanted for want in wants]
    if sum(wanted) <= room:
        return wanted
    given = [0] * len(wants)
    for _ in range(room):
        open_to = [place for place, most in enumerate(wanted) if given[place] < most]
        place = min(open_to, key=lambda place: (wants[place].outstanding + given[place]) / wants[place].limit)
        given[place] += 1
    return given
