"""`check-contract` against a live agent: what a changed file would break, and whom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atomesh.balancer import Client
from atomesh.cli._protoc import compile_set
from atomesh.core import ContractDescriptor, Endpoint
from atomesh.core.contract import describe
from atomesh.core.errors import IncompatibleContract
from atomesh.pipelines import read_pipeline
from atomesh.pipelines.assembly.gather import RegistryFinder
from atomesh.pipelines.host import PipelineHost
from atomesh.pipelines.store import MemoryStore
from atomesh.rpc import RegistryClient
from atomesh.text.v1 import text_pb2
from atomesh.v1 import agent_pb2

TEXT = Path(__file__).parents[3] / "protos" / "atomesh" / "text" / "v1" / "text.proto"


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., str]:
    """The text agent's own file with some of its words replaced, where its package says."""

    def written(*replaced: tuple[str, str]) -> str:
        text = TEXT.read_text()
        for old, new in replaced:
            assert old in text, f"the file has no {old!r} any more"
            text = text.replace(old, new, 1)
        path = tmp_path / "protos" / "atomesh" / "text" / "v1" / "text.proto"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return written


async def test_a_contract_that_has_not_changed_breaks_nothing(
    mesh: Callable[..., Any], atomesh: Callable[..., Any], tmp_path: Path
) -> None:
    compiled = tmp_path / "text.binpb"
    compiled.write_bytes(describe(text_pb2.TextInput, text_pb2.TextOutput).descriptor_set)
    async with mesh() as running:
        for file in (TEXT, compiled):
            ended = await atomesh(
                "check-contract", str(file), "--agent", "text-processor", "--registry", running.registry
            )
            assert ended.code == 0, ended.err + ended.out
            assert ended.out.startswith("nothing breaks: ")
            assert "text-processor 1." in ended.out, "it says whose place the contract can take"


async def test_each_break_is_one_line_with_its_side_and_field(
    mesh: Callable[..., Any], atomesh: Callable[..., Any], changed: Callable[..., str]
) -> None:
    async with mesh() as running:
        at = ("--agent", "text-processor", "--registry", running.registry)
        narrower = changed(("max_len: 10000", "max_len: 500"), ("lte: 100", "lte: 50"))
        ended = await atomesh("check-contract", narrower, *at)
        assert ended.code == 1, "what breaks somebody must stop a script"
        content, sentences = ended.out.splitlines()
        assert content == (
            "input atomesh.text.v1.TextInput.content: at most 500 characters are taken, and the live contract "
            "states at most 10,000; breaks callers"
        )
        assert sentences == (
            "input atomesh.text.v1.TextInput.options.max_sentences: values from 1 up to 50 are taken, "
            "and the live contract gives values from 1 up to 100; breaks callers"
        )
        assert ended.err == ""
        wider = changed(("max_len: 10000", "max_len: 20000"))
        assert (await atomesh("check-contract", wider, *at)).code == 0, "an input may take more"
        other = changed(("string result = 1", "bytes result = 1"))
        ended = await atomesh("check-contract", other, *at)
        assert ended.out.splitlines() == [
            "wire: field atomesh.text.v1.TextOutput.result is bytes, was string; breaks callers and readers"
        ]


async def test_programs_get_the_same_as_json(
    mesh: Callable[..., Any], atomesh: Callable[..., Any], changed: Callable[..., str]
) -> None:
    async with mesh() as running:
        at = ("--agent", "text-processor", "--registry", running.registry, "--json")
        ended = await atomesh("check-contract", changed(("max_len: 10000", "max_len: 500")), *at)
        told = json.loads(ended.out)
        assert (ended.code, told["compatible"], told["agent"]) == (1, False, "text-processor")
        (broken,) = told["breaks"]
        assert (broken["cause"], broken["breaks"]) == ("rules", "callers")
        assert broken["field"] == "input atomesh.text.v1.TextInput.content"
        assert len(told["live"]) == 1
        assert told["live"][0]["contract_hash"] != told["changed"]["contract_hash"]


