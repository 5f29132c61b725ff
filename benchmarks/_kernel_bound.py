"""Policies as they are commonly run: a call is bound when it arrives, and waits where it was sent.

The pickers are the mesh's own classes behind its Balancer, and know what a
client knows: its own calls in flight, how long they took, and what each answer
says of the endpoint's load. So that they choose and never refuse, every endpoint
is told of with MANY times its slots; ratios between endpoints stay what they are.
An endpoint runs as many at once as it has slots, first come, first served, and
finishes what it has taken before it goes.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from atomesh.balancer.balancer import Balancer
from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.picks import Pick
from atomesh.balancer.waiting import Call
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import AtomeshError, Draining
from atomesh.core.updates import Added, Position, Removed, WatchEvent
from benchmarks._kernel import Kernel, Network, Wire
from benchmarks._kernel_mesh import PATIENCE, Counts, Finished
from benchmarks._kernel_site import AGENT, Duration
from benchmarks._traces import Site

MANY = 1_000_000
"""No client has so many calls in flight for each slot."""
SESSIONS = 64
"""Per client, for the policy that keeps a session at one endpoint."""


@dataclass(slots=True)
class Job:
    """A call at the endpoint it was bound to."""

    number: int
    call: Call
    pick: Pick
    refused: bool = False
    running: int = 0
    """Calls that the endpoint has when it answers."""


class BoundSite:
    """An endpoint: slots, and a queue before them that is as long as it has to be."""

    def __init__(self, kernel: Kernel, number: int, site: Site, duration: Duration) -> None:
        """`duration` says how long a call of the trace runs here."""
        self.kernel = kernel
        self.number = number
        self.site = site
        self.most = 0
        self.generation = 0
        self.away = False
        self._running = 0
        self._queue: deque[tuple[Job, Wire[Job]]] = deque()
        self._duration = duration

    @property
    def address(self) -> str:
        """Where."""
        return f"site-{self.number}:1"

    def endpoint(self) -> Endpoint:
        """As the registry tells of it, with MANY times its slots."""
        return Endpoint(AGENT, self.address, f"{self.number}-{self.generation}", slots=self.site.slots * MANY)

    def leave(self) -> None:
        """Takes nothing new."""
        self.away = True

    def come_back(self) -> None:
        """Another instance in its place."""
        self.away = False
        self.generation += 1

    def receive(self, job: Job, back: Wire[Job]) -> None:
        """A call has come."""
        if self.away:
            job.refused = True
            back.send(job)
        else:
            self._queue.append((job, back))
            self._next()

    def _next(self) -> None:
        while self._queue and self._running < self.site.slots:
            job, back = self._queue.popleft()
            self._running += 1
            self.most = max(self.most, self._running)
            seconds = self._duration(job.number, self.kernel.now)
            self.kernel.after(seconds, self._finish, job, back)

    def _finish(self, job: Job, back: Wire[Job]) -> None:
        self._running -= 1
        job.running = self._running + len(self._queue)
        back.send(job)
        self._next()


class BoundClient:
    """A client: a Balancer that always has somewhere to send a call."""

    def __init__(self, kernel: Kernel, index: int, network: Network, rng: random.Random, finished: Finished) -> None:
        """Knows no endpoint yet; `finished` is told of each answer."""
        self.kernel = kernel
        self.index = index
        self.policy = ""
        self.balancer = Balancer(AGENT, rng=rng)
        self.counts = Counts()
        self._network = network
        self._rng = rng
        self._finished = finished
        self._wires: dict[str, tuple[Wire[Job], Wire[Job]]] = {}
        self._sites: dict[str, BoundSite] = {}
        self._revision = 0

    def joined(self, site: BoundSite) -> None:
        """An endpoint is there."""
        self._apply(Added(site.endpoint()))
        if site.address not in self._wires:
            down: Wire[Job] = Wire(self.kernel, self._network, self._rng, self._answered)
            up: Wire[Job] = Wire(self.kernel, self._network, self._rng, lambda job: site.receive(job, down))
            self._wires[site.address] = up, down
        self.balancer.connected(site.address, SubchannelState.READY, self.kernel.now)

    def left(self, site: BoundSite, instance_id: str) -> None:
        """An endpoint is gone; its calls go on."""
        self._apply(Removed(AGENT, site.address, instance_id))

    def _apply(self, update: Added | Removed) -> None:
        self._revision += 1
        self.balancer.apply(WatchEvent((update,), Position("store", self._revision)), self.kernel.now)

    def arrive(self, number: int) -> None:
        """Somebody calls."""
        session = f"{self.index}-{self._rng.randrange(SESSIONS)}" if self.policy == "rendezvous" else ""
        self._send(number, Call(self.kernel.now + PATIENCE, self.policy, session))

    def _send(self, number: int, call: Call) -> None:
        pick = self.balancer.submit(call, self.kernel.now)
        if pick is None:
            raise RuntimeError("a call found no endpoint to be bound to; leave one there at any time")
        self._wires[pick.endpoint.address][0].send(Job(number, call, pick))

    def _answered(self, job: Job) -> None:
        error: AtomeshError | None = Draining("it drains") if job.refused else None
        job.pick.done(self.kernel.now, error, None if job.refused else job.running)
        if job.refused:
            self.counts.rejects += 1
            job.call.tried = (*job.call.tried, job.pick.candidate)
            self._send(job.number, job.call)
        else:
            self._finished(job.number)
