"""A mesh on a network in memory, in virtual time: agents that do what a test says, and runs over them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.pipelines import Outcome, PipelineMetrics, Plan, RunFailed, Runner, RunRecord, plan_pipeline
from atomesh.pipelines.model import PipelineSpec
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.testing import VirtualClock
from atomesh.testing.memory import LinkProfile, MemoryNetwork

LATENCY = 0.001  # seconds, one way


@dataclass
class Execution:
    """One execution, as the agent saw it."""

    value: str
    context: ExecutionContext
    begun: float
    ended: float = 0.0
    outcome: str = "running"


Work = Callable[[str, ExecutionContext], Awaitable[Any]]


class Worker(Agent[StringValue, StringValue]):
    """Adds its name to what it is given, or does what the test gives it; keeps a book."""

    def __init__(self, clock: VirtualClock, work: Work | None, seconds: float) -> None:
        self.clock = clock
        self.work = work
        self.seconds = seconds
        self.seen: list[Execution] = []
        self.running = 0
        self.most = 0

    async def execute(self, input: StringValue, context: ExecutionContext, /) -> Any:
        execution = Execution(input.value, context, self.clock.now())
        self.seen.append(execution)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.seconds:
                await self.clock.sleep(self.seconds)
            given = await self.work(input.value, context) if self.work else None
            execution.outcome = "done"
        except asyncio.CancelledError:
            execution.outcome = "cancelled"
            raise
        except Exception as error:
            execution.outcome = type(error).__name__
            raise
        finally:
            self.running -= 1
            execution.ended = self.clock.now()
        if given is None:
            given = f"{input.value}>{context.agent}"
        return StringValue(value=given) if isinstance(given, str) else given

    @property
    def values(self) -> list[str]:
        return [execution.value for execution in self.seen]

    @property
    def outcomes(self) -> list[str]:
        return [execution.outcome for execution in self.seen]


@dataclass
class World:
    """A registry, a client, and agents on hosts of their own."""

    clock: VirtualClock
    network: MemoryNetwork
    registry: RegistryServer
    mesh: Client
    stack: contextlib.AsyncExitStack
    hosts: dict[str, list[Any]] = field(default_factory=dict)
    instances: dict[str, Any] = field(default_factory=dict)
    """Hosts by the instance that they serve."""

    async def agent(
        self,
        name: str,
        work: Work | None = None,
        *,
        seconds: float = 0.0,
        idempotent: bool = False,
        slots: int = 8,
        copies: int = 1,
    ) -> Worker:
        """Serves an agent; each copy of it is another endpoint, and all keep one book."""
        kind = type("Served", (Worker,), {"name": name, "idempotent": idempotent, "slots": slots})
        worker: Worker = kind(self.clock, work, seconds)
        for _ in range(copies):
            await self.serve(name, worker)
        return worker

    async def serve(self, name: str, agent: Agent[Any, Any]) -> AgentServer:
        """Another endpoint of an agent."""
        host = self.network.host(f"{name}-{len(self.hosts.setdefault(name, [])) + 1}")
        self.hosts[name].append(host)
        server = AgentServer(
            agent,
            registry=self.registry.address,
            bind=f"{host.ip}:0",
            network=host,
            clock=self.clock,
            rng=random.Random(len(self.hosts[name])),
            drain_grace=0.1,
        )
        await host.spawn(server.start(), f"start {host.name}")
        self.instances[server.instance_id] = host
        self.stack.push_async_callback(server.stop)
        await server.registered.wait()
        return server

    def kill(self, name: str, copy: int = 0) -> None:
        """As SIGKILL."""
        self.network.kill(self.hosts[name][copy])

    def kill_busy(self, worker: Worker) -> None:
        """Kills the endpoint that began the last execution."""
        self.network.kill(self.instances[worker.seen[-1].context.instance_id])

    def later(self, seconds: float, act: Callable[[], Any]) -> None:
        """Does it in so many seconds."""
        asyncio.get_running_loop().call_later(seconds, act)

    async def plan(self, *stages: Mapping[str, Any], **settings: Any) -> Plan:
        """The plan of these stages; they take and give text."""
        spec = PipelineSpec.model_validate({"name": "p", "stages": list(stages), **settings})
        return await plan_pipeline(self.mesh, spec)

    def runner(self, **settings: Any) -> Runner:
        """A runner over the mesh; it is closed with the world."""
        settings.setdefault("metrics", PipelineMetrics())
        runner = Runner(self.mesh, clock=self.clock, rng=random.Random(1), **settings)
        self.stack.push_async_callback(runner.close)
        return runner

    async def run(self, *stages: Mapping[str, Any], input: str = "x", **settings: Any) -> Outcome:
        """Plans and runs these stages."""
        return await self.runner().run(await self.plan(*stages, **settings), StringValue(value=input))

    async def fails(self, *stages: Mapping[str, Any], **settings: Any) -> RunRecord:
        """The record of a run of these stages, which must fail."""
        with pytest.raises(RunFailed) as caught:
            await self.run(*stages, **settings)
        return caught.value.run


@contextlib.asynccontextmanager
async def open_world(**client: Any) -> AsyncIterator[World]:
    clock = VirtualClock(loop=asyncio.get_running_loop())  # a server's watchdog reads it from a thread
    async with contextlib.AsyncExitStack() as stack:
        network = MemoryNetwork(random.Random(1), profile=LinkProfile(LATENCY, 0.0))
        there, here = network.host("registry"), network.host("client")
        registry = RegistryServer(storage=MemoryStorage(), bind=f"{there.ip}:7400", clock=clock, network=there)
        await there.spawn(registry.start(), "start registry")
        stack.push_async_callback(registry.stop)
        settings = {"clock": clock, "network": here, "rng": random.Random(1), "timeout": 1000.0, **client}
        mesh = Client(registry.address, **settings)
        stack.push_async_callback(mesh.close)
        yield World(clock, network, registry, mesh, stack)


@pytest.fixture
def world(virtual_clock: VirtualClock) -> Callable[..., contextlib.AbstractAsyncContextManager[World]]:
    """`async with world() as w:`, a mesh without agents yet."""
    del virtual_clock  # it is asked for to be on such a loop
    return open_world
