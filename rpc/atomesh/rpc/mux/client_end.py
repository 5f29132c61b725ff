"""The client's end of a mux: calls out, replies and grants in. Pure.

It owes nothing to time or I/O: frames go in by `receive` and come out of
`take`, and whoever moves them says what time it is. Four counters make the
demand that it states, all of them since the stream began:

    demand = calls that wait + grants received - rejects received

A call is `sent` once a frame that holds it was taken. What was not when the
stream ends has certainly not run.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from atomesh.rpc.mux.deadlines import Deadlines
from atomesh.rpc.mux.parts import FRAME_BYTES, WHOLE_BYTES, Assembly, Parts
from atomesh.v1 import mux_pb2

VERSION = 1
FEATURES = (mux_pb2.MUX_FEATURE_PARTS, mux_pb2.MUX_FEATURE_GRANTS, mux_pb2.MUX_FEATURE_RETIRE)

MAX_OUTPUT = 4 * 1024 * 1024
"""What a reply may come to, as for a unary call (rpc.channel.MAX_MESSAGE_BYTES)."""

AT_ONCE = 16
"""Calls that a frame may always hold; of more in flight it holds half, so that
there are two frames under way and both ends work at the same time. With all in
one, each waits for the other: 32 at once ran at 23,000 calls/s instead of 35,000.
At 8 frames cost more than that brings; at 32 there is one frame again."""

_CALL_BYTES = 80  # what surrounds an input: or a frame of a million empty ones would be too large for gRPC

_CANCELS = 10_000  # in a frame; the endpoint takes so many at a time and no more than six times of it

PING_SECONDS = 0.5
"""A mux that is wanted and has said nothing for so long is asked whether it is
there. Half asks while a busy machine is only late; twice sends calls for a
second to a process that hangs."""

SILENT_SECONDS = 0.75
"""Without any frame for so long after that, it is silent: nothing new is sent there."""


class Sent:
    """One call of a stream, from `call` to its end."""

    __slots__ = (
        "assembly",
        "authorization",
        "context",
        "deadline",
        "granted",
        "id",
        "input",
        "key",
        "on_wire",
        "reply",
        "request_id",
        "returns",
        "timestamp_us",
        "wait",
        "waiter",
    )

    def __init__(self, id: int, input: bytes, context: bytes, deadline: float, waiter: Any) -> None:
        """`waiter` is the shell's own."""
        self.id = id
        self.input = input
        self.context = context
        self.deadline = deadline
        self.waiter = waiter
        self.granted = False
        self.returns = False
        self.wait = False
        self.authorization = b""
        self.request_id = b""
        self.key = b""
        self.timestamp_us = 0
        self.on_wire = False
        self.reply: mux_pb2.MuxReply | None = None
        self.assembly: Assembly | None = None


@dataclass(slots=True)
class Received:
    """What a frame brought."""

    ended: list[tuple[Sent, mux_pb2.MuxReply, bytes | None]] = field(default_factory=list)
    """Calls with their reply and the whole output, None where it was not what was said."""
    rejected: list[Sent] = field(default_factory=list)
    """Calls that found no slot and did not run."""
    grants: int = 0
    """To be used by `call(granted=True)` or given back, at once."""
    load: mux_pb2.MuxLoad | None = None
    hello: mux_pb2.MuxHello | None = None


