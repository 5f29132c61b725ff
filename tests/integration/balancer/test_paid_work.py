"""Work that broke its contract was paid for, and comes back with the error, however long it is."""

from __future__ import annotations

import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.core import Contract
from atomesh.core.errors import InvalidOutput
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

WRITER = Contract("writer", TextInput, TextOutput)


class Writer(Agent[TextInput, TextOutput]):
    """Writes as many letters as it is told to, and is surer than its contract allows."""

    name = "writer"

    async def execute(self, input: TextInput, context: ExecutionContext) -> TextOutput:
        return TextOutput(result="x" * int(input.content), confidence=7)


@pytest.mark.parametrize("length", [10, 5_000, 200_000])
async def test_the_error_carries_the_output(length: int) -> None:
    async with AgentServer([Writer()]) as server, Client(endpoints=[server.address]) as client:
        with pytest.raises(InvalidOutput, match="confidence") as caught:
            await client.call(WRITER, TextInput(content=str(length), operation="summarize"))
        assert caught.value.output == TextOutput(result="x" * length, confidence=7)


async def test_what_no_trailer_holds_is_named_with_its_size() -> None:
    async with AgentServer([Writer()]) as server, Client(endpoints=[server.address]) as client:
        with pytest.raises(InvalidOutput, match=r"TextOutput left out: \d+ bytes") as caught:
            await client.call(WRITER, TextInput(content="1000000", operation="summarize"))
        assert caught.value.output is None
