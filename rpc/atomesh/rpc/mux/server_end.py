"""The endpoint's end of a mux: calls in, replies and grants out. Pure.

It decides with the agent's `Slots` what runs and what is rejected, and says so
in frames. Who waits is computed, not counted up and down, so that frames which
cross on the way cannot make the two ends disagree for longer than that:

    waiting = demand as last stated + rejects sent - grants sent
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from atomesh.rpc.mux.client_end import FEATURES, VERSION
from atomesh.rpc.mux.deadlines import Deadlines
from atomesh.rpc.mux.parts import FRAME_BYTES, WHOLE_BYTES, Assembly, Parts
from atomesh.rpc.mux.slots import GRANT_SECONDS, Claim, Slots
from atomesh.v1 import mux_pb2

MAX_INPUT = 4 * 1024 * 1024
"""What a call may come to, as for a unary one (rpc.channel.MAX_MESSAGE_BYTES)."""

BACKLOG_BYTES = 8 * 1024 * 1024
"""Replies that a client may leave unread before it is read no further itself.
Half holds up a client that is behind by two large outputs; twice is memory that
a thousand slow clients would have to be given."""

_REPLY_BYTES = 80
"""What surrounds an output: a client that reads nothing is held to the same bound where outputs are empty."""
_REJECT_BYTES = 10


class Execution:
    """One call that was let in, from its first frame to its reply."""

    __slots__ = (
        "assembly",
        "authorization",
        "begun",
        "cancelled",
        "context",
        "deadline",
        "fed_at",
        "id",
        "input",
        "key",
        "request_id",
        "task",
        "timestamp_us",
        "waits",
    )

    def __init__(self, call: mux_pb2.MuxCall, deadline: float) -> None:
        """`task` is the shell's own."""
        self.id: int = call.id
        self.input: bytes = call.input
        self.context: bytes = call.context
        self.request_id: bytes = call.request_id
        self.key: bytes = call.idempotency_key
        self.timestamp_us: int = call.timestamp_us
        self.authorization: bytes = call.authorization
        self.deadline = deadline
        self.cancelled = False
        self.waits = False
        """It was let in to wait, without a slot."""
        self.begun = False
        """Its task has had its first turn: before that, cancelling would keep it from ever giving its slot back."""
        self.task: Any = None
        self.assembly: Assembly | None = None
        self.fed_at = 0.0


@dataclass(slots=True)
class Received:
    """What a frame asks for."""

    start: list[Execution] = field(default_factory=list)
    """To be run now; each has its slot."""
    wait: list[Execution] = field(default_factory=list)
    """To be run as soon as there is a slot; they have none."""
    cancel: list[Execution] = field(default_factory=list)
    """To be ended; nobody waits for a reply, and none will be sent."""
    refuse: list[tuple[Execution, str]] = field(default_factory=list)
    """To be answered with a refusal that is not for want of a slot: `returns`, `drain`, `size`. They have none."""


