"""Who lives in a world: a registry, copies of one agent, clients. Each is the real thing on a host of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from atomesh.agents import AgentServer
from atomesh.balancer.client import Client
from atomesh.balancer.resolver import RegistryResolver
from atomesh.core.clock import Clock
from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import Endpoint
from atomesh.core.updates import Added, Changed, Removed, Reset, WatchEvent
from atomesh.registry.server import RegistryServer
from atomesh.registry.storage import MemoryStorage
from atomesh.testing.memory import MemoryNetwork
from atomesh.testing.world.digger import Digger
from atomesh.testing.world.invariants import Book
from atomesh.testing.world.profiles import Failures
from atomesh.testing.world.scenario import Scenario
from atomesh.testing.world.view import View

PORT = 7400
_KILL_SECONDS = 10.0  # for the tasks of a dead process to end


@dataclass(slots=True)
class Ground:
    """What all members of a world stand on."""

    network: MemoryNetwork
    clock: Clock
    book: Book
    seed: int
    graves: list[asyncio.Task[Any]] = field(default_factory=list)
    """What is left of killed processes."""

    def rng(self, who: str) -> random.Random:
        """Randomness of one member's own: what others draw changes nothing for it."""
        return random.Random(f"{self.seed} {who}")

    def say(self, who: str, what: str) -> None:
        """Into the trace."""
        self.book.trace.add(who, what)


class _Member:
    """A name, a host, and what runs there."""

    def __init__(self, ground: Ground, name: str) -> None:
        self.ground = ground
        self.name = name
        self.host = ground.network.host(name)
        self.running: Any = None
        self.late_until = 0.0
        """It stood still, and needs a moment to catch up."""

    @property
    def address(self) -> str:
        return f"{self.host.ip}:{PORT}"

    @property
    def well(self) -> bool:
        """Whether it runs and is not stopped."""
        return self.running is not None and not self.host.paused

    async def _on_host(self, work: Any, what: str) -> Any:
        return await self.host.spawn(work, f"{what} {self.name}")

    def kill(self) -> None:
        """As SIGKILL; what is left of the process ends unheard."""
        if self.running is None:
            return
        self.ground.say(self.name, "is killed")
        self.ground.network.kill(self.host)
        grave = self.host.spawn(self._bury(self.running), f"grave of {self.name}")
        self.ground.graves.append(grave)
        self.running = None

    async def _bury(self, running: Any) -> None:
        async with asyncio.timeout(_KILL_SECONDS):
            await running.stop()


class RegistryMember(_Member):
    """A registry that forgets everything when it is killed."""

    async def start(self) -> None:
        """Serves, on a new host where the last one died."""
        self.host = self.host if self.host.alive else self.ground.network.host(self.name)
        await self._on_host(self._start(), "start")

    async def stop(self) -> None:
        """Ends."""
        running, self.running = self.running, None
        if running is not None:
            await self._on_host(running.stop(), "stop")

    async def _start(self) -> None:
        server = RegistryServer(
            storage=MemoryStorage(),
            bind=self.address,
            clock=self.ground.clock,
            rng=self.ground.rng(self.name),
            network=self.host,
        )
        await server.start()
        self.running = server
        self.ground.say(self.name, "serves")


