"""GetRun, ListRuns, CancelRun and Plan, what is stored, and who may ask for which of it."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from google.rpc import code_pb2

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import AtomeshError, InvalidArgument, Unauthenticated
from atomesh.core.times import from_duration
from atomesh.pipelines.record import RunRecord
from atomesh.rpc import Credentials
from atomesh.v1 import pipeline_pb2

if TYPE_CHECKING:
    from tests.integration.pipelines.service.conftest import House

PATIENCE = 30.0
OWN = """
name: own
input_fields: {title: string}
stages:
  loud: {agent: upper, input: {content: $input.title, operation: summarize}}
output: {shout: $loud.result}
"""


class Opens(Protocol):
    def __call__(self, *pipelines: str, **options: Any) -> AbstractAsyncContextManager[House]: ...


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    return "memory" if request.param == "memory" else str(tmp_path / "runs.db")


async def refused(at: House, method: str, request: Any) -> AtomeshError:
    with pytest.raises(AtomeshError) as caught:
        await at.ask(method, request)
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_run_under_way_is_shown_as_it_stands(house: Opens, place: str) -> None:
    async with house("gated", store=place) as at:
        call = at.begin("gated", "now")
        await at.gate.began.wait()
        await SYSTEM_CLOCK.sleep(0.05)
        first, second = await at.get("now"), await at.get("now")
        assert first.status == pipeline_pb2.RUN_STATUS_RUNNING
        assert not first.HasField("ended_at")
        assert not first.HasField("summary")
        assert at.host.server.address in first.owner
        before, gate, after = first.stages
        assert before.status == pipeline_pb2.STAGE_STATUS_SUCCESS
        assert gate.status == pipeline_pb2.STAGE_STATUS_RUNNING
        assert after.status == pipeline_pb2.STAGE_STATUS_PENDING
        assert not after.HasField("started_at")
        assert from_duration(first.duration) >= 0.05, "a run takes until now"
        assert 0.05 <= from_duration(gate.duration) <= from_duration(first.duration)
        assert from_duration(second.duration) > from_duration(first.duration)
        assert second.stages[0].duration == before.duration, "what has ended takes no longer"
        (listed,) = (await at.ask("ListRuns", pipeline_pb2.ListRunsRequest())).runs
        assert from_duration(listed.duration) >= 0.05, "in lists too"
        at.gate.open.set()
        assert [response.event async for response in call][-1].run_ended.id == "now"


async def test_a_kept_run_comes_with_the_types_to_read_it_by(house: Opens, place: str) -> None:
    async with house(OWN, store=place) as at:
        pool = descriptor_pool.DescriptorPool()
        taken: Any = at.host.server.agents["own"].spec.contract.input
        tea = any_pb2.Any()
        tea.Pack(taken(title="tea"))
        events = await at.run("own", tea, run_id="kept")
        assert events[-1].run_ended.status == pipeline_pb2.RUN_STATUS_SUCCESS
        answer = await at.ask("GetRun", pipeline_pb2.GetRunRequest(run_id="kept"))
        for file in descriptor_pb2.FileDescriptorSet.FromString(answer.descriptor_set).file:
            pool.Add(file)
        for packed, field, wanted in (
            (answer.run.output, "shout", "TEA"),
            (answer.run.stages[0].output[0], "result", "TEA"),
        ):
            kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(packed.type_url.rpartition("/")[2]))
            assert getattr(kind.FromString(packed.value), field) == wanted


async def test_a_run_whose_outputs_are_larger_than_a_message_is_still_shown(house: Opens) -> None:
    stages = "\n".join(f"  s{n}: {{agent: upper, input: $input}}" for n in range(100))
    async with house(f"name: wide\nstages:\n{stages}\noutput: $s0\n") as at:
        await at.run("wide", at.text("medium"), run_id="r")
        run = await at.get("r")
    assert len(run.stages) == 100
    assert run.stages[0].output, "as many outputs as fit"
    assert not run.stages[-1].output
    assert run.stages[-1].output_bytes > 60_000


async def test_lists_are_newest_first_by_page_and_as_they_are_asked_for(house: Opens, place: str) -> None:
    async with house("loud", "broken-line", store=place) as at:
        for number in range(5):
            await at.run("loud", run_id=f"good-{number}")
        await at.run("broken-line", run_id="bad")

        async def listed(**asked: Any) -> list[str]:
            answer = await at.ask("ListRuns", pipeline_pb2.ListRunsRequest(**asked))
            assert all(not run.stages for run in answer.runs), "lists have no stages"
            return [run.id for run in answer.runs]

        everything = ["bad", *(f"good-{number}" for number in range(4, -1, -1))]
        assert await listed() == everything
        pages, before = [], ""
        while page := await listed(limit=2, before=before):
            pages.append(page)
            before = page[-1]
        assert [len(page) for page in pages] == [2, 2, 2]
        assert [run for page in pages for run in page] == everything, "pages leave nothing out and say nothing twice"
        assert await listed(pipeline="broken-line") == ["bad"]
        assert await listed(pipeline="nobody") == []
        assert await listed(statuses=[pipeline_pb2.RUN_STATUS_FAILED]) == ["bad"]
        assert await listed(statuses=[pipeline_pb2.RUN_STATUS_FAILED, pipeline_pb2.RUN_STATUS_SUCCESS]) == everything
        assert await listed(statuses=[pipeline_pb2.RUN_STATUS_RUNNING]) == []
        assert (await refused(at, "ListRuns", pipeline_pb2.ListRunsRequest(before="nobody"))).reason == "UNKNOWN_RUN"
        too_many = await refused(at, "ListRuns", pipeline_pb2.ListRunsRequest(limit=1001))
        assert isinstance(too_many, InvalidArgument)


async def test_a_run_that_is_cancelled_cancels_what_it_has_in_flight(house: Opens) -> None:
    async with house("gated") as at:
        call = at.begin("gated", "stop-it")
        await at.gate.began.wait()
        begun = SYSTEM_CLOCK.now()
        answer = await at.ask("CancelRun", pipeline_pb2.CancelRunRequest(run_id="stop-it"))
        async with asyncio.timeout(PATIENCE):
            await at.gate.cut_off.wait()
        assert SYSTEM_CLOCK.now() - begun < 1, "at once; 100 ms on a machine that is not busy"
        assert answer.status == pipeline_pb2.RUN_STATUS_CANCELLED
        events = [response.event async for response in call]
        assert events[-1].run_ended.status == pipeline_pb2.RUN_STATUS_CANCELLED, "its caller is told by the last event"
        kept = await at.get("stop-it")
        assert kept.status == pipeline_pb2.RUN_STATUS_CANCELLED
        again = await at.ask("CancelRun", pipeline_pb2.CancelRunRequest(run_id="stop-it"))
        assert again.status == pipeline_pb2.RUN_STATUS_CANCELLED


async def test_a_run_that_has_ended_stays_as_it_is(house: Opens, place: str) -> None:
    async with house("loud", "broken-line", store=place) as at:
        for pipeline, status in (
            ("loud", pipeline_pb2.RUN_STATUS_SUCCESS),
            ("broken-line", pipeline_pb2.RUN_STATUS_FAILED),
        ):
            await at.run(pipeline, run_id=pipeline)
            answer = await at.ask("CancelRun", pipeline_pb2.CancelRunRequest(run_id=pipeline))
            assert answer.status == status
            assert (await at.get(pipeline)).status == status


async def test_runs_that_are_not_there_or_not_here_are_told_apart(house: Opens) -> None:
    async with house("loud") as at:
        for method, request in (
            ("GetRun", pipeline_pb2.GetRunRequest(run_id="nobody")),
            ("CancelRun", pipeline_pb2.CancelRunRequest(run_id="nobody")),
        ):
            error = await refused(at, method, request)
            assert (error.reason, error.code) == ("UNKNOWN_RUN", code_pb2.NOT_FOUND)
            assert "nobody" in str(error)
        elsewhere = RunRecord("elsewhere", "loud", "1.0.0", SYSTEM_CLOCK.wall(), [])
        elsewhere.owner = "10.0.0.7:7500 (pid 7 on other-host)"
        at.store.begin(elsewhere)
        error = await refused(at, "CancelRun", pipeline_pb2.CancelRunRequest(run_id="elsewhere"))
        assert "10.0.0.7:7500" in str(error), "it says where to cancel it"
        assert isinstance(await refused(at, "GetRun", pipeline_pb2.GetRunRequest()), InvalidArgument)


async def test_plans_are_found_from_what_is_registered(house: Opens) -> None:
    async with house("loud") as at:
        asked = json_format.ParseDict(
            {"from": "atomesh.text.v1.TextInput", "to": "shouting"}, pipeline_pb2.PlanRequest()
        )
        answer = await at.ask("Plan", asked)
        assert [stage.agent for stage in answer.chains[0].stages] == ["loud"], "pipelines are agents too"
        none = await at.ask("Plan", pipeline_pb2.PlanRequest(via=["loud", "shouting"]))
        assert (list(none.chains), len(none.missing) > 0) == ([], True), "where there is no way it says what is missing"
        too_few = await refused(at, "Plan", pipeline_pb2.PlanRequest(via=["loud"]))
        assert isinstance(too_few, InvalidArgument)


async def test_pipelines_are_stored_listed_run_and_forgotten(house: Opens, place: str) -> None:
    async with house("loud", store=place) as at:
        for name in ("zebra", "ant"):
            stored = await at.ask(
                "PutPipeline",
                pipeline_pb2.PutPipelineRequest(
                    text=f"name: {name}\nversion: 1.2.3\ndescription: d\nstages: {{a: {{agent: upper}}}}"
                ),
            )
            assert (stored.pipeline.name, stored.pipeline.version) == (name, "1.2.3")
            assert stored.pipeline.HasField("stored_at")
        listed = await at.ask("ListPipelines", pipeline_pb2.ListPipelinesRequest())
        assert [pipeline.name for pipeline in listed.pipelines] == ["ant", "loud", "zebra"], "served ones too"
        assert (await at.run("ant"))[-1].run_ended.status == pipeline_pb2.RUN_STATUS_SUCCESS
        over = "name: ant\nstages: {a: {agent: broken, attempts: 1}}"
        await at.ask("PutPipeline", pipeline_pb2.PutPipelineRequest(text=over))
        assert (await at.ask("GetPipeline", pipeline_pb2.GetPipelineRequest(name="ant"))).pipeline.text == over
        assert (await at.run("ant"))[-1].run_ended.status == pipeline_pb2.RUN_STATUS_FAILED, "what is stored now is run"
        await at.ask("DeletePipeline", pipeline_pb2.DeletePipelineRequest(name="ant"))
        for method, request in (
            ("GetPipeline", pipeline_pb2.GetPipelineRequest(name="ant")),
            ("DeletePipeline", pipeline_pb2.DeletePipelineRequest(name="ant")),
        ):
            assert (await refused(at, method, request)).reason == "UNKNOWN_PIPELINE"
        runs = await at.ask("ListRuns", pipeline_pb2.ListRunsRequest(pipeline="ant"))
        assert len(runs.runs) == 2, "its runs stay"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\nstages: {}\n", "line 2"),
        ("name: x\nstages:\n  a: {agent: upper, atempts: 3}\n", "line 3: stages.a.atempts"),
        ("", "text"),
        ("[", "not YAML"),
        ("# " + "x" * 1_100_000, "text"),
    ],
)
async def test_what_is_no_pipeline_is_not_stored(house: Opens, text: str, said: str) -> None:
    async with house("loud") as at:
        error = await refused(at, "PutPipeline", pipeline_pb2.PutPipelineRequest(text=text))
        assert error.code == code_pb2.INVALID_ARGUMENT
        assert said in str(error)
        assert await at.store.list_pipelines() == []


async def test_a_stored_pipeline_whose_agent_is_away_says_so_when_it_runs(house: Opens) -> None:
    async with house("loud") as at:
        text = "name: lonely\nstages:\n  a: {agent: nobody-here}\n"
        await at.ask("PutPipeline", pipeline_pb2.PutPipelineRequest(text=text))
        events, error = await at.told("lonely")
        assert events == []
        assert error is not None
        assert error.code == code_pb2.NOT_FOUND
        assert "lonely: line 3: stages.a.agent" in str(error)


async def test_definitions_are_stored_listed_and_forgotten(house: Opens, place: str) -> None:
    async with house("loud", store=place) as at:
        definition = pipeline_pb2.Definition(name="mine", module="my.agents", class_name="Mine", memory_bytes=1 << 29)
        answer = await at.ask("PutDefinition", pipeline_pb2.PutDefinitionRequest(definition=definition))
        assert answer.definition.HasField("stored_at")
        (listed,) = (await at.ask("ListDefinitions", pipeline_pb2.ListDefinitionsRequest())).definitions
        assert listed == answer.definition
        bad = pipeline_pb2.Definition(name="mine", module="os; rm", class_name="Mine")
        error = await refused(at, "PutDefinition", pipeline_pb2.PutDefinitionRequest(definition=bad))
        assert isinstance(error, InvalidArgument)
        await at.ask("DeleteDefinition", pipeline_pb2.DeleteDefinitionRequest(name="mine"))
        error = await refused(at, "DeleteDefinition", pipeline_pb2.DeleteDefinitionRequest(name="mine"))
        assert error.reason == "UNKNOWN_DEFINITION"


async def test_what_changes_something_needs_the_token(house: Opens) -> None:
    token = (("authorization", "Bearer sesame"),)
    pipeline = "name: x\nstages: {a: {agent: upper}}"
    definition = pipeline_pb2.Definition(name="mine", module="my.agents", class_name="Mine")
    async with house("loud", credentials=Credentials(token="sesame")) as at:
        await at.run("loud", run_id="r")
        guarded: tuple[tuple[str, Message], ...] = (
            ("PutPipeline", pipeline_pb2.PutPipelineRequest(text=pipeline)),
            ("DeletePipeline", pipeline_pb2.DeletePipelineRequest(name="x")),
            ("PutDefinition", pipeline_pb2.PutDefinitionRequest(definition=definition)),
            ("DeleteDefinition", pipeline_pb2.DeleteDefinitionRequest(name="mine")),
            ("CancelRun", pipeline_pb2.CancelRunRequest(run_id="r")),
        )
        for method, request in guarded:
            assert isinstance(await refused(at, method, request), Unauthenticated), method
            await at.ask(method, request, metadata=token)
        resumed = at.stub.ResumeRun(pipeline_pb2.ResumeRunRequest(run_id="r"))
        assert await resumed.code() is not None
        assert "token" in str(await resumed.details())
        await at.ask("GetRun", pipeline_pb2.GetRunRequest(run_id="r"))
        await at.ask("ListRuns", pipeline_pb2.ListRunsRequest())
        await at.ask("ListPipelines", pipeline_pb2.ListPipelinesRequest())
        await at.ask("ListDefinitions", pipeline_pb2.ListDefinitionsRequest())
