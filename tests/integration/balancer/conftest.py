"""A mesh in one process: a registry, agents and clients, each behind real gRPC on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self

import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.core import Contract, Selector
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.endpoint import ALL_STATES
from atomesh.registry import MemoryStorage, RegistryServer, RegistrySettings, Storage
from atomesh.rpc import RegistryClient
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

ECHO = Contract("echo", TextInput, TextOutput)

# Leases of 1.5 s, renewed every 0.5 s: what waits for a renewal waits no longer.
FAST = RegistrySettings(min_ttl=1.5, default_ttl=1.5, tick=0.1)


class Echo(Agent[TextInput, TextOutput]):
    """Answers with the content, or does what the test gives it; keeps count."""

    name = "echo"

    def __init__(self, work: Callable[[TextInput, ExecutionContext], Awaitable[Any]] | None = None) -> None:
        self.work = work
        self.seen: list[ExecutionContext] = []
        self.running = 0
        self.most = 0

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        self.seen.append(context)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            given = await self.work(input, context) if self.work else None
        finally:
            self.running -= 1
        return given if given is not None else TextOutput(result=input.content)


class Holding:
    """Work that lasts until it is let go, and tells when it has begun and whether it was cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self.let_go = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, *_: Any) -> None:
        self.begun.release()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class Mesh:
    """A registry, and whatever a test starts around it; all of it ends with the test."""

    def __init__(self, storage: Storage | None, settings: RegistrySettings) -> None:
        self.registry = RegistryServer(storage=storage or MemoryStorage(), settings=settings)
        self._settings = settings
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.registry.start()
        self.address = self.registry.address
        self._stack.push_async_callback(self.stop_registry)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def stop_registry(self) -> None:
        await self.registry.stop()

    async def restart_registry(self) -> None:
        """Another registry, which knows nothing, at the same address."""
        await self.registry.stop()
        self.registry = RegistryServer(storage=MemoryStorage(), settings=self._settings, bind=self.address)
        await self.registry.start()

    async def serve(self, agents: Any = None, **options: Any) -> AgentServer:
        """An endpoint of each agent given, registered."""
        server = AgentServer(Echo() if agents is None else agents, registry=self.address, **options)
        await self._stack.enter_async_context(server)
        async with asyncio.timeout(5):
            await server.registered.wait()
        return server

    async def client(self, **settings: Any) -> Client:
        return await self._stack.enter_async_context(Client(self.address, **settings))

    async def registered(self, agent: str = "echo") -> set[str]:
        """The addresses that the registry knows for an agent, in whatever state."""
        async with RegistryClient(self.address) as registry:
            found = await registry.discover(Selector(agent=agent, states=ALL_STATES))
        return {endpoint.address for endpoint in found.endpoints}


@pytest.fixture
def mesh() -> Callable[..., Mesh]:
    """`async with mesh() as m:`, a registry with short leases."""
    return lambda storage=None, settings=FAST: Mesh(storage, settings)


@pytest.fixture
def echo() -> type[Echo]:
    return Echo


@pytest.fixture
def holding() -> type[Holding]:
    """Make it inside the test's loop: `hold = holding()`."""
    return Holding


@pytest.fixture
def text() -> Callable[..., TextInput]:
    return lambda content="hello": TextInput(content=content, operation="sentiment")


@pytest.fixture
def contract() -> Contract[TextInput, TextOutput]:
    return ECHO


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """`await until(condition)`: returns once it holds, fails where it does not in time."""

    async def wait(condition: Callable[[], bool], seconds: float = 5.0) -> None:
        give_up = SYSTEM_CLOCK.now() + seconds
        while not condition():
            assert SYSTEM_CLOCK.now() < give_up, f"it did not come about within {seconds:g} s"
            await SYSTEM_CLOCK.sleep(0.002)

    return wait


@pytest.fixture
def at_once() -> Callable[[Iterable[Awaitable[Any]]], Awaitable[list[Any]]]:
    """Outcomes of all of them, errors included, in order."""

    async def gather(calls: Iterable[Awaitable[Any]]) -> list[Any]:
        return await asyncio.gather(*calls, return_exceptions=True)

    return gather
