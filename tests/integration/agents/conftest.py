"""Agents behind real gRPC on loopback, called by generated stubs alone, as any language would."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.core.contract import pack
from atomesh.core.errors import AtomeshError
from atomesh.rpc.channel import from_rpc_error
from atomesh.text.v1 import text_pb2, text_pb2_grpc
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1 import agent_pb2, agent_pb2_grpc


class Echo(Agent[TextInput, TextOutput]):
    """Answers with the content, or does what the test gives it."""

    name = "echo"

    def __init__(self, work: Callable[..., Any] | None = None) -> None:
        self._work = work

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        given = await self._work(input, context) if self._work else None
        return given if given is not None else TextOutput(result=input.content)


class Caller:
    """The generated stubs of both doors."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
        self.typed: Any = text_pb2_grpc.TextProcessorServiceStub(channel)

    @staticmethod
    def input(content: str = "hello") -> TextInput:
        return text_pb2.TextInput(content=content, operation="sentiment")

    def request(self, content: str = "hello", **more: Any) -> agent_pb2.ExecuteRequest:
        return agent_pb2.ExecuteRequest(input=pack(self.input(content)), **more)

    async def execute(self, content: str = "hello", *, timeout: float | None = 10, **more: Any) -> str:
        response = await self.stub.Execute(self.request(content, **more), timeout=timeout)
        return text_pb2.TextOutput.FromString(response.output.value).result

    async def error(self, call: Any) -> AtomeshError:
        """The error that a call ends with."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return from_rpc_error(caught.value)


@contextlib.asynccontextmanager
async def running(agents: Any = None, **options: Any) -> AsyncIterator[tuple[AgentServer, Caller]]:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(AgentServer(Echo() if agents is None else agents, **options))
        yield server, Caller(await stack.enter_async_context(grpc.aio.insecure_channel(server.address)))


@pytest.fixture
def echo() -> type[Echo]:
    return Echo


@pytest.fixture
def serving() -> Callable[..., contextlib.AbstractAsyncContextManager[tuple[AgentServer, Caller]]]:
    return running
