"""Large payloads: cut into parts that leave room for others, and put together again.

A stream is a line: whatever is being written holds up what comes after it. A
payload over WHOLE_BYTES therefore goes in parts, and between two of them go
all small calls that have come up meanwhile. Beside small calls the parts are
small (64 KiB: 10,000 small calls/s beside two 1 MiB streams of calls, against
700 unchunked); alone they are large, since each part has gRPC's price.
"""

from __future__ import annotations

from collections import deque

WHOLE_BYTES = 64 * 1024
"""A payload up to here goes in one piece. Half would cut up texts of ordinary
length; twice holds up others for twice as long."""

SMALL_PART = 64 * 1024
LARGE_PART = 512 * 1024
"""Alone, 1 MiB in parts of 64 KiB runs at half of unary; what a part costs is gRPC's
price of a message. Twice of it is a frame of the largest size, with no room for
anything beside it."""

QUIET_SECONDS = 0.1
"""Nothing small for so long: alone. Half flips with every pause of a caller;
twice keeps parts small long after they need to be."""

FRAME_BYTES = 256 * 1024
"""What a frame holds before the next one is begun. Half costs more frames,
twice is late for whoever waits for the first call in it."""


class Parts:
    """The large payloads that are on their way out, a part of each in turn."""

    __slots__ = ("_going", "_small_at", "bytes_left")

    def __init__(self) -> None:
        """None."""
        self._going: deque[tuple[int, bytes, int]] = deque()
        self._small_at = float("-inf")
        self.bytes_left = 0

    def __bool__(self) -> bool:
        """Whether any is on its way."""
        return bool(self._going)

    def add(self, id: int, data: bytes, sent: int = 0) -> None:
        """`data` from `sent` on goes in parts."""
        self._going.append((id, data, sent))
        self.bytes_left += len(data) - sent

    def drop(self, id: int) -> None:
        """Nobody wants the rest."""
        kept: deque[tuple[int, bytes, int]] = deque()
        for entry in self._going:
            if entry[0] == id:
                self.bytes_left -= len(entry[1]) - entry[2]
            else:
                kept.append(entry)
        self._going = kept

    def small(self, now: float) -> None:
        """Something small has gone."""
        self._small_at = now

    def next(self, now: float) -> tuple[int, bytes, bool]:
        """The next part: whose, the bytes, and whether it is the last. There is one."""
        id, data, sent = self._going.popleft()
        room = SMALL_PART if now - self._small_at < QUIET_SECONDS else LARGE_PART
        piece = data[sent : sent + room]
        self.bytes_left -= len(piece)
        sent += len(piece)
        if sent < len(data):
            self._going.append((id, data, sent))
        return id, piece, sent >= len(data)


class Assembly:
    """A payload that comes in parts."""

    __slots__ = ("_had", "_pieces", "size")

    def __init__(self, size: int, limit: int) -> None:
        """`size` is what the sender says that it will be; over `limit` nothing is kept of it."""
        self.size = size if size <= limit else -1
        self._had = 0
        self._pieces: list[bytes] = []

    def add(self, data: bytes) -> bool:
        """Takes a part; False where it is more than was said."""
        self._had += len(data)
        if self._had > self.size:
            self._pieces.clear()
            self.size = -1
            return False
        self._pieces.append(data)
        return True

    def whole(self) -> bytes | None:
        """All of it; None where it is not what was said."""
        return b"".join(self._pieces) if self._had == self.size else None
