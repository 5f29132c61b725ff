"""Endpoints that ask for a token in every call, over every way that a call can take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.core import Contract, errors
from atomesh.rpc import Credentials
from atomesh.text.v1 import text_pb2_grpc
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1 import agent_pb2_grpc, context_pb2, mux_pb2

Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)
TOKEN = Credentials(token="s3cret")


class Echo(Agent[TextInput, TextOutput]):
    name = "echo"

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        return TextOutput(result=input.content)


def guarded() -> AgentServer:
    return AgentServer(Echo(), credentials=TOKEN, guard_calls=True)


@pytest.mark.parametrize("mux", [True, False])
async def test_a_client_with_the_token_is_served_and_one_without_is_refused_unexecuted(mux: bool, text: Text) -> None:
    async with guarded() as server:
        async with Client(endpoints=[server.address], credentials=TOKEN, mux=mux) as client:
            assert (await client.call(ECHO, text())).result == text().content
            async with client.stream(ECHO, text()) as stream:
                assert (await stream.result()).result == text().content
        for wrong in (Credentials(), Credentials(token="guess")):
            async with Client(endpoints=[server.address], credentials=wrong, mux=mux) as client:
                with pytest.raises(errors.Unauthenticated, match="--token-file") as caught:
                    await client.call(ECHO, text())
                assert caught.value.executed is False, "nothing may run for who has no token"
                with pytest.raises(errors.Unauthenticated):
                    async with client.stream(ECHO, text()) as stream:
                        await stream.result()
        assert server.agents["echo"].admission.executions == 2


async def test_within_one_mux_each_call_is_checked_by_itself(text: Text) -> None:
    async with guarded() as server, grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
        rpc = stub.Mux()
        frame = mux_pb2.MuxRequest(open=mux_pb2.MuxOpen(version=1, agent="echo"))
        for number, authorization in enumerate((b"Bearer s3cret", b"Bearer no", b"", b"Bearer s3cret"), start=1):
            call = frame.calls.add(id=number, input=text().SerializeToString(), authorization=authorization)
            call.context = context_pb2.Context(request_id=f"r{number}").SerializeToString()
        await rpc.write(frame)
        replies: dict[int, mux_pb2.MuxReply] = {}
        while len(replies) < 4:
            replies.update((reply.id, reply) for reply in (await rpc.read()).replies)
        assert [bool(replies[number].status) for number in (1, 2, 3, 4)] == [False, True, True, False]
        await rpc.done_writing()
        assert await rpc.read() is grpc.aio.EOF


async def test_the_typed_door_is_guarded_too(text: Text) -> None:
    async with guarded() as server, grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = text_pb2_grpc.TextProcessorServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Execute(text())
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert (await stub.Execute(text(), metadata=TOKEN.metadata())).result == text().content


async def test_guarding_without_a_token_is_refused_in_one_line() -> None:
    with pytest.raises(errors.InvalidArgument, match="would refuse every call; give one with --token-file"):
        AgentServer(Echo(), guard_calls=True)