class ClientEnd:
    """One stream as the client knows it."""

    def __init__(self, opening: mux_pb2.MuxOpen) -> None:
        """Version and features are filled in."""
        opening.version = VERSION
        opening.features.extend(FEATURES)
        self._opening: mux_pb2.MuxOpen | None = opening
        self.hello: mux_pb2.MuxHello | None = None
        self.retiring = False
        """It takes nothing new soon: another one should be opened."""
        self.draining = False
        """The endpoint takes nothing new."""
        self.calls: dict[int, Sent] = {}
        """Those that have not ended."""
        self._deadlines = Deadlines(self.calls)
        self._next_id = 1
        self._unsent: deque[Sent] = deque()
        self._parts = Parts()
        self._cancels: list[int] = []
        self._parked = 0
        self._grants = 0
        self._rejects = 0
        self._returned = 0
        self._said = (0, 0)  # demand and returned, as they were stated last
        self.holding = 0
        """Grants that have come and are neither used nor given back."""
        self._heard_at: float | None = None
        self._asked_at: float | None = None
        self._ping = 0
        self._asking = False
        self._silent = False

    # -- what the client wants -------------------------------------------------

    def call(self, input: bytes, context: bytes, deadline: float, waiter: Any, *, granted: bool = False) -> Sent:
        """Begins a call; `granted` uses a grant that came on this stream."""
        id = self._next_id
        self._next_id = id + 1
        sent = Sent(id, input, context, deadline, waiter)
        if granted and self.holding:
            sent.granted = True
            self.holding -= 1
        self.calls[id] = sent
        self._deadlines.add(deadline, id)
        self._unsent.append(sent)
        return sent

    def cancel(self, sent: Sent) -> None:
        """The caller went away; what comes for the call is dropped."""
        if self.calls.pop(sent.id, None) is None:
            return
        if sent.on_wire:
            self._cancels.append(sent.id)
            self._parts.drop(sent.id)
        elif sent.granted:
            self._returned += 1

    def park(self, waiting: int) -> bool:
        """So many calls wait for a grant of this endpoint; True where that has to be said."""
        self._parked = waiting
        return self._demand() != self._said[0]

    def give_back(self, grants: int = 1) -> None:
        """So many grants were not needed after all."""
        self.holding -= grants
        self._returned += grants

    # -- frames ----------------------------------------------------------------

    def receive(self, frame: mux_pb2.MuxResponse, now: float) -> Received:
        """Takes a frame of the endpoint."""
        self._heard_at, self._asked_at, self._silent = now, None, False
        received = Received()
        if self.hello is None and frame.HasField("hello"):
            self.hello = received.hello = frame.hello
        for reply in frame.replies:
            sent = self.calls.get(reply.id)
            if sent is None or not sent.on_wire or sent.reply is not None:
                continue  # nobody waits for it any more, or nobody ever did
            if reply.more:
                sent.reply, sent.assembly = reply, Assembly(reply.size, MAX_OUTPUT)
                sent.assembly.add(reply.output)
            else:
                del self.calls[reply.id]
                if self._parts:
                    self._parts.drop(reply.id)  # refused before it was there
                received.ended.append((sent, reply, reply.output))
        for part in frame.parts:
            self._assemble(part, received)
        if frame.rejects:
            self._rejects += len(frame.rejects)
            rejected = (self.calls.pop(id, None) for id in frame.rejects)
            received.rejected = [sent for sent in rejected if sent is not None]
            for sent in received.rejected:
                self._parts.drop(sent.id)
        if frame.grants:
            self._grants += frame.grants
            self.holding += frame.grants
            received.grants = frame.grants
        if frame.HasField("load"):
            received.load = frame.load
        self.retiring = self.retiring or frame.retire
        self.draining = self.draining or frame.drain
        return received

    def take(self, now: float) -> mux_pb2.MuxRequest | None:
        """The next frame to send; None where there is nothing to say."""
        frame = mux_pb2.MuxRequest()
        something = self._take_calls(frame, now)
        if self._opening is not None:
            frame.open.CopyFrom(self._opening)
            self._opening, self._heard_at, something = None, now, True
        if self._parts:
            id, data, last = self._parts.next(now)
            frame.parts.add(id=id, data=data, last=last)
            something = True
        if self._cancels:
            frame.cancels.extend(self._cancels[:_CANCELS])
            self._cancels, something = self._cancels[_CANCELS:], True
        demand = self._demand()
        if (demand, self._returned) != self._said:
            self._said = (demand, self._returned)
            frame.demand, frame.returned, something = demand, self._returned, True
        if self._asking:
            self._asking, self._ping, something = False, self._ping + 1, True
            frame.ping = self._ping
        return frame if something else None

    # -- time ------------------------------------------------------------------

    def due(self, now: float) -> list[Sent]:
        """The calls that are out of time: each is cancelled."""
        late = [self.calls[id] for id in self._deadlines.due(now)]
        for sent in late:
            self.cancel(sent)
        return late

    def silent(self, now: float) -> bool:
        """Whether it was asked and does not answer; asks it where that is due."""
        if not self._wanted or self._heard_at is None:
            return False
        if self._asked_at is not None:
            self._silent = now >= self._asked_at + SILENT_SECONDS
            return self._silent
        if now >= self._heard_at + PING_SECONDS:
            self._asked_at, self._asking = now, True
        return False

    def next_event(self) -> float | None:
        """When time alone will change something."""
        times = [at] if (at := self._deadlines.first()) is not None else []
        # Once it is silent, only a frame changes that: a time that has passed would have the shell spin.
        if self._wanted and self._heard_at is not None and not self._silent:
            asked = self._asked_at
            times.append(self._heard_at + PING_SECONDS if asked is None else asked + SILENT_SECONDS)
        return min(times, default=None)

    # -- inside ----------------------------------------------------------------

    @property
    def _wanted(self) -> bool:
        return bool(self.calls or self._parked)

    def _demand(self) -> int:
        return self._parked + self._grants - self._rejects

    def _take_calls(self, frame: mux_pb2.MuxRequest, now: float) -> bool:
        unsent, room = self._unsent, FRAME_BYTES
        something = small = False
        # Half of them: while the endpoint works at one half, we work at the other.
        most = max(AT_ONCE, len(self.calls) // 2)
        while unsent and room > 0 and most:
            sent = unsent.popleft()
            if sent.id not in self.calls:
                continue  # cancelled before it was sent
            most -= 1
            sent.on_wire = True
            input, call = sent.input, frame.calls.add()
            call.id = sent.id
            call.request_id = sent.request_id
            if sent.timestamp_us:
                call.timestamp_us = sent.timestamp_us
            if sent.key:
                call.idempotency_key = sent.key
            if sent.context:
                call.context = sent.context
            call.timeout_us = max(1, int((sent.deadline - now) * 1e6))
            if len(input) > WHOLE_BYTES:
                call.input, call.more, call.size = input[:WHOLE_BYTES], True, len(input)
                self._parts.add(sent.id, input, WHOLE_BYTES)
            else:
                call.input = input
            if sent.granted:
                call.granted = True
            if sent.returns:
                call.returns = True
            if sent.wait:
                call.wait = True
            if sent.authorization:
                call.authorization = sent.authorization
            sent.input = b""
            small = small or len(input) <= WHOLE_BYTES
            room -= min(len(input), WHOLE_BYTES) + _CALL_BYTES
            room -= len(sent.context) + len(sent.authorization) + len(sent.key)
            something = True
        if small:
            self._parts.small(now)
        return something

    def _assemble(self, part: mux_pb2.MuxPart, received: Received) -> None:
        sent = self.calls.get(part.id)
        if sent is None or sent.assembly is None or sent.reply is None:
            return
        if not sent.assembly.add(part.data) or part.last:
            del self.calls[part.id]
            received.ended.append((sent, sent.reply, sent.assembly.whole()))
