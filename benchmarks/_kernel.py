"""A world of events: a heap of what happens when, wires with latency, and nothing else.

The mesh's pure classes take the time as an argument, so a world for them needs
no loop and no sockets: a minute of 7,000 calls takes a second. What happens at
the same time happens in the order in which it was asked for, and every draw is
from a seeded generator: one seed is one run, to the last bit.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Frame = TypeVar("Frame")


class Kernel:
    """Time that jumps from event to event. `now` is seconds."""

    def __init__(self) -> None:
        """At 0, with nothing to come."""
        self.now = 0.0
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def at(self, when: float, what: Callable[..., object], *args: Any) -> None:
        """Calls it then; never before what was asked for the same time earlier."""
        heapq.heappush(self._heap, (max(when, self.now), next(self._order), what, args))

    def after(self, seconds: float, what: Callable[..., object], *args: Any) -> None:
        """Calls it so many seconds from now."""
        self.at(self.now + seconds, what, *args)

    def run(self, wanted: Callable[[], bool]) -> None:
        """Goes on while it is `wanted`, and something is to come."""
        heap = self._heap
        while heap and wanted():
            self.now, _, what, args = heapq.heappop(heap)
            self.events += 1
            what(*args)


@dataclass(frozen=True, slots=True)
class Network:
    """How long a frame is under way."""

    latency: float = 0.0002
    """One way, in seconds."""
    jitter: float = 0.0
    """Its mean over the latency, drawn for each frame, exponentially."""

    @property
    def round_trip(self) -> float:
        """The mean of there and back."""
        return 2 * (self.latency + self.jitter)


class Wire(Generic[Frame]):
    """One direction of a stream: frames arrive in order, each after its latency."""

    __slots__ = ("_arrived", "_deliver", "_kernel", "_network", "_rng", "frames")

    def __init__(
        self, kernel: Kernel, network: Network, rng: random.Random, deliver: Callable[[Frame], object]
    ) -> None:
        """`deliver` is called with each frame that arrives."""
        self._kernel = kernel
        self._network = network
        self._rng = rng
        self._deliver = deliver
        self._arrived = 0.0
        self.frames = 0

    def send(self, frame: Frame) -> None:
        """Puts it on its way."""
        network, self.frames = self._network, self.frames + 1
        under_way = network.latency
        if network.jitter:
            under_way += self._rng.expovariate(1 / network.jitter)
        # Never before an earlier one: TCP would hold it back as well.
        self._arrived = max(self._arrived, self._kernel.now + under_way)
        self._kernel.at(self._arrived, self._deliver, frame)
