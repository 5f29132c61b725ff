"""Agents that call each other in a circle: at full slots the call that came back is refused, nobody hangs."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc.aio

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.context import MAX_HOPS, Context, current_scope
from atomesh.core.contract import pack
from atomesh.core.errors import AgentFailed, CallLoop, CallTooDeep
from atomesh.rpc.channel import from_rpc_error
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1 import agent_pb2, agent_pb2_grpc

Serving = Callable[..., Any]


class Calls(Agent[TextInput, TextOutput]):
    """Calls the next agent with the context that it runs in, as a mesh client does, and tells what came of it."""

    slots = 2

    def __init__(self) -> None:
        self.next = ""
        self.ways: list[tuple[str, ...]] = []

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        scope = current_scope()
        assert scope is not None
        self.ways.append(context.via)
        async with grpc.aio.insecure_channel(self.next) as channel:
            stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
            request = agent_pb2.ExecuteRequest(input=pack(input), context=scope.child().to_proto())
            try:
                response = await stub.Execute(request, timeout=context.remaining())
            except grpc.aio.AioRpcError as error:
                told = from_rpc_error(error)
                raise AgentFailed(told.message, reason=told.reason) from None
        return TextOutput.FromString(response.output.value)


class First(Calls):
    name = "first"


class Second(Calls):
    name = "second"


async def test_a_circle_at_full_slots_ends_at_once_with_what_is_wrong() -> None:
    first, second = First(), Second()
    async with AgentServer(first) as one, AgentServer(second) as two:
        first.next, second.next = two.address, one.address
        async with grpc.aio.insecure_channel(one.address) as channel:
            stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
            message = pack(TextInput(content="round and round", operation="sentiment"))
            begun = SYSTEM_CLOCK.now()
            calls = [stub.Execute(agent_pb2.ExecuteRequest(input=message), timeout=20) for _ in range(2)]
            ends = await asyncio.gather(*calls, return_exceptions=True)
        assert SYSTEM_CLOCK.now() - begun < 5, "it must not wait for itself until the deadline"
        for end in ends:
            assert isinstance(end, grpc.aio.AioRpcError)
            told = from_rpc_error(end)
            assert isinstance(told, AgentFailed)
            assert told.reason == CallLoop.reason
        assert ("first",) in second.ways
        assert all(served.admission.in_flight == 0 for server in (one, two) for served in server.agents.values())


async def test_a_call_through_too_many_agents_is_refused(serving: Serving) -> None:
    async with serving() as (_, caller):
        deep = Context(via=("a",) * (MAX_HOPS + 1)).to_proto()
        error = await caller.error(caller.execute(context=deep))
        assert isinstance(error, CallTooDeep)
        assert error.executed is False
