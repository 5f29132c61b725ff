"""The yardstick: one central queue, first come first served, that dispatches to the fastest free slot.

It knows every slot at every moment, so what a policy waits above it is the price
of knowing less. It is a yardstick and no optimum: it never leaves a slow slot
empty to wait for a fast one, so that a policy may beat it where an endpoint is
very slow, and it does not put short calls first. An exact
discrete-event simulation, with nothing drawn: the costs are the trace's.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks._traces import Arrival, Site

_END, _CHANGE, _ARRIVAL = range(3)
"""Order of what happens at the same time: a slot that comes free serves who arrives just then."""


@dataclass(frozen=True, slots=True)
class Served:
    """How one call fared, in seconds."""

    wait: float
    """From its arrival to its answer, less the service."""
    service: float
    """From the start of its execution to its end."""
    cost: float
    """What it costs at speed 1."""
    site: int = -1
    """Who ran it."""

    @property
    def slowdown(self) -> float:
        """Time from arrival to answer over the call's cost, not over the service that it
        happened to get: or choosing a slow endpoint would look good.
        """
        return (self.wait + self.service) / self.cost


def central(arrivals: Sequence[Arrival], sites: Sequence[Site]) -> list[Served]:
    """Each call's fate, in the order of `arrivals`, which is that of their times.

    Among free slots the fastest at that moment wins, then the earlier site. A
    site that is away takes nothing, and what it runs ends.

    Raises:
        ValueError: calls were left when no site would ever take one again.
    """
    order = itertools.count()
    events = [(one.at, _ARRIVAL, next(order), number) for number, one in enumerate(arrivals)]
    for site in sites:
        changes = [at for at, _ in site.speeds[1:]] + [at for window in site.away for at in window]
        events += [(at, _CHANGE, next(order), 0) for at in changes if at < math.inf]
    heapq.heapify(events)
    free = [site.slots for site in sites]
    waiting: deque[int] = deque()
    served: list[Served | None] = [None] * len(arrivals)
    while events:
        now, kind, _, which = heapq.heappop(events)
        if kind == _END:
            free[which] += 1
        elif kind == _ARRIVAL:
            waiting.append(which)
        while waiting and (best := _fastest(sites, free, now)) is not None:
            call = waiting.popleft()
            free[best] -= 1
            cost = arrivals[call].cost
            service = cost / sites[best].speed(now)
            served[call] = Served(now - arrivals[call].at, service, cost, best)
            heapq.heappush(events, (now + service, _END, next(order), best))
    if waiting:
        raise ValueError(f"{len(waiting)} calls were never served: every site is away for good")
    return [one for one in served if one is not None]


def _fastest(sites: Sequence[Site], free: Sequence[int], now: float) -> int | None:
    best, speed = None, 0.0
    for number, site in enumerate(sites):
        if free[number] and site.takes(now) and (found := site.speed(now)) > speed:
            best, speed = number, found
    return best
