"""Pipelines served as agents through real servers on loopback, with a registry between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.pipelines import Plan, Runner, pipeline_agent, plan_pipeline
from atomesh.pipelines.model import PipelineSpec
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

PATIENCE = 5.0
"""Seconds, where a broken test would wait for ever."""

Work = Callable[[TextInput, ExecutionContext], Awaitable[Any]]


class Text(Agent[TextInput, TextOutput]):
    """Says its name after the content, or does what the test gives it."""

    def __init__(self, work: Work | None = None) -> None:
        self.work = work
        self.seen: list[ExecutionContext] = []
        self.begun = asyncio.Semaphore(0)
        self.cancelled_at: list[float] = []

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        self.seen.append(context)
        self.begun.release()
        try:
            given = await self.work(input, context) if self.work else None
        except asyncio.CancelledError:
            self.cancelled_at.append(SYSTEM_CLOCK.now())
            raise
        return given if given is not None else TextOutput(result=f"{input.content}>{context.agent}")


@dataclass
class House:
    """A registry, a client, and what is served around them."""

    registry: RegistryServer
    mesh: Client
    stack: contextlib.AsyncExitStack
    runners: list[Runner] = field(default_factory=list)

    async def agent(self, name: str, work: Work | None = None, **attributes: Any) -> Text:
        """Serves an agent."""
        agent: Text = type("Served", (Text,), {"name": name, **attributes})(work)
        await self.serve(agent)
        return agent

    async def serve(self, agent: Agent[Any, Any]) -> AgentServer:
        """An endpoint of the agent, registered."""
        server = await self.stack.enter_async_context(
            AgentServer(agent, registry=self.registry.address, drain_grace=0.1)
        )
        async with asyncio.timeout(PATIENCE):
            await server.registered.wait()
        return server

    async def plan(self, *stages: Mapping[str, Any], **settings: Any) -> Plan:
        """The plan of these stages."""
        spec = PipelineSpec.model_validate({"name": "report", "stages": list(stages), **settings})
        return await plan_pipeline(self.mesh, spec)

    async def runner(self, **settings: Any) -> Runner:
        """A runner over a client of its own."""
        mesh = await self.stack.enter_async_context(Client(self.registry.address))
        runner = await self.stack.enter_async_context(Runner(mesh, **settings))
        self.runners.append(runner)
        return runner

    async def pipeline(self, *stages: Mapping[str, Any], **settings: Any) -> AgentServer:
        """Serves these stages as an agent."""
        plan, runner = await self.plan(*stages, **settings), await self.runner()
        return await self.serve(pipeline_agent(plan, lambda: runner))


@contextlib.asynccontextmanager
async def open_house() -> AsyncIterator[House]:
    async with contextlib.AsyncExitStack() as stack:
        registry = RegistryServer(storage=MemoryStorage())
        await registry.start()
        stack.push_async_callback(registry.stop)
        mesh = await stack.enter_async_context(Client(registry.address))
        yield House(registry, mesh, stack)


@pytest.fixture
def house() -> Callable[[], contextlib.AbstractAsyncContextManager[House]]:
    return open_house


def chained(name: str, before: str = "", **more: Any) -> dict[str, Any]:
    """A stage that reads the result of another, or the pipeline's input."""
    given = {"content": f"${before}.result", "operation": "sentiment"} if before else "$input"
    return {"id": name, "agent": name, "input": given, **more}


@pytest.fixture
def stage() -> Callable[..., dict[str, Any]]:
    return chained
