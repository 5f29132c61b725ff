"""PipelineHost behind a real gRPC server, with its agents and their registry in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message

from atomesh.agents import Agent, AgentFailed, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import AtomeshError
from atomesh.pipelines import read_pipeline
from atomesh.pipelines.assembly import RegistryFinder
from atomesh.pipelines.durable import open_checkpoints
from atomesh.pipelines.host import PipelineHost
from atomesh.pipelines.store import RunStore, StoreSettings, open_store
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.rpc.channel import from_rpc_error, open_channel
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1 import pipeline_pb2, pipeline_pb2_grpc

PATIENCE = 30.0


class Upper(Agent[TextInput, TextOutput]):
    """Says it louder."""

    name = "upper"
    capabilities = ("loud",)
    idempotent = True
    calls = 0

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        self.calls += 1
        sized = {"medium": 60_000, "big": 1_500_000}.get(input.content)
        return TextOutput(result="x" * sized if sized else input.content.upper())


class Gate(Agent[TextInput, TextOutput]):
    """Lets nothing through before it is opened."""

    name = "gate"
    slots = 8

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.open = asyncio.Event()
        self.cut_off = asyncio.Event()
        self.remaining: float | None = None
        self.request_ids: list[str] = []
        self.done = 0

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        self.remaining = context.remaining()
        self.request_ids.append(context.request_id)
        self.began.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cut_off.set()
            raise
        self.done += 1
        return TextOutput(result=input.content)


class Broken(Agent[TextInput, TextOutput]):
    name = "broken"

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        raise AgentFailed("no such ticket", reason="NO_TICKET")


GATED = """
name: gated
stages:
  before: {agent: upper}
  gate: {agent: gate, input: {content: $before.result, operation: summarize}}
  after: {agent: upper, input: {content: $gate.result, operation: summarize}}
"""
PIPELINES = {
    "loud": """
name: loud
description: Says it louder.
capabilities: [shouting]
stages:
  first: {agent: upper}
  second: {agent: upper, input: {content: $first.result, operation: summarize}}
""",
    "gated": GATED,
    "durable": GATED.replace("name: gated", "name: durable\ndurable: true"),
    "broken-line": """
name: broken-line
stages:
  first: {agent: upper}
  second: {agent: broken, input: $input, attempts: 1}
""",
}


@dataclass
class House:
    """A host that serves, and a channel of a stock client to it."""

    registry: str
    host: PipelineHost
    store: RunStore
    stub: Any
    upper: Upper
    gate: Gate
    agents: AgentServer

    @contextlib.asynccontextmanager
    async def another(self, *pipelines: str, store: str, **options: Any) -> AsyncIterator[House]:
        """A second host, in this process, of the same agents."""
        async with (
            opened_store(store) as kept,
            hosted(self.registry, kept, pipelines, store, **options) as host,
            open_channel(host.server.address) as channel,
        ):
            yield replace(self, host=host, store=kept, stub=pipeline_pb2_grpc.PipelineServiceStub(channel))

    @staticmethod
    def text(content: str = "hello") -> any_pb2.Any:
        """An input."""
        found = any_pb2.Any()
        found.Pack(TextInput(content=content, operation="summarize"))
        return found

    async def ask(self, method: str, request: Message, **options: Any) -> Any:
        """The answer, or the error of the mesh that it is."""
        try:
            return await getattr(self.stub, method)(request, **{"timeout": PATIENCE, **options})
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def run(self, pipeline: str, input: any_pb2.Any | None = None, **fields: Any) -> list[pipeline_pb2.RunEvent]:
        """All events of a run; raises what the stream ends with."""
        events, error = await self.told(pipeline, input, **fields)
        if error is not None:
            raise error
        return events

    async def told(
        self, pipeline: str, input: any_pb2.Any | None = None, *, timeout: float = PATIENCE, **fields: Any
    ) -> tuple[list[pipeline_pb2.RunEvent], AtomeshError | None]:
        """All events of a run, and the error that the stream ended with."""
        request = pipeline_pb2.RunRequest(pipeline=pipeline, input=input or self.text(), **fields)
        events: list[pipeline_pb2.RunEvent] = []
        try:
            async for response in self.stub.Run(request, timeout=timeout):
                events.append(response.event)
        except grpc.aio.AioRpcError as error:
            return events, from_rpc_error(error)
        return events, None

    def begin(self, pipeline: str, run_id: str, **options: Any) -> Any:
        """A run's call, under way."""
        return self.stub.Run(
            pipeline_pb2.RunRequest(pipeline=pipeline, input=self.text(), run_id=run_id), timeout=PATIENCE, **options
        )

    async def get(self, run_id: str) -> pipeline_pb2.Run:
        answer = await self.ask("GetRun", pipeline_pb2.GetRunRequest(run_id=run_id))
        run: pipeline_pb2.Run = answer.run
        return run

    async def ended(self, run_id: str) -> pipeline_pb2.Run:
        """The run, once it has ended."""
        async with asyncio.timeout(PATIENCE):
            await SYSTEM_CLOCK.sleep(0.005)  # what a host resumes begins in its next turn
            while run_id in self.host.runner.running:
                await SYSTEM_CLOCK.sleep(0.005)
        return await self.get(run_id)


@pytest.fixture
def house(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[House]]:
    """`async with house("loud") as at:`: a registry, the agents, and a host of these pipelines, by name or text."""

    @contextlib.asynccontextmanager
    async def opened(
        *pipelines: str,
        store: str = "memory",
        keeping: StoreSettings | None = None,
        **options: Any,
    ) -> AsyncIterator[House]:
        upper, gate = Upper(), Gate()
        async with contextlib.AsyncExitStack() as stack:
            registry = await stack.enter_async_context(RegistryServer(storage=MemoryStorage()))
            at = registry.address
            agents = await stack.enter_async_context(AgentServer([upper, gate, Broken()], registry=at))
            kept = await stack.enter_async_context(opened_store(store, keeping))
            async with asyncio.timeout(PATIENCE):
                await agents.registered.wait()
            host = await stack.enter_async_context(hosted(at, kept, pipelines, store, **options))
            channel = await stack.enter_async_context(open_channel(host.server.address))
            stub = pipeline_pb2_grpc.PipelineServiceStub(channel)
            yield House(at, host, kept, stub, upper, gate, agents)

    return opened


@contextlib.asynccontextmanager
async def opened_store(where: str, keeping: StoreSettings | None = None) -> AsyncIterator[RunStore]:
    """The store there, open."""
    store = open_store(where, keeping)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def hosted(
    registry: str, store: RunStore, pipelines: Sequence[str], where: str, *, durable: bool = True, **options: Any
) -> AsyncIterator[PipelineHost]:
    """A host, with checkpoints where its store can have them."""
    read = [read_pipeline(PIPELINES.get(pipeline, pipeline)) for pipeline in pipelines]
    async with contextlib.AsyncExitStack() as stack:
        checkpoints = open_checkpoints(where) if durable and where != "memory" else None
        if checkpoints is not None:
            await checkpoints.open()
            stack.push_async_callback(checkpoints.close)
        mesh = await stack.enter_async_context(Client(registry))
        finder = await stack.enter_async_context(RegistryFinder(registry))
        host = PipelineHost(
            read, mesh=mesh, store=store, finder=finder, checkpoints=checkpoints, registry=registry, **options
        )
        yield await stack.enter_async_context(host)
