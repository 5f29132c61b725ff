"""An endpoint of the mesh in the world of events: its own Admission, and a ServerEnd for each stream.

What the shells do is done here step by step as they do it (rpc.mux.server,
agents.mux_door, agents.served): let in or reject, run in a slot, let wait for
one, reply, and send whatever there is to say.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from atomesh.agents.admission import Admission, Asking, Place, Waiter
from atomesh.core.endpoint import Endpoint
from atomesh.rpc.mux.server_end import Execution, ServerEnd
from atomesh.v1 import mux_pb2
from benchmarks._kernel import Kernel, Wire
from benchmarks._traces import Site

AGENT = "work"
TICK = 0.001  # as the shells: a timer is late rather than early
FULL = b"full"
"""What a call is told that waited for a slot in vain."""

Duration = Callable[[int, float], float]
"""How long a call runs that begins then."""


class Stream(Protocol):
    """What an endpoint needs of a stream."""

    index: int
    server: ServerEnd
    down: Wire[mux_pb2.MuxResponse]


class MeshSite:
    """An endpoint: an Admission, and a ServerEnd for each stream."""

    def __init__(self, kernel: Kernel, number: int, site: Site, duration: Duration, rng: random.Random) -> None:
        """`duration` says how long a call of the trace runs here."""
        self.kernel = kernel
        self.number = number
        self.site = site
        self.weight = 1.0
        """What its operator says of its speed."""
        self.admission = Admission(AGENT, site.slots, rng=rng)
        self.most = 0
        """Executions at once, at most."""
        self.generation = 0
        """Instances that have come and gone."""
        self._duration = duration
        self._muxes: set[Stream] = set()
        self._timer_at = 0.0

    @property
    def address(self) -> str:
        """Where."""
        return f"site-{self.number}:1"

    def endpoint(self) -> Endpoint:
        """As the registry tells of it."""
        return Endpoint(AGENT, self.address, f"{self.number}-{self.generation}", slots=self.site.slots)

    def leave(self) -> None:
        """Takes nothing new."""
        self.admission.draining = True
        for mux in self._muxes:
            mux.server.drain()
        self.flush()

    def come_back(self) -> None:
        """Another instance in its place; what the last one runs still has its slots."""
        self.admission.draining = False
        self.generation += 1

    def open(self, mux: Stream, opening: mux_pb2.MuxOpen) -> ServerEnd:
        """The endpoint's end of a stream."""
        self._muxes.add(mux)
        hello = mux_pb2.MuxHello(slots=self.site.slots, weight=self.weight)
        return ServerEnd(self.admission, opening, hello)

    def close(self, mux: Stream) -> None:
        """The stream has ended."""
        if mux in self._muxes:
            self._muxes.discard(mux)
            mux.server.gone(self.kernel.now)
            self.flush()

    def receive(self, mux: Stream, frame: mux_pb2.MuxRequest) -> None:
        """A frame has come."""
        now = self.kernel.now
        received = mux.server.receive(frame, now)
        for execution in received.start:
            self._run(mux, execution, 0.0)
        for execution in received.wait:
            self._wait(mux, execution)
        for execution, why in received.refuse:
            mux.server.refuse(execution, why.encode())
        self.most = max(self.most, self.admission.in_flight)
        self.flush()

    def _wait(self, mux: Stream, execution: Execution) -> None:
        """As agents.served does for a call that waits: the queue of stock clients, patient for a second."""
        now = self.kernel.now
        if self.admission.try_enter():
            self._run(mux, execution, 0.0)
            return
        decision = self.admission.ask(Asking(execution.deadline), now)
        if not isinstance(decision, Waiter):
            mux.server.fail(execution, FULL)
            return
        decision.wake = lambda: self.kernel.after(0.0, self._woken, mux, execution, decision)
        self.kernel.at(decision.until, self._woken, mux, execution, decision)

    def _woken(self, mux: Stream, execution: Execution, waiter: Waiter) -> None:
        if waiter.place is Place.GONE:
            return
        if waiter.place is Place.GRANTED:
            waiter.place = Place.GONE
            self._run(mux, execution, self.kernel.now - waiter.since)
        else:
            self.admission.give_up(waiter, self.kernel.now)
            mux.server.fail(execution, FULL)
        self.flush()

    def _run(self, mux: Stream, execution: Execution, waited: float) -> None:
        seconds = self._duration(int.from_bytes(execution.input), self.kernel.now)
        self.most = max(self.most, self.admission.in_flight)
        self.kernel.after(seconds, self._finish, mux, execution, seconds, waited)

    def _finish(self, mux: Stream, execution: Execution, seconds: float, waited: float) -> None:
        now = self.kernel.now
        self.admission.leave(seconds, now)
        reply = mux.server.reply(execution, execution.input, now)
        if reply is not None:
            reply.execution_us, reply.queue_us = int(seconds * 1e6), int(waited * 1e6)
        mux.server.left(execution)
        self.flush()

    def flush(self) -> None:
        """Sends whatever there is to say, to anybody."""
        now = self.kernel.now
        for mux in sorted(self._muxes, key=lambda mux: mux.index):
            while (frame := mux.server.take(now)) is not None:
                mux.down.send(frame)
        due = self.admission.next_event()
        if due is not None and self._timer_at <= now:
            self._timer_at = max(due, now) + TICK
            self.kernel.at(self._timer_at, self._tick)

    def _tick(self) -> None:
        self._timer_at = 0.0
        self.admission.tick(self.kernel.now)
        self.flush()
