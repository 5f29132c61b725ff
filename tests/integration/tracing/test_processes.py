"""One trace across real processes, each with an exporter of its own, as the command line starts them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from atomesh.agents import AgentServer
from atomesh.agents.builtin.text.agent import TextProcessor
from atomesh.registry import MemoryStorage, RegistryServer

Collecting = Callable[[], AbstractAsyncContextManager[Any]]
Running = Callable[..., AbstractAsyncContextManager[Any]]
Atomesh = Callable[..., Awaitable[Any]]

INPUT = json.dumps({"content": "It works, and that is good.", "operation": "sentiment"})
DESK = '''
from atomesh.agents import Agent, ExecutionContext
from atomesh.balancer import Client
from atomesh.text.v1.text_pb2 import TextInput, TextOutput


class Desk(Agent[TextInput, TextOutput]):
    """Asks another agent, through a client that knows nothing of traces."""

    name = "desk"

    async def start(self) -> None:
        self.mesh = Client("{registry}")

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        return await self.mesh.call("text-processor", input)

    async def close(self) -> None:
        await self.mesh.close()
'''
PIPELINE = """
name: thrice
stages:
  - {id: first, agent: text-processor}
  - {id: second, agent: text-processor, input: {content: $input.content, operation: summarize}}
  - {id: third, agent: text-processor, input: {content: $input.content, operation: sentiment}}
"""


@contextlib.asynccontextmanager
async def registry() -> AsyncIterator[str]:
    server = RegistryServer(storage=MemoryStorage())
    await server.start()
    try:
        yield server.address
    finally:
        await server.stop()


async def test_a_call_through_two_agents_is_one_trace_of_three_processes(
    collector: Collecting, running: Running, atomesh: Atomesh, tmp_path: Path
) -> None:
    async with collector() as c, registry() as address:
        (tmp_path / "desk.py").write_text(DESK.replace("{registry}", address))
        said = ("--registry", address, "--otlp-endpoint", c.url)
        async with running("serve", "text-processor", *said), running("serve", "desk:Desk", *said):
            ended = await atomesh("call", "desk", INPUT, *said)
            assert ended.code == 0, ended.err
        assert c.tree() == [
            "call desk",
            "  attempt desk",
            "    execute desk",
            "      call text-processor",
            "        attempt text-processor",
            "          execute text-processor",
        ], "SIGTERM sends what is left"
        assert [span.service for span in sorted(c.spans, key=lambda span: span.start)] == [
            *("atomesh", "atomesh", "desk", "desk", "desk", "text-processor")
        ]
        assert len({span.trace for span in c.spans}) == 1


async def test_a_pipeline_of_three_stages_is_one_trace(
    collector: Collecting, running: Running, atomesh: Atomesh, tmp_path: Path
) -> None:
    (tmp_path / "thrice.yaml").write_text(PIPELINE)
    async with collector() as c, registry() as address:
        said = ("--registry", address, "--otlp-endpoint", c.url)
        async with running("serve", "text-processor", *said):
            ended = await atomesh("pipeline", "run", "thrice.yaml", "--input", INPUT, "--store", "memory", *said)
            assert ended.code == 0, ended.err
            stage = ["    call text-processor", "      attempt text-processor", "        execute text-processor"]
            await c.got(13)
            assert c.tree() == [
                "run thrice",
                "  stage first",
                *stage,
                "  stage second",
                *stage,
                "  stage third",
                *stage,
            ]
            c.spans.clear()
            serve = ("pipeline", "serve", "thrice.yaml", "--store", "memory")
            async with running(*serve, *said):
                ended = await atomesh("call", "thrice", INPUT, *said)
                assert ended.code == 0, ended.err
        tree = [line.strip() for line in c.tree()]
        assert tree[:5] == ["call thrice", "attempt thrice", "execute thrice", "run thrice", "stage first"]
        assert len(tree) == 16
        assert {span.service for span in c.spans} == {"atomesh", "thrice", "text-processor"}


@pytest.mark.parametrize(
    ("flags", "variables", "exported"),
    [
        ((), {}, 0),
        (("--otlp-endpoint", "{url}"), {}, 2),
        ((), {"ATOMESH_OTLP_ENDPOINT": "{url}"}, 2),
        ((), {"OTEL_EXPORTER_OTLP_ENDPOINT": "{url}"}, 2),
        ((), {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "{url}", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, 2),
        (("--otlp-endpoint", "{url}"), {"ATOMESH_OTLP_ENDPOINT": "http://127.0.0.1:1"}, 2),
        ((), {"ATOMESH_OTLP_ENDPOINT": "{url}", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, 2),
        (("--otlp-endpoint", ""), {"ATOMESH_OTLP_ENDPOINT": "{url}"}, 0),
        (("--otlp-endpoint", "{url}", "--trace-ratio", "0"), {}, 0),
        ((), {"OTEL_EXPORTER_OTLP_ENDPOINT": "{url}", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, 0),
    ],
    ids=["unsaid", "flag", "variable", "standard", "traces", "flag first", "own first", "off", "ratio", "protocol"],
)
async def test_where_spans_go_is_said_by_a_flag_then_our_variable_then_the_standard_ones(
    collector: Collecting, atomesh: Atomesh, flags: tuple[str, ...], variables: dict[str, str], exported: int
) -> None:
    async with collector() as c, AgentServer(TextProcessor()) as server:
        given = [flag.format(url=c.url) for flag in flags]
        said = {name: value.format(url=c.url) for name, value in variables.items()}
        ended = await atomesh("call", "text-processor", INPUT, "--endpoint", server.address, *given, **said)
        assert ended.code == 0, ended.err
        assert len(c.spans) == exported


async def test_a_call_is_as_good_where_the_collector_is_away(atomesh: Atomesh) -> None:
    async with AgentServer(TextProcessor()) as server:
        at = ("--endpoint", server.address, "--otlp-endpoint", "127.0.0.1:1")
        ended = await atomesh("call", "text-processor", INPUT, *at)
        assert (ended.code, ended.err) == (0, ""), "verbs that ask once log errors only"
        assert json.loads(ended.out)["result"]
        ended = await atomesh("call", "text-processor", INPUT, *at, "--log-level", "warning", "--log-format", "json")
        said = [json.loads(line)["message"] for line in ended.err.splitlines()]
        assert ["cannot be exported" in said[0], "left behind" in said[1]] == [True, True]
        assert len(said) == 2


async def test_up_hands_its_flags_to_its_agents(collector: Collecting, running: Running, atomesh: Atomesh) -> None:
    async with collector() as c:
        at = ("--registry-bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--memory", "--endpoints", "1")
        async with running("up", *at, "--otlp-endpoint", c.url, "--json") as (_, ready):
            address = json.loads(ready)["registry"]["address"]
            ended = await atomesh("call", "text-processor", INPUT, "--registry", address)
            assert ended.code == 0, ended.err
        assert [(span.service, span.name) for span in c.spans] == [("text-processor", "execute text-processor")]
