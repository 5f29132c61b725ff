"""A trace in the world of events, under one policy: what became of each call."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from atomesh.balancer import POLICIES
from benchmarks._central import Served
from benchmarks._kernel import Kernel, Network
from benchmarks._kernel_bound import BoundClient, BoundSite
from benchmarks._kernel_mesh import Counts, MeshClient
from benchmarks._kernel_site import MeshSite
from benchmarks._traces import Trace

LATE = "late_binding"
START = 10.0
"""When the trace begins: clients are connected by then."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trace."""

    served: tuple[Served, ...]
    """In the order of the trace; a wait is all from arrival to answer that is no execution, round trip included."""
    over_slots: int
    """Endpoints that ran more than their slots at once."""
    counts: Counts
    events: int


class World:
    """One run."""

    def __init__(self, trace: Trace, policy: str, network: Network, seed: int) -> None:
        """Everybody is there who is not away at the start."""
        if policy not in POLICIES:
            raise ValueError(f"no policy {policy!r}; there are {', '.join(POLICIES)}")
        self.trace = trace
        self.network = network
        self.kernel = Kernel()
        self._ended: dict[int, float] = {}
        self._ran: dict[int, tuple[int, float]] = {}
        self.sites: list[Any] = []
        """MeshSites with MeshClients, or BoundSites with BoundClients."""
        self.clients: list[Any] = []
        late = policy == LATE
        for number, site in enumerate(trace.sites):
            if late:
                rng = random.Random(f"{seed} site {number}")
                self.sites.append(MeshSite(self.kernel, number, site, self._duration_at(number), rng))
            else:
                self.sites.append(BoundSite(self.kernel, number, site, self._duration_at(number)))
        for index in range(1 + max(one.client for one in trace.arrivals)):
            kind: Any = MeshClient if late else BoundClient
            client = kind(self.kernel, index, network, random.Random(f"{seed} client {index}"), self._finished)
            client.policy = policy
            self.clients.append(client)

    def declare(self, weights: Sequence[float]) -> None:
        """What operators say of the endpoints' speeds; without it all are 1."""
        for site, weight in zip(self.sites, weights, strict=True):
            site.weight = weight

    def run(self) -> Outcome:
        """Until every call has its answer.

        Raises:
            RuntimeError: some never got one.
        """
        kernel, arrivals = self.kernel, self.trace.arrivals
        for number, site in enumerate(self.sites):
            self._come_and_go(site, self.trace.sites[number].away)
        for number, one in enumerate(arrivals):
            kernel.at(START + one.at, self.clients[one.client].arrive, number)
        kernel.run(lambda: len(self._ended) < len(arrivals))
        if len(self._ended) < len(arrivals):
            raise RuntimeError(f"{len(arrivals) - len(self._ended)} of {len(arrivals)} calls never ended")
        served = []
        for number, one in enumerate(arrivals):
            site, seconds = self._ran[number]
            served.append(Served(self._ended[number] - START - one.at - seconds, seconds, one.cost, site))
        over = sum(site.most > site.site.slots for site in self.sites)
        return Outcome(tuple(served), over, self._counts(), kernel.events)

    def _come_and_go(self, site: Any, away: Sequence[tuple[float, float]]) -> None:
        kernel = self.kernel
        if away and away[0][0] <= 0:
            away, first = away[1:], START + away[0][1]
        else:
            first = START / 2
        kernel.at(first, self._join, site)
        for start, end in away:
            kernel.at(START + start, self._leave, site)
            kernel.at(START + end, site.come_back)
            kernel.at(START + end, self._join, site)

    def _join(self, site: Any) -> None:
        for client in self.clients:
            self.kernel.after(self.network.latency, client.joined, site)

    def _leave(self, site: Any) -> None:
        site.leave()
        instance = site.endpoint().instance_id
        for client in self.clients:
            self.kernel.after(self.network.latency, client.left, site, instance)

    def _duration_at(self, number: int) -> Any:
        site, arrivals = self.trace.sites[number], self.trace.arrivals

        def duration(call: int, now: float) -> float:
            if call in self._ran:
                raise RuntimeError(f"call {call} was executed twice")
            seconds = arrivals[call].cost / site.speed(now - START)
            self._ran[call] = number, seconds
            return seconds

        return duration

    def _finished(self, number: int) -> None:
        if number in self._ended:
            raise RuntimeError(f"call {number} was answered twice")
        self._ended[number] = self.kernel.now

    def _counts(self) -> Counts:
        total = Counts()
        for client in self.clients:
            total.rejects += client.counts.rejects
            total.granted += client.counts.granted
            total.returned += client.counts.returned
        return total
