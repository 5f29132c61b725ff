"""What lies between two hosts: latency, spikes, partitions. Never a lost or swapped byte inside a stream.

TCP and HTTP/2 promise order and delivery inside a stream, so that is what a
`Lane` keeps: first in, first out. Everything else may happen: every frame
draws its own delay, so lanes overtake each other, and while a link is blocked
what would arrive waits, as it does for a retransmission.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_RETRANSMISSION = 3.0
"""Seconds from the end of a partition to the last of what it held up. TCP doubles
its timer while nothing is acknowledged, so what was cut off for D comes up to D later."""


@dataclass(frozen=True, slots=True)
class LinkProfile:
    """How long one way takes; seconds."""

    latency: float = 0.000_25
    jitter: float = 0.2
    """Mean of what is added, exponentially distributed, as a share of the latency."""
    spike_chance: float = 0.0
    """Of one frame to take up to `spike` longer."""
    spike: float = 0.1

    @property
    def mean(self) -> float:
        """One way, on average."""
        return self.latency * (1 + self.jitter) + self.spike_chance * self.spike / 2

    def draw(self, rng: random.Random) -> float:
        """One way, once."""
        delay = self.latency
        if self.jitter:
            delay += self.latency * self.jitter * rng.expovariate(1.0)
        if self.spike_chance and rng.random() < self.spike_chance:
            delay += self.spike * rng.random()
        return delay


class Link:
    """One way from one host to another."""

    __slots__ = ("_rng", "_since", "_stalled", "blocked", "clear_at", "profile")

    def __init__(self, rng: random.Random, profile: LinkProfile) -> None:
        """Open."""
        self.profile = profile
        self.blocked = False
        self._rng = rng
        self._since = 0.0
        self.clear_at = 0.0
        """When all that was last held up has arrived."""
        self._stalled: list[Lane] = []

    def delay(self) -> float:
        """How long the next frame takes."""
        return self.profile.draw(self._rng)

    def block(self, now: float) -> None:
        """Nothing arrives any more until `heal`."""
        if not self.blocked:
            self.blocked, self._since = True, now

    def heal(self, now: float) -> None:
        """What was held up arrives by and by."""
        if not self.blocked:
            return
        self.blocked = False
        stalled, self._stalled = self._stalled, []
        latest = min(MAX_RETRANSMISSION, now - self._since)
        self.clear_at = now + latest + self.delay()
        for lane in stalled:
            lane.arrive_later(now + self.delay() + self._rng.uniform(0.0, latest))

    def stall(self, lane: Lane) -> None:
        """The head of a lane would have arrived, and did not."""
        self._stalled.append(lane)


class Direction:
    """One way of one connection: what closes it comes after all that was sent before."""

    __slots__ = ("_last", "context", "link", "loop")

    def __init__(self, link: Link, context: contextvars.Context, loop: asyncio.AbstractEventLoop) -> None:
        """What arrives is handed over in the receiver's `context`."""
        self.link = link
        self.context = context
        self.loop = loop
        self._last = 0.0

    def lane(self) -> Lane:
        """A new one, such as for a stream."""
        return Lane(self)

    def arrival(self, after: float) -> float:
        """When what is sent now arrives: not before `after`."""
        when = max(self.loop.time() + self.link.delay(), after)
        self._last = max(self._last, when)
        return when

    def send_last(self, deliver: Callable[..., None], *args: Any) -> None:
        """Arrives after everything that was sent before, on any lane."""
        lane = Lane(self)
        lane.last = self._last
        lane.send(deliver, *args)


class Lane:
    """First in, first out."""

    __slots__ = ("_direction", "_queue", "last")

    def __init__(self, direction: Direction) -> None:
        """Empty."""
        self.last = 0.0
        """When the latest of what was sent arrives."""
        self._direction = direction
        self._queue: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def send(self, deliver: Callable[..., None], *args: Any) -> None:
        """Calls `deliver(*args)` at the other end."""
        self.last = self._direction.arrival(self.last)
        self._queue.append((deliver, args))
        self.arrive_later(self.last)

    def arrive_later(self, when: float) -> None:
        """The head of the queue arrives then; where the link is blocked by then, after that."""
        # No host's context: packets travel while processes stand still.
        self._direction.loop.call_at(when, self._arrive, context=_NOBODY)

    def _arrive(self) -> None:
        direction = self._direction
        if direction.link.blocked:
            direction.link.stall(self)
            return
        deliver, args = self._queue.popleft()
        direction.loop.call_soon(deliver, *args, context=direction.context)


_NOBODY = contextvars.Context()
