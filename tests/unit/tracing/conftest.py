"""Traced agents and clients on a network in memory, in virtual time, and the spans that they make."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import Int32Value, StringValue
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON

from atomesh.agents import Agent, AgentServer, ExecutionContext, StreamingAgent
from atomesh.balancer import Client
from atomesh.core.tracing import Tracer
from atomesh.rpc.credentials import PLAINTEXT
from atomesh.rpc.tracing import OtelTracer
from atomesh.testing import VirtualClock
from atomesh.testing.memory import MemoryNetwork
from atomesh.v1 import agent_pb2, agent_pb2_grpc, context_pb2

Work = Callable[[str, ExecutionContext], Awaitable[Any]]


class Doing(Agent[StringValue, StringValue]):
    """Does what the test gives it, and keeps what it was given."""

    def __init__(self, work: Work | None) -> None:
        self.work = work
        self.seen: list[ExecutionContext] = []
        self.addresses: list[str] = []

    async def execute(self, input: StringValue, context: ExecutionContext, /) -> StringValue:
        self.seen.append(context)
        given = await self.work(input.value, context) if self.work else None
        return StringValue(value=given if isinstance(given, str) else input.value)


class Counting(StreamingAgent[Int32Value, StringValue, Int32Value]):
    """So many chunks."""

    name = "counter"

    async def stream(self, input: Int32Value, context: ExecutionContext, /) -> AsyncIterator[StringValue | Int32Value]:
        for number in range(input.value):
            yield StringValue(value=str(number))
        yield input


class Spans:
    """A tracer, and what came of it."""

    def __init__(self, clock: VirtualClock, ratio: float = 1.0) -> None:
        self.kept = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=DEFAULT_ON, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.kept))
        self.tracer = OtelTracer(self.provider, ratio=ratio, clock=clock, rng=random.Random(1))

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self.kept.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        """In the order in which they began."""
        return sorted((span for span in self.all if span.name == name), key=lambda span: span.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def tree(self) -> list[str]:
        """One line for each span, its children below it and to the right, with the reason where it ended badly."""
        spans = sorted(self.all, key=lambda span: (span.start_time or 0, -(span.end_time or 0)))
        known = {span.context.span_id for span in spans if span.context}
        lines: list[str] = []

        def walk(parent: int | None, depth: int) -> None:
            for span in spans:
                above = span.parent.span_id if span.parent is not None and span.parent.span_id in known else None
                if above == parent and span.context is not None:
                    reason = span.status.description
                    lines.append("  " * depth + span.name + (f": {reason}" if reason else ""))
                    walk(span.context.span_id, depth + 1)

        walk(None, 0)
        return lines

    @property
    def traces(self) -> set[str]:
        return {f"{span.context.trace_id:032x}" for span in self.all if span.context}


class World:
    """Endpoints and clients, each on a host of its own."""

    def __init__(self, clock: VirtualClock, stack: contextlib.AsyncExitStack) -> None:
        self.clock = clock
        self.spans = Spans(clock)
        self._network = MemoryNetwork(random.Random(1))
        self._stack = stack
        self._hosts = 0

    async def agent(self, name: str, work: Work | None = None, *, copies: int = 1, **said: Any) -> Doing:
        """Serves one, traced unless it is said who else traces it, or nobody; its copies keep one book."""
        made: Doing = type("Made", (Doing,), {"name": name})(work)
        made.addresses = [(await self.serve(made, **said)).address for _ in range(copies)]
        return made

    async def serve(self, agent: Agent[Any, Any], **said: Any) -> AgentServer:
        host = self._network.host(f"host-{(number := self._count())}")
        server = AgentServer(
            agent,
            bind=f"{host.ip}:7500",
            clock=VirtualClock(loop=asyncio.get_running_loop()),
            rng=random.Random(number),
            network=host,
            **({"tracer": self.spans.tracer} | said),
        )
        return await self._stack.enter_async_context(server)

    async def client(self, *agents: Any, tracer: Tracer | bool | None = True, **said: Any) -> Client:
        """A client of the agents, or servers, that are given."""
        addresses = [a for agent in agents for a in getattr(agent, "addresses", None) or [agent.address]]
        client = Client(
            endpoints=addresses,
            clock=self.clock,
            rng=random.Random(self._count()),
            network=self._network.host(f"host-{self._hosts}"),
            tracer=self.spans.tracer if tracer is True else tracer or None,
            **said,
        )
        return await self._stack.enter_async_context(client)

    async def stock(self, agent: Doing) -> Callable[[str], Awaitable[Any]]:
        """Execute of a stock gRPC client: it waits at the endpoint, and knows nothing of traces but a header's name."""
        host = self._network.host(f"host-{self._count()}")
        channel = host.channel(agent.addresses[0], PLAINTEXT)
        self._stack.push_async_callback(channel.close)
        execute = agent_pb2_grpc.AgentServiceStub(channel).Execute

        async def call(value: str, traceparent: str = "") -> Any:
            context = context_pb2.Context(traceparent=traceparent)
            request = agent_pb2.ExecuteRequest(agent=agent.name, context=context)
            request.input.Pack(StringValue(value=value))
            return await execute(request, timeout=30)

        return call

    def _count(self) -> int:
        self._hosts += 1
        return self._hosts


@contextlib.asynccontextmanager
async def _open() -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        yield World(VirtualClock(loop=asyncio.get_running_loop()), stack)


@pytest.fixture
def world(virtual_clock: VirtualClock) -> Callable[[], contextlib.AbstractAsyncContextManager[World]]:
    """`async with world() as w:`."""
    del virtual_clock  # it is asked for to be on such a loop
    return _open


@pytest.fixture
def spans() -> type[Spans]:
    """For a tracer of one's own: `spans(clock, ratio=0)`."""
    return Spans


@pytest.fixture
def counting() -> type[Counting]:
    return Counting