async def test_what_is_wrong_with_the_file_or_the_agent_is_one_line_and_a_code(
    mesh: Callable[..., Any], atomesh: Callable[..., Any], changed: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "broken.proto").write_text('syntax = "proto3"; message { }')
    (tmp_path / "no.binpb").write_bytes(b"\xff\xff")
    async with mesh() as running:
        at = ("--registry", running.registry)
        for file, more, code, said in (
            ("no/such.proto", (), 2, "cannot read no/such.proto"),
            (str(tmp_path / "broken.proto"), (), 2, "broken.proto:1:"),
            (str(tmp_path / "no.binpb"), (), 2, "is no .proto and no FileDescriptorSet"),
            (
                changed(("message TextInput {", "message TextIn {"), ("(TextInput)", "(TextIn)")),
                (),
                2,
                "does not define",
            ),
            (str(TEXT), ("--proto-path", str(tmp_path)), 2, "is not below"),
            (str(TEXT), ("--input-type", "atomesh.text.v1.Nope"), 2, "name the type with --input-type"),
        ):
            ended = await atomesh("check-contract", file, "--agent", "text-processor", *more, *at)
            assert ended.code == code, f"{file} {more}: {ended.err}"
            assert said in ended.one_line()
        ended = await atomesh("check-contract", str(TEXT), "--agent", "text-procesor", *at)
        assert ended.code == 3
        assert "did you mean text-processor?" in ended.one_line()
        ended = await atomesh("check-contract", str(TEXT), "--agent", "text-processor", "--registry", "127.0.0.1:1")
        assert ended.code == 4


async def test_other_types_of_the_file_are_another_contract(
    mesh: Callable[..., Any], atomesh: Callable[..., Any]
) -> None:
    async with mesh() as running:
        at = ("--agent", "text-processor", "--registry", running.registry)
        ended = await atomesh("check-contract", str(TEXT), *at, "--output-type", "atomesh.text.v1.Summary")
        assert ended.code == 1
        assert ended.out.startswith(
            "wire: output type is atomesh.text.v1.Summary, was atomesh.text.v1.TextOutput; breaks callers and readers"
        )


async def test_a_strict_registry_refuses_what_check_contract_names(
    verb: Callable[..., Any], atomesh: Callable[..., Any], changed: Callable[..., str], tmp_path: Path
) -> None:
    free = ("--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--json")
    async with verb("registry", "--memory", "--strict-contracts", *free) as process:
        address = json.loads(await process.stdout.readline())["address"]
        narrow = changed(("max_len: 10000", "max_len: 500"))
        compiled = await asyncio.to_thread(compile_set, Path(narrow).parents[3], "atomesh/text/v1/text.proto")
        live = describe(text_pb2.TextInput, text_pb2.TextOutput)
        narrowed = agent_pb2.Contract(input_type=live.input_type, output_type=live.output_type, descriptor_set=compiled)
        async with RegistryClient(address) as client:
            await client.register(Endpoint("text-processor", "127.0.0.1:5001", "instance-1"), live)
            with pytest.raises(IncompatibleContract, match=r"input atomesh\.text\.v1\.TextInput\.content: at most 500"):
                await client.register(
                    Endpoint("text-processor", "127.0.0.1:5002", "instance-2"), ContractDescriptor.from_proto(narrowed)
                )
        ended = await atomesh("check-contract", narrow, "--agent", "text-processor", "--registry", address)
        assert "input atomesh.text.v1.TextInput.content: at most 500 characters" in ended.out


async def test_pipelines_that_use_the_agent_are_consumers_whether_stored_or_served(
    mesh: Callable[..., Any], atomesh: Callable[..., Any], changed: Callable[..., str], tmp_path: Path
) -> None:
    def text(name: str) -> str:
        return f"name: {name}\nstages:\n  mood: {{agent: text-processor}}\noutput:\n  mood: $mood.sentiment.label\n"

    def written(name: str) -> str:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text(name))
        return str(path)

    store = ("--store", str(tmp_path / "store.db"))
    async with mesh() as running:
        at = ("--agent", "text-processor", "--registry", running.registry, *store)
        assert (await atomesh("pipeline", "add", written("kept"), *store)).code == 0
        fine = changed(("string label = 1", "string label = 1"))
        assert (await atomesh("check-contract", fine, *at)).code == 0, "a pipeline as it is breaks of nothing"
        renamed = changed(("string label = 1", "string tone = 1"))
        ended = await atomesh("check-contract", renamed, *at)
        assert ended.code == 1
        assert ended.out.splitlines()[1] == (
            "output.mood: $mood.sentiment.label: atomesh.text.v1.Sentiment has no field 'label'; "
            "there are tone, compound, positive, neutral, negative; breaks pipeline kept"
        )
        spec, source = read_pipeline(text("served"), "served.yaml")
        finder = RegistryFinder(running.registry)
        async with Client(running.registry) as client, finder:
            host = PipelineHost(
                [(spec, source)], mesh=client, store=MemoryStore(), finder=finder, registry=running.registry
            )
            async with host:
                await host.server.registered.wait()
                both = await atomesh("check-contract", renamed, *at, "--json")
                assert {each["breaks"] for each in json.loads(both.out)["breaks"]} == {
                    "callers and readers",
                    "pipeline kept",
                    "pipeline served",
                }
