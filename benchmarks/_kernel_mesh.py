"""The mesh's clients in the world of events: its own Balancer and ClientEnds, moved by no loop.

What the shells do is done here step by step as they do it (balancer.fleet and
walk, rpc.mux.client): submit, send, park and demand, use a grant or give it back.
A shell's tasks run after the callback that wakes them; so does here what follows
a frame. The endpoints are in `_kernel_site.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from atomesh.balancer.balancer import Balancer
from atomesh.balancer.budget import RetryBudget
from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.picks import Assignment, MuxView, Pick
from atomesh.balancer.retry import History, Next, decide
from atomesh.balancer.waiting import Call
from atomesh.core.errors import AtomeshError, Draining, NoFreeSlot
from atomesh.core.updates import Added, Position, Removed, WatchEvent
from atomesh.rpc.mux.client_end import ClientEnd, Sent
from atomesh.rpc.mux.server_end import ServerEnd
from atomesh.v1 import mux_pb2
from benchmarks._kernel import Kernel, Network, Wire
from benchmarks._kernel_site import AGENT, FULL, TICK, MeshSite

PATIENCE = 1e6
"""Seconds until a call's deadline: nobody gives up, for waits are what is measured."""
_SAMPLED_EVERY = 0.001  # as balancer.fleet

Finished = Callable[[int], None]
"""Told which call has its answer."""


@dataclass(slots=True)
class Counts:
    """What it took."""

    rejects: int = 0
    granted: int = 0
    returned: int = 0


class Mux:
    """One stream: both ends, and the wires between."""

    def __init__(self, client: MeshClient, site: MeshSite, network: Network, rng: random.Random) -> None:
        """The first frame opens it."""
        self.index = client.index
        self.site = site
        self.end = ClientEnd(mux_pb2.MuxOpen(agent=AGENT))
        self.server: ServerEnd
        self._opened = False
        self.closing = False
        self._closed = False
        self.silent = False
        self._kernel = client.kernel
        self._client = client
        self._timer_at = 0.0
        self.up: Wire[mux_pb2.MuxRequest] = Wire(client.kernel, network, rng, self._receive)
        self.down: Wire[mux_pb2.MuxResponse] = Wire(
            client.kernel, network, rng, lambda frame: client.receive(self, frame)
        )
        self._latency = network.latency

    def _receive(self, frame: mux_pb2.MuxRequest) -> None:
        if not self._opened:
            self._opened = True
            self.server = self.site.open(self, frame.open)
        self.site.receive(self, frame)

    def give_back(self) -> None:
        """A grant was not needed after all."""
        self.end.give_back()
        self._client.counts.returned += 1

    def flush(self) -> None:
        """Sends whatever the client has to say."""
        now = self._kernel.now
        while (frame := self.end.take(now)) is not None:
            self.up.send(frame)
        if self.closing and not self.end.calls and not self._closed:
            self._closed = True
            self._kernel.after(self._latency, self.site.close, self)
        due = self.end.next_event()
        if due is not None and due < now + PATIENCE / 2 and not self._timer_at:
            self._timer_at = max(due, now) + TICK
            self._kernel.at(self._timer_at, self._tick)

    def _tick(self) -> None:
        self._timer_at = 0.0
        silent = self.end.silent(self._kernel.now)
        if silent != self.silent:
            self.silent = silent
            self._client.look(self)
        self.flush()


class Walk:
    """One call's way."""

    __slots__ = ("call", "number", "refused")

    def __init__(self, number: int, call: Call) -> None:
        """It has not begun."""
        self.number = number
        self.call = call
        self.refused = 0


