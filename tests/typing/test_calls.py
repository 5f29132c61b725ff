"""A call with a contract is typed: what goes in, and what comes out.

The first half is checked by `make types` as it stands; the second has mypy
look at calls that must not pass.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, assert_type

import pytest

from atomesh.agents import ExecutionContext, StreamingAgent
from atomesh.balancer import BlockingClient, BlockingStream, Client, Reply, Stream
from atomesh.core import Contract, StreamContract
from atomesh.text.v1.text_pb2 import Keyword, TextInput, TextOutput

ROOT = Path(__file__).resolve().parents[2]
TEXT = Contract("text-processor", TextInput, TextOutput)
TALK = StreamContract("talker", TextInput, TextOutput, chunk=Keyword)


async def what_comes_out_of_a_client(mesh: Client) -> None:
    """Never run: mypy's to judge."""
    assert_type(await mesh.call(TEXT, TextInput()), TextOutput)
    assert_type(await mesh.call(TEXT, TextInput(), timeout=1.0, idempotent=True, policy="round_robin"), TextOutput)
    assert_type((await mesh.call(TEXT, TextInput())).word_count, int)
    assert_type(await mesh.call("text-processor", TextInput()), Any)
    assert_type(await mesh.execute(TEXT, TextInput()), Reply[TextOutput])
    assert_type((await mesh.execute(TEXT, TextInput())).output, TextOutput)


def what_comes_out_of_a_blocking_client(mesh: BlockingClient) -> None:
    """Never run: mypy's to judge."""
    assert_type(mesh.call(TEXT, TextInput()), TextOutput)
    assert_type(mesh.call(TEXT, TextInput(), timeout=1.0), TextOutput)
    assert_type(mesh.call("text-processor", TextInput()), Any)
    assert_type(mesh.execute(TEXT, TextInput()), Reply[TextOutput])


async def what_comes_out_of_a_stream(mesh: Client) -> None:
    """Never run: mypy's to judge."""
    async with mesh.stream(TALK, TextInput(), timeout=1.0, idempotent=True) as stream:
        assert_type(stream, Stream[Keyword, TextOutput])
        async for chunk in stream:
            assert_type(chunk, Keyword)
        assert_type(stream.output, TextOutput)
        assert_type(await stream.result(), TextOutput)
    assert_type(mesh.stream(TEXT, TextInput()), Stream[Any, TextOutput])
    assert_type(mesh.stream("text-processor", TextInput()), Stream[Any, Any])
    assert_type(await mesh.call(TALK, TextInput()), TextOutput)


def what_comes_out_of_a_blocking_stream(mesh: BlockingClient) -> None:
    """Never run: mypy's to judge."""
    with mesh.stream(TALK, TextInput(), timeout=1.0) as stream:
        assert_type(stream, BlockingStream[Keyword, TextOutput])
        for chunk in stream:
            assert_type(chunk, Keyword)
        assert_type(stream.output, TextOutput)


class Talker(StreamingAgent[TextInput, Keyword, TextOutput]):
    """What authors write; never run."""

    async def stream(self, input: TextInput, context: ExecutionContext) -> AsyncIterator[Keyword | TextOutput]:
        yield Keyword(text=input.content)
        yield TextOutput()


def what_a_contract_is() -> None:
    """Never run: mypy's to judge."""
    assert_type(TEXT, Contract[TextInput, TextOutput])
    assert_type(TEXT.input, type[TextInput])
    assert_type(TEXT.output(), TextOutput)
    assert_type(TALK, StreamContract[TextInput, Keyword, TextOutput])
    assert_type(TALK.chunk, type[Keyword])


BEFORE = """
from atomesh.balancer import BlockingClient, Client, Stream
from atomesh.core import Contract, StreamContract
from atomesh.text.v1.text_pb2 import Keyword, TextInput, TextOutput

TEXT = Contract("text-processor", TextInput, TextOutput)
TALK = StreamContract("talker", TextInput, TextOutput, chunk=Keyword)

async def calls(mesh: Client, blocking: BlockingClient) -> None:
    await mesh.call(TEXT, TextInput(content="hello"))  # fine
"""

WRONG = {
    "another message goes in": "await mesh.call(TEXT, TextOutput())",
    "a dict goes in": "await mesh.call(TEXT, {'content': 'hello'})",
    "nothing goes in": "await mesh.call(TEXT)",
    "a text goes in": "await mesh.call('text-processor', 'hello')",
    "what comes out is taken for another message": "given: TextInput = await mesh.call(TEXT, TextInput())",
    "what comes out lacks the field": "(await mesh.call(TEXT, TextInput())).no_such_field",
    "an option is misspelt": "await mesh.call(TEXT, TextInput(), time_out=1.0)",
    "a timeout is no number": "await mesh.call(TEXT, TextInput(), timeout='1s')",
    "the await is forgotten": "given: TextOutput = mesh.call(TEXT, TextInput())",
    "blocking: another message goes in": "blocking.call(TEXT, TextOutput())",
    "blocking: a text goes in": "blocking.call('text-processor', 'hello')",
    "blocking: what comes out is taken for another message": "given: TextInput = blocking.call(TEXT, TextInput())",
    "a contract of classes that are no messages": "Contract('a', int, str)",
    "stream: another message goes in": "mesh.stream(TALK, TextOutput())",
    "stream: an option is misspelt": "mesh.stream(TALK, TextInput(), time_out=1.0)",
    "stream: a chunk is taken for an output": "given: TextOutput = await anext(mesh.stream(TALK, TextInput()))",
    "stream: an output is taken for a chunk": "other: Keyword = await mesh.stream(TALK, TextInput()).result()",
    "stream: it is awaited": "await mesh.stream(TALK, TextInput())",
    "stream: a plain `for`": "list(mesh.stream(TALK, TextInput()))",
    "a contract of streams without the type of its chunks": "StreamContract('a', TextInput, TextOutput)",
}


@pytest.fixture(scope="module")
def said_by_mypy(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """One run for all of them: each on a line of its own, and what mypy says of it."""
    snippet = tmp_path_factory.mktemp("typing") / "wrong.py"
    snippet.write_text(BEFORE + "".join(f"    {line}\n" for line in WRONG.values()))
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", str(snippet)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert ran.returncode in (0, 1), ran.stderr
    said: dict[int, str] = {}
    for line in ran.stdout.splitlines():
        place, _, message = line.partition(": error: ")
        if message and place.rpartition(":")[0].endswith("wrong.py"):
            said.setdefault(int(place.rpartition(":")[2]), message)
    return said


@pytest.mark.parametrize("wrong", WRONG)
def test_a_checker_objects_where(wrong: str, said_by_mypy: dict[int, str]) -> None:
    first = BEFORE.count("\n") + 1
    assert said_by_mypy.get(first + list(WRONG).index(wrong)), f"mypy must object to: {WRONG[wrong]}"


def test_a_checker_objects_to_nothing_else(said_by_mypy: dict[int, str]) -> None:
    first = BEFORE.count("\n") + 1
    others = {line: message for line, message in said_by_mypy.items() if not first <= line < first + len(WRONG)}
    assert not others
