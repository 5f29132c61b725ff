"""Flow control of one way of one stream: a sender stops where its receiver does not read."""

from __future__ import annotations

import asyncio
from collections import deque

WINDOW = 65_536
"""Bytes that may be sent and not read: HTTP/2's initial window (RFC 9113, 6.9.2).
grpc lets it grow where the network is fast; here it stays, so that slow readers
push back soon."""


class Credit:
    """What may still be sent. A message goes as a whole as soon as there is any credit at all."""

    __slots__ = ("_left", "_waiting")

    def __init__(self, window: int = WINDOW) -> None:
        """A full window."""
        self._left = window
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, size: int) -> None:
        """Returns when `size` bytes may go."""
        while self._left <= 0:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
        self._left -= size

    def give(self, size: int) -> None:
        """The receiver has read so much."""
        self._left += size
        self.wake()

    def wake(self) -> None:
        """Lets those who wait look again."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def lift(self) -> None:
        """Nothing is read any more, so nobody need wait."""
        self._left = 1 << 62
        self.wake()


class Inbox:
    """Messages that came and were not read."""

    __slots__ = ("_messages", "_reader", "closed")

    def __init__(self) -> None:
        """Empty."""
        self.closed = False
        """Nothing more comes."""
        self._messages: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: bytes) -> None:
        """A message came."""
        if not self.closed:
            self._messages.append(message)
            self._wake()

    def close(self, *, drop: bool = False) -> None:
        """Nothing more comes; what is there can be read unless dropped."""
        self.closed = True
        if drop:
            self._messages.clear()
        self._wake()

    async def get(self) -> bytes | None:
        """The next; None where nothing more comes."""
        while not self._messages:
            if self.closed:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._messages.popleft()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
