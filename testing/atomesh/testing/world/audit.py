"""A mux as its client's wire shows it, held against what `mux.proto` says.

Written from the proto alone, so that both ends of the library are judged by
their contract with other languages and not by each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from atomesh.v1 import mux_pb2

MAX_FRAME = 1024 * 1024
"""Bytes; "no frame is larger than 1 MiB"."""


class MuxAudit:
    """One stream. Frames are told in the order in which the client sends and receives them."""

    def __init__(self, violated: Callable[[str], None], now: Callable[[], float]) -> None:
        """`violated` is told what is not as it should be."""
        self._now = now
        self._held: deque[float] = deque()
        """When each grant came that was neither used nor given back, oldest first."""
        self._violated = violated
        self._opened = self._greeted = False
        self._open: set[int] = set()
        """Calls that have not ended."""
        self._known: set[int] = set()
        self._cancelled: set[int] = set()
        self._uploads: dict[int, int] = {}
        """Bytes of inputs that are still to come."""
        self._downloads: dict[int, int] = {}
        self._grants = self._used = self._returned = self._rejects = 0
        self.id = b""
        """The `mux_id` of the hello."""

    def held_for(self) -> float:
        """Seconds for which the oldest grant has been here and was neither used nor given back."""
        return self._now() - self._held[0] if self._held else 0.0

    def used_by_stream(self) -> None:
        """A streamed output uses a grant that came here."""
        self._used += 1
        self._check_grants()

    def sent(self, frame: mux_pb2.MuxRequest, size: int) -> None:
        """The client sends this."""
        if frame.HasField("open") == self._opened:
            self._violated("`open` is in the first frame, and in no other")
        self._opened = True
        self._check_size(size)
        for call in frame.calls:
            self._begins(call)
        self._take_parts(frame.parts, self._uploads, "input")
        for id in frame.cancels:
            if id not in self._known:
                self._violated(f"call {id} is cancelled and never began")
            self._cancelled.add(id)
            self._uploads.pop(id, None)
        if frame.HasField("returned"):
            if frame.returned < self._returned:
                self._violated(f"returned falls from {self._returned} to {frame.returned}")
            self._returned = frame.returned
        if frame.HasField("demand") and (waiting := frame.demand - self._grants + self._rejects) < 0:
            self._violated(f"a demand of {frame.demand} means that {waiting} calls wait")
        self._check_grants()

    def received(self, frame: mux_pb2.MuxResponse, size: int) -> None:
        """The client receives this."""
        if frame.HasField("hello") == self._greeted:
            self._violated("`hello` is in the first frame, and in no other")
        self._greeted = True
        self.id = self.id or frame.hello.mux_id
        self._check_size(size)
        for reply in frame.replies:
            self._ends(reply.id, "a reply")
            if reply.more:
                self._downloads[reply.id] = reply.size - len(reply.output)
        self._take_parts(frame.parts, self._downloads, "output")
        for id in frame.rejects:
            self._ends(id, "a reject")
        self._rejects += len(frame.rejects)
        self._grants += frame.grants
        self._held.extend([self._now()] * frame.grants)

    def _begins(self, call: mux_pb2.MuxCall) -> None:
        if call.id in self._known:
            self._violated(f"id {call.id} is used twice")
        self._known.add(call.id)
        self._open.add(call.id)
        self._used += call.granted
        if call.more:
            self._uploads[call.id] = call.size - len(call.input)

    def _ends(self, id: int, how: str) -> None:
        if id not in self._open:
            self._violated(f"{how} comes for call {id}, which {'has ended' if id in self._known else 'never began'}")
        self._open.discard(id)
        self._uploads.pop(id, None)  # what was refused needs no rest

    def _take_parts(self, parts: object, coming: dict[int, int], what: str) -> None:
        for part in parts:  # type: ignore[attr-defined] # a repeated field, of one type in both frames
            if part.id not in coming:
                if part.id not in self._known:
                    self._violated(f"a part of an {what} comes for call {part.id}, which never began")
                continue
            coming[part.id] -= len(part.data)
            if coming[part.id] < 0 or (part.last and coming[part.id]):
                self._violated(f"the {what} of call {part.id} is {-coming[part.id]} bytes longer than its call said")
            if part.last:
                del coming[part.id]

    def _check_grants(self) -> None:
        while len(self._held) > max(0, self._grants - self._used - self._returned):
            self._held.popleft()
        if self._used + self._returned > self._grants:
            used = f"{self._used} grants are used and {self._returned} given back"
            self._violated(f"{used}, and {self._grants} have come")

    def _check_size(self, size: int) -> None:
        if size > MAX_FRAME:
            self._violated(f"a frame has {size} bytes")
