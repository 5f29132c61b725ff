"""When binding late does not pay: round trips that are long beside the work.

Late binding leaves a slot empty for the round trip between its grant and the
call. Beside an execution of fifty round trips nobody sees that; at ten it costs
a tenth of the capacity, and a fleet that was busy for nine tenths has none left
(p99 of waits at a round trip of 40 % of the work: 42 times those of a central
queue, where calls that are bound on arrival have 1.9). So a client measures both
and, where it must, binds early: the least loaded endpoint at once, and the call
waits there.
"""

from __future__ import annotations

import math

MEMORY = 64
"""Calls over which means are taken. Half of it flips by chance; twice is late
when the work or the way changes."""
MIN_SAMPLES = 8

LONG = 0.25
"""Round trips per execution from which on calls are always bound early."""
SHORT = 0.05
"""Below it never: an empty slot of a twentieth is less than a wrong choice costs."""
CROWDED = 0.6
"""Between the two, early while this share of calls finds no slot free: only then
does a slot that waits for its call keep somebody waiting."""
_SLACK = 0.75  # it ends at so much of what it began at, lest it flips to and fro


class Binding:
    """Whether calls of one agent bind early now."""

    __slots__ = ("_crowd", "_execution", "_round_trip", "_samples", "early")

    def __init__(self) -> None:
        """Late, until there is reason not to."""
        self.early = False
        self._samples = 0
        self._execution = 0.0
        self._round_trip = 0.0
        self._crowd = 0.0

    def ahead(self, slots: int) -> int:
        """How many calls may be at an endpoint beyond its slots, so that none is empty for want of one.

        As many as end there in two round trips: one for the news and one for the call.
        """
        ratio = self._round_trip / max(self._execution, 1e-6)
        return max(1, math.ceil(2 * slots * min(1.0, ratio)))

    def took(self, execution: float, round_trip: float, waited: bool) -> None:
        """A call was under way for so many seconds, to an endpoint whose executions take so many in the mean.

        The mean is the endpoint's own, over all its clients: over the few calls of
        one, costs that differ a thousandfold have none. `waited` is whether no slot was free.
        """
        self._samples = samples = min(self._samples + 1, MEMORY)
        self._execution += (execution - self._execution) / samples
        self._round_trip += (round_trip - self._round_trip) / samples
        self._crowd += (waited - self._crowd) / samples
        if samples < MIN_SAMPLES:
            return
        slack = _SLACK if self.early else 1.0
        ratio = self._round_trip / max(self._execution, 1e-6)
        crowded = self._crowd > CROWDED * slack
        self.early = ratio > LONG * slack or (ratio > SHORT * slack and crowded)
