"""One address of a list that describes nonsense keeps nobody from the others."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.rpc.server import Server
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1 import agent_pb2, agent_pb2_grpc


class Echo(Agent[TextInput, TextOutput]):
    name = "echo"

    async def execute(self, input: TextInput, context: ExecutionContext) -> TextOutput:
        return TextOutput(result=input.content)


class Nonsense(agent_pb2_grpc.AgentServiceServicer):
    async def Describe(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
        broken = agent_pb2.Contract(input_type="a.In", output_type="a.Out", descriptor_set=b"\xff")
        return agent_pb2.DescribeResponse(agents=[agent_pb2.AgentDescription(name="echo", contract=broken)])


async def test_the_others_are_called_and_the_log_names_the_one(caplog: pytest.LogCaptureFixture) -> None:
    broken = Server(bind="127.0.0.1:0")
    servicer: Any = Nonsense  # abstract to the stubs only: what is not there answers UNIMPLEMENTED
    broken.add(agent_pb2_grpc.add_AgentServiceServicer_to_server, servicer())
    await broken.start()
    try:
        with caplog.at_level(logging.WARNING):
            async with AgentServer([Echo()]) as server, Client(endpoints=[broken.address, server.address]) as client:
                for word in ("one", "two"):
                    message = TextInput(content=word, operation="summarize")
                    assert (await client.call("echo", message, timeout=10)).result == word
        assert not [r for r in caplog.records if r.levelno >= logging.ERROR], "no background task may die of it"
        assert [r for r in caplog.records if broken.address in r.getMessage()], "an operator must be told which one"
    finally:
        await broken.stop(0)