class MeshClient:
    """A client: a Balancer, and a ClientEnd for each endpoint."""

    def __init__(self, kernel: Kernel, index: int, network: Network, rng: random.Random, finished: Finished) -> None:
        """Knows no endpoint yet; `finished` is told of each answer."""
        self.kernel = kernel
        self.index = index
        self.policy = "late_binding"
        self.balancer = Balancer(AGENT, rng=rng)
        self.counts = Counts()
        self._network = network
        self._rng = rng
        self._finished = finished
        self._budget = RetryBudget()
        self._muxes: dict[str, Mux] = {}
        self._waiting: dict[Call, Walk] = {}
        self._demanding = False
        self._took_at = -1.0
        self._revision = 0

    # -- what the registry tells -------------------------------------------------

    def joined(self, site: MeshSite) -> None:
        """An endpoint is there."""
        self._apply(Added(site.endpoint()))
        mux = self._muxes[site.address] = Mux(self, site, self._network, self._rng)
        mux.flush()

    def left(self, site: MeshSite, instance_id: str) -> None:
        """An endpoint is gone; its calls go on."""
        mux = self._muxes.pop(site.address)
        self._apply(Removed(AGENT, site.address, instance_id))
        mux.end.park(0)
        mux.closing = True
        mux.flush()
        self._step()

    def _apply(self, update: Added | Removed) -> None:
        self._revision += 1
        self.balancer.apply(WatchEvent((update,), Position("store", self._revision)), self.kernel.now)

    # -- calls (balancer.walk) ---------------------------------------------------

    def arrive(self, number: int) -> None:
        """Somebody calls."""
        self._go(Walk(number, Call(self.kernel.now + PATIENCE, self.policy)))
        self._flush()

    def _go(self, walk: Walk) -> None:
        pick = self.balancer.submit(walk.call, self.kernel.now)
        if pick is not None:
            self._attempt(walk, pick)
        else:
            self._waiting[walk.call] = walk
            self._park()

    def _attempt(self, walk: Walk, pick: Pick) -> None:
        grant, pick.grant = pick.grant, None
        mux = grant if isinstance(grant, Mux) else self._muxes[pick.endpoint.address]
        input = walk.number.to_bytes(4)
        waiter = walk, pick, self.kernel.now
        sent = mux.end.call(input, b"", walk.call.deadline, waiter, granted=grant is not None)
        sent.wait = pick.waits

    def _went_well(self, sent: Sent, execution: float, waited: float) -> None:
        walk, pick, begun = sent.waiter
        now = self.kernel.now
        if now - self._took_at > _SAMPLED_EVERY:
            self._took_at = now
            self.balancer.took(pick, execution, waited, now - begun, now)
        self._ended(sent, None)
        self._finished(walk.number)

    def _ended(self, sent: Sent, error: AtomeshError | None) -> None:
        walk, pick, _ = sent.waiter
        pick.done(self.kernel.now, error)
        if self.balancer.dirty:
            self._step()
        if error is None:
            return
        walk.refused += 1
        history = History(0, walk.refused, len(self.balancer.candidates), False)
        decision = decide(error, history, self._budget, self.kernel.now, self._rng)
        if decision.next is Next.ELSEWHERE:
            walk.call.tried = (*walk.call.tried, pick.candidate)
        elif decision.next is Next.WAIT:
            walk.call.tried, walk.refused = (), 0
        else:
            raise error
        self._go(walk)

    # -- frames (rpc.mux.client) -------------------------------------------------

    def receive(self, mux: Mux, frame: mux_pb2.MuxResponse) -> None:
        """A frame has come."""
        draining, now = mux.end.draining, self.kernel.now
        received = mux.end.receive(frame, now)
        if received.load is not None:
            candidate = self.balancer.candidates.get(mux.site.address)
            if candidate is not None:
                load = received.load
                candidate.told(load.in_flight, load.queued, load.yours, now)
                candidate.execution = load.execution_us / 1e6
        if received.grants:
            self._granted(mux, received.grants)
        if received.hello is not None or mux.silent or draining != mux.end.draining:
            mux.silent = False
            self.look(mux)
        for sent, reply, _ in received.ended:
            if reply.status:
                full = reply.status == FULL
                self._ended(sent, NoFreeSlot("full") if full else Draining("it drains"))
            else:
                self._went_well(sent, reply.execution_us / 1e6, reply.queue_us / 1e6)
        self.counts.rejects += len(received.rejected)
        for sent in received.rejected:
            self._ended(sent, NoFreeSlot("full"))
        mux.flush()
        self._flush()

    # -- balancer.fleet ----------------------------------------------------------

    def look(self, mux: Mux) -> None:
        """What a mux says of itself has changed."""
        hello = mux.end.hello
        if hello is not None and self._muxes.get(mux.site.address) is mux:
            view = MuxView(hello.slots, hello.weight or 1.0, mux.silent, mux.end.draining)
            self.balancer.connected(mux.site.address, SubchannelState.READY, self.kernel.now, view)
            self._step()

    def _granted(self, mux: Mux, grants: int) -> None:
        self.counts.granted += grants
        assignments: list[Assignment] = []
        if self._muxes.get(mux.site.address) is mux:
            assignments = self.balancer.granted(mux.site.address, mux, grants, self.kernel.now)
        for _ in range(grants - len(assignments)):
            mux.give_back()
        self._assign(assignments)
        self._park()

    def _step(self) -> None:
        self._assign(self.balancer.step(self.kernel.now))
        self._park()

    def _assign(self, assignments: list[Assignment]) -> None:
        for assignment in assignments:
            if not isinstance(assignment.result, Pick):
                raise assignment.result
            self._attempt(self._waiting.pop(assignment.call), assignment.result)

    def _park(self) -> None:
        demands = self.balancer.demands()
        if not demands and not self._demanding:
            return
        self._demanding = bool(demands)
        for address, mux in self._muxes.items():
            mux.end.park(demands.get(address, 0))

    def _flush(self) -> None:
        for mux in self._muxes.values():
            mux.flush()
