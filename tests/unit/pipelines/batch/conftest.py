"""A fleet in virtual time: slots, costs, and calls that wait for them in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import DoubleValue

from atomesh.balancer.capacity import Capacity
from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.core.context import Context
from atomesh.pipelines.batch import Executed
from atomesh.testing import VirtualClock


class Site:
    """One target: so many slots, of which others may have some."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.others = 0
        self.running = 0
        self.most_waiting = 0
        self.queue: deque[asyncio.Future[None]] = deque()
        self.resized = asyncio.Event()

    def free(self) -> int:
        return max(0, self.slots - self.others - self.running)

    def serve(self) -> None:
        while self.queue and self.free():
            waiter = self.queue.popleft()
            if not waiter.done():
                self.running += 1
                waiter.set_result(None)


class SlotFleet:
    """An executor whose inputs say for how many seconds they keep a slot; a negative one fails."""

    def __init__(self, clock: Clock, **slots: int) -> None:
        self.clock = clock
        self.sites = {name: Site(count) for name, count in slots.items()}
        self.busy = 0.0
        self.contexts: list[Context] = []
        self.begun: list[float] = []
        self.cancelled = 0
        self.most_outstanding = 0
        self._outstanding = 0

    def resize(self, name: str, slots: int) -> None:
        site = self.sites[name]
        site.slots = slots
        site.serve()
        site.resized.set()

    def name(self, target: Any) -> str:
        if not isinstance(target, str):
            raise errors.InvalidArgument(f"{target!r} is no target")
        return target

    async def meet(self, target: Any, timeout: float) -> None:
        if target not in self.sites:
            raise errors.UnknownAgent(f"no agent {target!r} is registered")

    def capacity(self, target: Any) -> Capacity:
        site = self.sites[target]
        return Capacity(1 if site.slots else 0, site.slots, site.free(), site.running, len(site.queue))

    async def changed(self, target: Any, since: Capacity) -> None:
        site = self.sites[target]
        while site.slots == since.slots:
            site.resized.clear()
            await site.resized.wait()

    async def execute(self, target: Any, input: Message, *, timeout: float, context: Context) -> Executed:
        site, begun = self.sites[target], self.clock.now()
        assert isinstance(input, DoubleValue)
        self.contexts.append(context)
        self.begun.append(input.value)
        self._outstanding += 1
        self.most_outstanding = max(self.most_outstanding, self._outstanding)
        waiter = asyncio.get_running_loop().create_future()
        site.queue.append(waiter)
        site.serve()
        site.most_waiting = max(site.most_waiting, len(site.queue))
        try:
            async with asyncio.timeout(timeout):
                await waiter
                waited = self.clock.now() - begun
                await self.clock.sleep(abs(input.value))
            self.busy += abs(input.value)
        except TimeoutError:
            raise errors.DeadlineExceeded("out of time") from None
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._outstanding -= 1
            if waiter.done() and not waiter.cancelled():
                site.running -= 1
            waiter.cancel()
            site.serve()
        if input.value < 0:
            raise errors.AgentFailed("it cannot be done", reason="NO_WAY")
        return Executed(input, f"{target}:1", waited, input.value, 0.0)


@pytest.fixture
def fleet(virtual_clock: VirtualClock) -> Callable[..., SlotFleet]:
    """`fleet(a=4, b=2)`: targets with so many slots."""
    return lambda **slots: SlotFleet(virtual_clock, **slots)


@pytest.fixture
def seconds() -> Callable[[float], DoubleValue]:
    """An input that takes so long."""
    return lambda value: DoubleValue(value=value)
