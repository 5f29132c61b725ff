"""`atomesh call --stream`: chunks as they come, a line each, then the output; and what `describe` says of such agents."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from atomesh.agents import AgentFailed, AgentServer, ExecutionContext, StreamingAgent
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.text.v1.text_pb2 import Keyword, TextInput, TextOutput


class Speller(StreamingAgent[TextInput, Keyword, TextOutput]):
    """Each word, then all of them; fails after `fail`."""

    name = "speller"

    async def stream(self, input: TextInput, context: ExecutionContext, /) -> AsyncIterator[Keyword | TextOutput]:
        for word in input.content.split():
            yield Keyword(text=word)
            if word == "fail":
                raise AgentFailed("cannot spell that", reason="NO_SUCH_WORD")
        yield TextOutput(result=input.content)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[str]:
    async with (
        RegistryServer(bind="127.0.0.1:0", storage=MemoryStorage()) as registry,
        AgentServer(Speller(), registry=registry.address) as server,
    ):
        await asyncio.wait_for(server.registered.wait(), 5)
        yield registry.address


def words(content: str) -> str:
    return json.dumps({"content": content, "operation": "sentiment"})


async def test_chunks_are_lines_of_json_and_the_output_is_the_last(atomesh: Callable[..., Any]) -> None:
    async with running() as registry:
        ended = await atomesh("call", "speller", words("so \x1b[2J it goes"), "--stream", "--registry", registry)
        assert ended.code == 0, ended.err
        *chunks, output = [json.loads(line) for line in ended.out.splitlines()]
        assert [chunk["text"] for chunk in chunks] == ["so", "\x1b[2J", "it", "goes"]
        assert chunks[0]["count"] == 0, "a zero is an answer"
        assert output["result"] == "so \x1b[2J it goes"
        assert "\x1b" not in ended.out, "control characters of an agent must not reach a terminal"
        both = await atomesh(
            *("call", "speller", words("a b"), "--stream", "--json", "--info", "--user", "Zoë", "--registry", registry)
        )
        last = json.loads(both.out.splitlines()[-1])
        assert (last["output"]["result"], last["info"]["agent"], last["attempts"]) == ("a b", "speller", [])
        assert "speller 1.0.0 at" in both.err
        plain = await atomesh("call", "speller", words("a b"), "--registry", registry)
        assert json.loads(plain.out)["result"] == "a b", "without --stream it is a call like any other"


async def test_an_error_after_chunks_is_one_line_that_counts_them(atomesh: Callable[..., Any]) -> None:
    async with running() as registry:
        ended = await atomesh("call", "speller", words("we fail here"), "--stream", "--registry", registry)
        assert ended.code != 0
        assert "cannot spell that (after 2 chunks)" in ended.one_line()
        assert len(ended.out.splitlines()) == 2, "what came is shown"


async def test_describe_shows_the_chunks(atomesh: Callable[..., Any]) -> None:
    async with running() as registry:
        shown = await atomesh("describe", "speller", "--registry", registry)
        assert (
            "// atomesh.text.v1.TextInput -> stream of atomesh.text.v1.Keyword, then atomesh.text.v1.TextOutput"
            in shown.out
        )
        told = await atomesh("describe", "speller", "--json", "--registry", registry)
        assert json.loads(told.out)["contract"]["chunk_type"] == "atomesh.text.v1.Keyword"