class ServerEnd:
    """One stream as the endpoint knows it."""

    def __init__(
        self, slots: Slots, opening: mux_pb2.MuxOpen, hello: mux_pb2.MuxHello, default_timeout: float = 30.0
    ) -> None:
        """Version and features of the hello are filled in; `default_timeout` in seconds is for calls that give none."""
        hello.version = min(VERSION, opening.version or 1)
        hello.features.extend(feature for feature in opening.features if feature in FEATURES)
        self._grants_known = mux_pb2.MUX_FEATURE_GRANTS in hello.features
        self._retire_known = mux_pb2.MUX_FEATURE_RETIRE in hello.features
        self._slots = slots
        self._default_timeout = default_timeout
        self._frame: mux_pb2.MuxResponse = mux_pb2.MuxResponse(hello=hello)
        self._full: deque[mux_pb2.MuxResponse] = deque()
        self._size = 0
        self._something = True
        self._parts = Parts()
        self.claim = Claim()
        self.running: dict[int, Execution] = {}
        """Executions without a reply, those that still come in parts included."""
        self._coming: dict[int, Execution] = {}
        self._deadlines = Deadlines(self.running)
        self._demand = 0
        self._rejects = 0
        self._returned = 0
        self._told = 0  # grants that frames have told of

    # -- frames ----------------------------------------------------------------

    def receive(self, frame: mux_pb2.MuxRequest, now: float) -> Received:
        """Takes a frame of the client."""
        received = Received()
        claim = self.claim
        if claim.mute:
            self._slots.heard(claim, now)
        for call in frame.calls:
            self._call(call, received, now)
        for part in frame.parts:
            self._part(part, received, now)
        for id in frame.cancels:
            self._cancel(id, received, now)
        if frame.HasField("demand"):
            self._demand = frame.demand
        if frame.HasField("returned") and frame.returned > self._returned:
            grants, self._returned = frame.returned - self._returned, frame.returned
            self._slots.give_back(claim, grants, now)
        waiting = self._demand + self._rejects - claim.granted if self._grants_known and not claim.mute else 0
        if waiting != claim.waiting:
            self._slots.demand(claim, waiting, now)
        if frame.ping:
            self._frame.pong, self._something = frame.ping, True
        return received

    def take(self, now: float) -> mux_pb2.MuxResponse | None:
        """The next frame to send; None where there is nothing to say."""
        claim = self.claim
        if self._full:
            return self._full.popleft()
        if claim.granted != self._told:
            self._frame.grants, self._told, self._something = claim.granted - self._told, claim.granted, True
        if self._parts:
            id, data, last = self._parts.next(now)
            self._frame.parts.add(id=id, data=data, last=last)
            self._something = True
        if not self._something:
            return None
        frame = self._frame
        load = frame.load
        slots = self._slots
        load.in_flight, load.queued, load.yours = slots.taken, slots.wanted, claim.running + len(claim.out)
        load.execution_us = int(slots.mean * 1e6)
        self._frame, self._size, self._something = mux_pb2.MuxResponse(), 0, False
        if claim.barred:
            claim.barred = self.congested
        return frame

    # -- what happens at the endpoint --------------------------------------------

    def reply(self, execution: Execution, output: bytes, now: float) -> mux_pb2.MuxReply | None:
        """Ends a call that went well; the reply to fill in further, None where nobody waits for it."""
        if self.running.get(execution.id) is not execution:
            return None
        del self.running[execution.id]
        large = len(output) > WHOLE_BYTES
        if large:
            self._parts.add(execution.id, output, WHOLE_BYTES)
        else:
            self._parts.small(now)
        reply = self._add_reply(execution.id, min(len(output), WHOLE_BYTES))
        if large:
            reply.output, reply.more, reply.size = output[:WHOLE_BYTES], True, len(output)
            self.claim.barred = self.congested
        else:
            reply.output = output
        return reply

    def fail(self, execution: Execution, status: bytes) -> None:
        """Ends a call with a serialized google.rpc.Status."""
        if self.running.get(execution.id) is execution:
            del self.running[execution.id]
            self.refuse(execution, status)

    def refuse(self, execution: Execution, status: bytes) -> None:
        """Answers a call that was never let in."""
        self._add_reply(execution.id, len(status)).status = status

    def left(self, execution: Execution) -> None:
        """The execution's slot is free again."""
        if not execution.waits:
            self.claim.running -= 1

    def retire(self) -> None:
        """Asks the client to open another stream; one that does not know of it is left alone."""
        if self._retire_known:
            self._frame.retire = self._something = True

    def drain(self) -> None:
        """Tells the client that the endpoint takes nothing new soon; it refuses once its slots say so."""
        self._frame.drain = self._something = True

    def gone(self, now: float) -> list[Execution]:
        """The stream has ended; the executions to be ended with it."""
        for id in list(self._coming):
            self._forget(id, now)
        left, self.running = list(self.running.values()), {}
        self._slots.gone(self.claim, now)
        return left

    @property
    def congested(self) -> bool:
        """Whether the client leaves so much unread that it should not be read further."""
        return self._size + self._parts.bytes_left + len(self._full) * FRAME_BYTES > BACKLOG_BYTES

    # -- time ------------------------------------------------------------------

    def due(self, now: float) -> tuple[list[Execution], list[Execution]]:
        """Executions that are out of time, and calls whose parts have stopped coming; the latter have no slot any more."""
        late = [self.running[id] for id in self._deadlines.due(now)]
        stalled = [call for call in self._coming.values() if call.fed_at + GRANT_SECONDS <= now or call.deadline <= now]
        for call in stalled:
            self._forget(call.id, now)
        return [execution for execution in late if execution.assembly is None], stalled

    def next_event(self) -> float | None:
        """When time alone will change something."""
        times = [call.fed_at + GRANT_SECONDS for call in self._coming.values()] if self._coming else []
        if (first := self._deadlines.first()) is not None:
            times.append(first)
        return min(times, default=None)

    # -- inside ----------------------------------------------------------------

    def _call(self, call: mux_pb2.MuxCall, received: Received, now: float) -> None:
        timeout = call.timeout_us
        execution = Execution(call, now + (timeout / 1e6 if timeout else self._default_timeout))
        if call.id in self.running:
            received.refuse.append((execution, "twice"))
            return
        if self._slots.draining:
            received.refuse.append((execution, "drain"))
            return
        if call.more and not 0 < call.size <= MAX_INPUT:
            received.refuse.append((execution, "size"))
            return
        if call.wait and not (call.granted or call.returns or call.more):
            execution.waits = True
            self.running[call.id] = execution
            self._deadlines.add(execution.deadline, call.id)
            received.wait.append(execution)
            return
        if not self._slots.enter(self.claim, call.granted, now):
            if call.returns:
                received.refuse.append((execution, "returns"))
                return
            self._rejects += 1
            self._make_room(_REJECT_BYTES)
            self._frame.rejects.append(call.id)
            return
        self.claim.running += 1
        self.running[call.id] = execution
        self._deadlines.add(execution.deadline, call.id)
        if call.more:
            execution.assembly, execution.fed_at = Assembly(call.size, MAX_INPUT), now
            execution.assembly.add(call.input)
            self._coming[call.id] = execution
        else:
            received.start.append(execution)

    def _part(self, part: mux_pb2.MuxPart, received: Received, now: float) -> None:
        execution = self._coming.get(part.id)
        if execution is None or execution.assembly is None:
            return
        execution.fed_at = now
        if execution.assembly.add(part.data) and not part.last:
            return
        whole = execution.assembly.whole()
        if whole is None:
            self._forget(part.id, now)
            received.refuse.append((execution, "size"))
            return
        del self._coming[part.id]
        execution.input, execution.assembly = whole, None
        received.start.append(execution)

    def _cancel(self, id: int, received: Received, now: float) -> None:
        if id in self._coming:
            self._forget(id, now)
            return
        execution = self.running.pop(id, None)
        if execution is None:
            self._parts.drop(id)  # it has ended, and nobody wants the rest of its output
            return
        execution.cancelled = True
        received.cancel.append(execution)

    def _forget(self, id: int, now: float) -> None:
        """A call whose parts will not come; the slot that it held is free."""
        execution = self._coming.pop(id)
        self.running.pop(id, None)
        self.left(execution)
        self._slots.leave(None, now)

    def _add_reply(self, id: int, size: int) -> mux_pb2.MuxReply:
        self._make_room(size + _REPLY_BYTES)
        reply = self._frame.replies.add()
        reply.id = id
        return reply

    def _make_room(self, size: int) -> None:
        if self._size > FRAME_BYTES:
            self._full.append(self._frame)
            self._frame, self._size = mux_pb2.MuxResponse(), 0
            self.claim.barred = self.congested
        self._size += size
        self._something = True
