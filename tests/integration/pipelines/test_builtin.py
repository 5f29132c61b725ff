"""The builtin pipelines over the text agent: what their reports say, and of texts that no agent reads."""

from __future__ import annotations

from typing import Any

import pytest

from atomesh.agents import AgentServer
from atomesh.agents.builtin.text.agent import TextProcessor
from atomesh.balancer import Client
from atomesh.pipelines import RunFailed, Runner, RunStatus, plan_pipeline
from atomesh.pipelines.builtin import builtin
from atomesh.registry import MemoryStorage, RegistryServer

GOOD = "The rye bread is wonderful. The bakery opened on Monday. Everybody loves the bakery and its friendly staff."
BAD = "The bus was late again. The bus is a terrible disgrace, and people hate the bus."


async def report(name: str, **fields: Any) -> Any:
    """What comes of a builtin pipeline, in a mesh with one text agent."""
    async with (
        RegistryServer(bind="127.0.0.1:0", storage=MemoryStorage()) as registry,
        AgentServer(TextProcessor(), bind="127.0.0.1:0", registry=registry.address) as text,
        Client(registry.address) as mesh,
        Runner(mesh) as runner,
    ):
        await text.registered.wait()
        plan = await plan_pipeline(mesh, builtin(name))
        return await runner.run(plan, plan.contract.input(**fields))


async def test_a_document_becomes_one_report() -> None:
    outcome = await report("document-report", title="Bread", text=GOOD)
    said = outcome.output
    assert outcome.record.status is RunStatus.SUCCESS
    assert said.title == "Bread"
    assert said.summary.count(".") == 2, "two sentences say the most"
    assert said.sentiment == "positive"
    assert 0.5 < said.score <= 1
    assert "bakery" in said.keywords
    assert len(said.keywords) <= 5


@pytest.mark.parametrize("text", ["x", "...", "One sentence alone.", "\u4e00", "!" * 10_000])
async def test_the_shortest_and_the_longest_texts_have_a_report(text: str) -> None:
    outcome = await report("document-report", title="", text=text)
    assert outcome.output.summary == text


@pytest.mark.parametrize("text", ["", " \n", "x" * 10_001])
async def test_a_text_that_the_agent_refuses_is_refused_once(text: str) -> None:
    with pytest.raises(RunFailed, match=r"stage summary .* content") as caught:
        await report("document-report", title="t", text=text)
    stages = caught.value.run.stages
    assert [stage.ran for stage in stages] == [True, False, False], "nothing may be spent on it any more"


async def test_a_folder_becomes_columns_with_counts() -> None:
    outcome = await report("folder-report", titles=["Bread", "Bus"], texts=[GOOD, BAD])
    said = outcome.output
    assert outcome.record.status is RunStatus.SUCCESS
    assert list(said.titles) == ["Bread", "Bus"]
    assert list(said.sentiments) == ["positive", "negative"], "the reports keep the order of the texts"
    assert said.scores[0] > 0 > said.scores[1]
    assert "bakery" in said.keywords[0]
    assert (said.positive, said.neutral, said.negative, said.unknown) == (1, 0, 1, 0)


async def test_a_text_that_cannot_be_read_does_not_end_the_folder() -> None:
    outcome = await report("folder-report", titles=["Bread", "Blank"], texts=[GOOD, " "])
    assert outcome.record.status is RunStatus.PARTIAL
    assert list(outcome.output.sentiments) == ["positive", "unknown"]
    assert outcome.output.unknown == 1


async def test_an_empty_folder_is_an_empty_report() -> None:
    outcome = await report("folder-report")
    assert outcome.record.status is RunStatus.SUCCESS
    assert list(outcome.output.summaries) == []
    assert outcome.output.positive == 0