class EndpointMember(_Member):
    """One copy of the agent."""

    def __init__(self, ground: Ground, name: str, slots: int, registry: str, *, max_age: float | None) -> None:
        super().__init__(ground, name)
        self._max_age = max_age
        self.slots = slots
        self.slowness = 1.0
        """Its executions take so many times as long."""
        self.failures = Failures()
        self.most_at_once = 0
        """Executions at once, at most, since somebody last set it to 0."""
        self.rng = ground.rng(f"{name} work")
        self._registry = registry
        self._starts = 0
        self._draining: asyncio.Task[None] | None = None

    @property
    def free(self) -> int:
        """Slots that execute nothing."""
        return self.slots - self.ground.book.running.get(self.name, 0)

    async def start(self) -> None:
        """Serves and registers; a new instance at the old address."""
        self.host = self.host if self.host.alive else self.ground.network.host(self.name)
        self._starts += 1
        await self._on_host(self._start(), "start")

    async def restart_gently(self) -> None:
        """Drains, ends, and starts again, as a rolling update does."""
        running = self.running
        if running is None:
            return
        self.ground.say(self.name, "drains")
        self._draining = self.host.spawn(running.drain(), f"drain {self.name}")
        await asyncio.wait([self._draining])
        if self.running is running:  # it may have been killed meanwhile
            await self.stop()
            await self.start()

    async def stop(self) -> None:
        """Ends."""
        running, self.running = self.running, None
        if running is not None:
            await self._on_host(running.stop(), "stop")
            self.ground.say(self.name, "has stopped")

    def kill(self) -> None:
        """As SIGKILL: what executes is gone."""
        if self.running is not None:
            super().kill()
            self.ground.book.died(self.name)
            if self._draining is not None:
                self._draining.cancel()

    async def _start(self) -> None:
        server = AgentServer(
            Digger(self, self.host),
            slots=self.slots,
            registry=self._registry,
            max_connection_age=self._max_age,
            bind=self.address,
            clock=self.ground.clock,
            rng=self.ground.rng(f"{self.name} {self._starts}"),
            network=self.host,
        )
        await server.start()
        self.running = server
        self.ground.say(self.name, f"serves, {self.slots} slots")


class ClientMember(_Member):
    """One client; it sees the registry through a resolver that takes notes."""

    def __init__(self, ground: Ground, name: str, registry: str, scenario: Scenario) -> None:
        super().__init__(ground, name)
        self._registry = registry
        self._scenario = scenario
        self.removed: dict[str, float] = {}
        """Since when this client knows that there is nothing at an address any more."""
        self.view = View(self._misinformed)

    async def start(self) -> None:
        """Makes the client."""
        await self._on_host(self._start(), "start")

    async def stop(self) -> None:
        """Closes it."""
        running, self.running = self.running, None
        if running is not None:
            await self._on_host(running.close(), "close")

    async def _start(self) -> None:
        rng = self.ground.rng(self.name)
        resolver = _NotingResolver(
            self, RegistryResolver(self._registry, clock=self.ground.clock, rng=rng, network=self.host)
        )
        scenario = self._scenario
        self.running = Client(
            resolver,
            policy=scenario.policy,
            mux=scenario.mux,
            hedge=scenario.hedge,
            clock=self.ground.clock,
            rng=rng,
            network=self.host,
        )

    def noted(self, event: WatchEvent) -> None:
        """The client hears this in this instant."""
        self.view.take(event)
        for update in event.updates:
            if isinstance(update, Reset):
                here = {endpoint.address for endpoint in update.endpoints}
                self.ground.say(self.name, f"hears of {len(here)} endpoints ({update.reason.name})")
                self._there(here)
            elif isinstance(update, Added | Changed):
                self.ground.say(self.name, f"hears of {update.endpoint.address} {update.endpoint.state.name}")
                self._there({update.endpoint.address})
            elif isinstance(update, Removed):
                self.ground.say(self.name, f"hears that {update.address} is gone ({update.reason.name})")
                self.removed[update.address] = self.ground.clock.now()

    def _misinformed(self, what: str) -> None:
        self.ground.book.violated(self.ground.clock.now(), f"{self.name}: {what}")

    def _there(self, addresses: set[str]) -> None:
        for address in addresses:
            self.removed.pop(address, None)


class _NotingResolver:
    """A registry's resolver, overheard."""

    def __init__(self, member: ClientMember, inner: RegistryResolver) -> None:
        self._member = member
        self._inner = inner
        self.name = inner.name

    @property
    def trouble(self) -> str:
        return self._inner.trouble

    @trouble.setter
    def trouble(self, trouble: str) -> None:
        self._inner.trouble = trouble

    async def watch(self, agent: str) -> AsyncGenerator[WatchEvent, None]:
        async for event in self._inner.watch(agent):
            self._member.noted(event)
            yield event

    async def contract(self, endpoint: Endpoint) -> ContractDescriptor:
        return await self._inner.contract(endpoint)

    async def close(self) -> None:
        await self._inner.close()
