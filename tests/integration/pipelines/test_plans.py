"""Plans from a real registry: found, created, run; and what is wrong with a question, in one line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.core import SYSTEM_CLOCK, Capability
from atomesh.core.errors import NotFound
from atomesh.pipelines import Runner, plan_pipeline
from atomesh.pipelines.assembly import RegistryFinder
from atomesh.registry import MemoryStorage, RegistryServer, RegistrySettings
from atomesh.text.v1.text_pb2 import Keyword, Keywords, Sentiment, Summary, TextInput
from atomesh.v1 import pipeline_pb2

NOBODY = "127.0.0.1:1"
PATIENCE = 30.0  # seconds


class Finder(Agent[TextInput, Keywords]):
    name = "finder"
    capabilities = (Capability("find", 0.9),)
    idempotent = True

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> Keywords:
        return Keywords(keywords=[Keyword(text=word, score=1, count=1) for word in input.content.split()])


class Guesser(Finder):
    name = "guesser"
    capabilities = (Capability("find", 0.2),)


class Counter(Agent[Keywords, Summary]):
    name = "counter"
    capabilities = ("count",)

    async def execute(self, input: Keywords, context: ExecutionContext, /) -> Summary:
        return Summary(total_sentences=len(input.keywords))


class Judge(Agent[Sentiment, Summary]):
    name = "judge"
    capabilities = ("judge",)

    async def execute(self, input: Sentiment, context: ExecutionContext, /) -> Summary:
        return Summary()


@contextlib.asynccontextmanager
async def mesh() -> AsyncIterator[str]:
    """The address of a registry that knows the four."""
    settings = RegistrySettings(min_ttl=1.0, default_ttl=1.0)
    async with RegistryServer(storage=MemoryStorage(), settings=settings) as registry:
        agents: list[Agent[Any, Any]] = [Finder(), Guesser(), Counter(), Judge()]
        async with AgentServer(agents, registry=registry.address) as server:
            async with asyncio.timeout(PATIENCE):
                await server.registered.wait()
            yield registry.address


async def atomesh(home: Path, *arguments: str) -> tuple[int, str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ATOMESH_", "XDG_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "atomesh",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, "HOME": str(home)},
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def asked(**fields: Any) -> pipeline_pb2.PlanRequest:
    return json_format.ParseDict(fields, pipeline_pb2.PlanRequest())


async def test_a_sequence_of_capabilities_becomes_a_pipeline_that_runs() -> None:
    async with mesh() as registry, RegistryFinder(registry) as finder, Client(registry) as client:
        answer = await finder.find_plans(asked(via=["find", "count"]))
        assert [[stage.agent for stage in chain.stages] for chain in answer.chains] == [
            ["finder", "counter"],
            ["guesser", "counter"],
        ]
        assert answer.chains[0].stages[0].why == (
            "unmeasured, 95 % ok, 4 slots free, score 0.9; next best: guesser unmeasured, score 0.2"
        )
        assert list(answer.chains[0].stages[0].rivals) == ["guesser"]
        plan = await plan_pipeline(client, answer.chains[0].pipeline)
        async with Runner(client) as runner:
            outcome = await runner.run(plan, TextInput(content="four words in all", operation="sentiment"))
        assert outcome.output == Summary(total_sentences=4)


async def test_a_stage_that_names_a_capability_gets_the_best_agent_for_it() -> None:
    async with mesh() as registry, RegistryFinder(registry) as finder, Client(registry) as client:
        text = "name: by-capability\nstages: [{id: find, capability: find}, {id: count, capability: count}]\n"
        plan = await plan_pipeline(client, text, choose=finder.choose)
        assert [step.target.agent for step in plan.steps] == ["finder", "counter"]
        with pytest.raises(NotFound, match="no live agent has the capability fnd; did you mean find"):
            await finder.choose("fnd")


async def test_what_agents_did_shows_in_the_next_plan() -> None:
    async with mesh() as registry, RegistryFinder(registry) as finder, Client(registry) as client:
        for _ in range(5):
            await client.call("counter", Keywords())
        async with asyncio.timeout(30):
            while (await finder.catalog()).agents["counter"].figures.latency is None:
                await SYSTEM_CLOCK.sleep(0.05)  # until the agents' leases are renewed, with what they did
        answer = await finder.find_plans(asked(via=["find", "count"]))
        assert "unmeasured" not in answer.chains[0].stages[1].why


async def test_the_verb_shows_chains_and_writes_the_best_one(tmp_path: Path) -> None:
    file = tmp_path / "made.yaml"
    async with mesh() as registry:
        at = ("--registry", registry)
        code, out, err = await atomesh(tmp_path, "plan", "--via", "find,count", "--create", str(file), *at)
        assert (code, err) == (0, f"wrote {file}; run it with `atomesh pipeline run {file}`\n")
        assert out.startswith("1. atomesh.text.v1.TextInput -> atomesh.text.v1.Keywords -> atomesh.text.v1.Summary\n")
        assert "      next best: guesser unmeasured, score 0.2\n" in out
        assert out.count("no other agent can") == 1, "what was told of counter is not told again"
        assert out.endswith("   count: counter, as above\n")
        assert "name: plan-find-count\n" in file.read_text()
        code, _, err = await atomesh(tmp_path, "plan", "--via", "find,count", "--create", str(file), *at)
        assert (code, err) == (2, f"error: {file} is there already; write over it with --force, or name another file\n")
        code, out, err = await atomesh(
            tmp_path, "plan", "--via", "find,count", "--create", "-", "--name", "mine", "--fallbacks", *at
        )
        assert err == "no fallback for count: no rival has the same contract\n"
        assert (code, out.splitlines()[2]) == (0, "name: mine")
        assert "      fallback: guesser\n" in out
        code, out, _ = await atomesh(tmp_path, "plan", "--from", "find", "--to", "count", "--json", *at)
        chains = json.loads(out)["chains"]
        assert [stage["agent"] for stage in chains[0]["stages"]] == ["finder", "counter"]
        assert [(stage["input"], stage["unset"]) for stage in chains[0]["stages"]] == [(None, []), (None, [])]


async def test_what_is_wrong_with_a_question_is_one_line_and_a_code(tmp_path: Path) -> None:
    async with mesh() as registry:
        for arguments, code, said in (
            (("--via", "find"), 2, "a plan needs two ends, and one is named"),
            (("--from", "find", "--to", "cuont"), 3, "did you mean count?"),
            (("--from", "atomesh.text.v1.Keyword", "--to", "count"), 3, "did you mean atomesh.text.v1.Keywords"),
            (("--via", "find,judge"), 3, "nothing turns what find gives into what judge takes; "),
            (("--via", "find,count", "--limit", "99"), 2, "error: --limit is 99; expected 1 to 20"),
            (("--via", "find,count", "--max-length", "99"), 2, "error: --max-length is 99; expected 1 to 16"),
            (("--from", "text.v1.Keywrds", "--to", "count"), 3, "did you mean atomesh.text.v1.Keywords"),
            (("--via", "find,count", "--name", "counter"), 2, "counter is an agent of the pipeline"),
            (("--via", "find,count", "--registry", NOBODY), 4, "no registry answers at 127.0.0.1:1"),
        ):
            at = () if "--registry" in arguments else ("--registry", registry)
            ended, out, err = await atomesh(tmp_path, "plan", *arguments, *at)
            assert (ended, out, err.count("\n")) == (code, "", 1), err
            assert said in err
