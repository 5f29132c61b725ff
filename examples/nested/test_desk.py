"""The desk alone: one line replaces its provider, and neither network nor registry is there."""

import asyncio
from typing import Any

import pytest
from desk import Desk, Mesh
from google.protobuf.wrappers_pb2 import StringValue

from atomesh.agents import ContextProvider, ExecutionContext, run_once
from atomesh.core.errors import AgentCrashed, NoEndpoint
from atomesh.text.v1.text_pb2 import TextInput, TextOutput


class FakeMesh(ContextProvider[Any]):
    """A mesh where every letter is of one mood, or where calls fail."""

    def __init__(self, mood: str = "", error: Exception | None = None) -> None:
        self._mood = mood
        self._error = error
        self.asked: list[TextInput] = []

    def provide(self, context: ExecutionContext) -> "FakeMesh":
        return self

    async def call(self, target: Any, input: TextInput) -> TextOutput:
        self.asked.append(input)
        if self._error:
            raise self._error
        return TextOutput(result=self._mood)


def ask(mesh: FakeMesh) -> str:
    desk: StringValue = asyncio.run(run_once(Desk(), StringValue(value="Dear all"), providers={Mesh: mesh}))
    return desk.value


@pytest.mark.parametrize(("mood", "desk"), [("negative", "complaints"), ("neutral", "thanks"), ("positive", "thanks")])
def test_a_letter_goes_to_the_desk_of_its_mood(mood: str, desk: str) -> None:
    mesh = FakeMesh(mood)
    assert ask(mesh) == desk
    assert mesh.asked == [TextInput(content="Dear all", operation="sentiment")], "one question, about the whole letter"


def test_without_text_agents_the_call_fails_and_says_why() -> None:
    with pytest.raises(AgentCrashed, match="NO_ENDPOINT"):
        ask(FakeMesh(error=NoEndpoint("nobody serves text-processor")))
