"""PipelineService.Run through a stock client: its events, its refusals, and what ends it before its time."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2

from atomesh.core.errors import (
    DeadlineExceeded,
    InvalidArgument,
    RemoteError,
    Unauthenticated,
    WrongType,
)
from atomesh.core.times import from_duration, from_timestamp
from atomesh.pipelines.store import StoreSettings
from atomesh.rpc import Credentials
from atomesh.text.v1.text_pb2 import TextOutput
from atomesh.v1 import context_pb2, pipeline_pb2

if TYPE_CHECKING:
    from tests.integration.pipelines.service.conftest import House

PATIENCE = 30.0


class Opens(Protocol):
    def __call__(self, *pipelines: str, **options: Any) -> AbstractAsyncContextManager[House]: ...


def kinds(events: list[pipeline_pb2.RunEvent]) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]


def output_of(run: pipeline_pb2.Run) -> str:
    found = TextOutput()
    assert run.output.Unpack(found), f"{run.output.type_url} is not the type of the pipeline's output"
    return found.result


async def test_events_come_in_order_and_the_last_one_is_the_whole_run(house: Opens) -> None:
    async with house("loud") as at:
        events = await at.run("loud", at.text("hi"))
    assert kinds(events) == [
        "run_started",
        *["stage_started", "stage_ended"] * 2,
        "run_ended",
    ]
    assert {event.run_id for event in events} == {events[0].run_id}
    times = [from_timestamp(event.time) for event in events]
    assert times == sorted(times), "an event's time is never before that of the one before it"
    assert list(events[0].run_started.stages) == ["first", "second"]
    assert [event.stage_started.stage for event in events[1:5:2]] == ["first", "second"]
    run = events[-1].run_ended
    assert run.status == pipeline_pb2.RUN_STATUS_SUCCESS
    assert output_of(run) == "HI"
    assert [stage.stage for stage in run.stages] == ["first", "second"]
    assert run.summary.successes == 2
    assert run.HasField("ended_at")


async def test_outputs_of_stages_come_where_they_are_asked_for_and_only_there(house: Opens) -> None:
    async with house("loud") as at:
        quiet = await at.run("loud", at.text("hi"))
        talkative = await at.run("loud", at.text("hi"), stage_outputs=True)
    for events, wanted in ((quiet, 0), (talkative, 1)):
        ended = [event.stage_ended for event in events if event.WhichOneof("event") == "stage_ended"]
        assert [len(stage.output) for stage in ended] == [wanted] * 2
        assert [len(stage.output) for stage in events[-1].run_ended.stages] == [wanted] * 2
        assert output_of(events[-1].run_ended) == "HI", "the final output always comes"
    first = TextOutput()
    talkative[2].stage_ended.output[0].Unpack(first)
    assert first.result == "HI"


async def test_outputs_that_are_large_together_do_not_break_the_stream(house: Opens) -> None:
    stages = "\n".join(f"  s{n}: {{agent: upper, input: $input}}" for n in range(3))
    wide = f"name: wide\nstages:\n{stages}\noutput: $s0\n"
    async with house(wide) as at:
        events = await at.run("wide", at.text("big"), stage_outputs=True)
    run = events[-1].run_ended
    assert run.status == pipeline_pb2.RUN_STATUS_SUCCESS
    assert len(output_of(run)) == 1_500_000, "the final output goes before those of stages"
    assert [stage.output_bytes > 1_500_000 for stage in run.stages] == [True] * 3, "sizes are told all the same"
    ended = [event.stage_ended for event in events if event.WhichOneof("event") == "stage_ended"]
    assert [len(stage.output) for stage in ended] == [1] * 3, "each fits an event of its own"


async def test_a_run_has_the_id_it_is_given_and_no_other_run_gets_it(house: Opens) -> None:
    async with house("loud", "gated") as at:
        events = await at.run("loud", run_id="mine-1")
        assert {event.run_id for event in events} == {"mine-1"}
        for again in ("loud", "gated"):
            events, error = await at.told(again, run_id="mine-1")
            assert events == []
            assert error is not None, "a second run with the id of one that has ended is refused"
            assert error.reason == "RUN_EXISTS"
        assert (await at.get("mine-1")).pipeline == "loud", "what the first one did is still there"
        call = at.begin("gated", "mine-2")
        await at.gate.began.wait()
        _, error = await at.told("gated", run_id="mine-2")
        assert error is not None
        assert error.reason == "RUN_EXISTS"
        at.gate.open.set()
        assert [response.event.WhichOneof("event") async for response in call][-1] == "run_ended"


@pytest.mark.parametrize("run_id", ["no blanks", "x" * 65, "a/b", "\u00e9"])
async def test_an_id_that_is_none_is_refused(house: Opens, run_id: str) -> None:
    async with house("loud") as at:
        with pytest.raises(InvalidArgument):
            await at.run("loud", run_id=run_id)


async def test_what_cannot_begin_is_refused_without_a_run(house: Opens) -> None:
    other = any_pb2.Any()
    other.Pack(TextOutput(result="x"))
    garbage = any_pb2.Any(type_url="type.googleapis.com/atomesh.text.v1.TextInput", value=b"\xff\xff")
    async with house("loud") as at:
        for pipeline, input, kind, said in (
            ("loud", other, WrongType, "atomesh.text.v1.TextInput"),
            ("loud", garbage, InvalidArgument, ""),
            ("", at.text("x"), InvalidArgument, "pipeline"),
            ("loud", any_pb2.Any(), InvalidArgument, ""),
            ("lout", at.text("x"), RemoteError, "served here are loud"),
        ):
            events, error = await at.told(pipeline, input)
            assert events == [], f"{pipeline} {input}: nothing began"
            assert isinstance(error, kind), f"{pipeline} {input}: {error!r}"
            assert error.code == (code_pb2.NOT_FOUND if kind is RemoteError else code_pb2.INVALID_ARGUMENT)
            assert said in str(error)
            assert "\n" not in str(error)
        assert (await at.ask("ListRuns", pipeline_pb2.ListRunsRequest())).runs == []


async def test_a_failed_run_ends_its_stream_well_with_the_reason_in_it(house: Opens) -> None:
    async with house("broken-line") as at:
        events = await at.run("broken-line")
    assert kinds(events)[-3:] == ["attempt_failed", "stage_ended", "run_ended"]
    assert kinds(events).count("run_ended") == 1
    run = events[-1].run_ended
    assert run.status == pipeline_pb2.RUN_STATUS_FAILED
    assert (run.error.stage, run.error.type) == ("second", "NO_TICKET")
    assert run.error.message.startswith("no such ticket")
    assert not run.HasField("output")


async def test_the_deadline_of_the_call_is_that_of_the_run(house: Opens) -> None:
    async with house("gated") as at:
        for number in range(8):
            _, error = await at.told("gated", timeout=0.2, run_id=f"late-{number}")
            assert isinstance(error, DeadlineExceeded) or error is None
            assert (at.gate.remaining or 0) <= 0.2, "stages have no more time than the caller of the run"
            run = await at.ended(f"late-{number}")
            assert run.status == pipeline_pb2.RUN_STATUS_FAILED, "out of time, whoever found that out first"
            assert run.error.stage in ("before", "gate"), "where it was by then"
            assert run.error.type == "DEADLINE_EXCEEDED"
            assert from_duration(run.duration) < 5
        assert at.gate.cut_off.is_set()


async def test_a_caller_that_goes_away_cancels_its_run_and_what_that_has_in_flight(house: Opens) -> None:
    async with house("gated") as at:
        call = at.begin("gated", "left")
        await at.gate.began.wait()
        call.cancel()
        async with asyncio.timeout(PATIENCE):
            await at.gate.cut_off.wait()
        run = await at.ended("left")
        assert run.status == pipeline_pb2.RUN_STATUS_CANCELLED
        assert [stage.status for stage in run.stages] == [
            pipeline_pb2.STAGE_STATUS_SUCCESS,
            pipeline_pb2.STAGE_STATUS_CANCELLED,
            pipeline_pb2.STAGE_STATUS_PENDING,
        ]
        assert at.host.runner.running == {}


async def test_a_durable_run_goes_on_without_its_caller(house: Opens, tmp_path: Any) -> None:
    async with house("durable", store=str(tmp_path / "runs.db")) as at:
        call = at.begin("durable", "alone")
        await at.gate.began.wait()
        call.cancel()
        await asyncio.gather(call.code(), return_exceptions=True)
        run = await at.get("alone")
        assert run.status == pipeline_pb2.RUN_STATUS_RUNNING
        at.gate.open.set()
        run = await at.ended("alone")
        assert run.status == pipeline_pb2.RUN_STATUS_SUCCESS
        assert output_of(run) == "HELLO"
        assert not at.gate.cut_off.is_set()


async def test_a_stage_that_maps_tells_how_far_it_has_come(house: Opens) -> None:
    lists = """
name: lists
input_fields: {pages: repeated string}
stages:
  each: {agent: upper, map: $input.pages, input: {content: $item, operation: summarize}}
output: {loud: {$cel: "each.map(e, e.result)"}}
"""
    async with house(lists) as at:
        taken: Any = at.host.server.agents["lists"].spec.contract.input
        pages = any_pb2.Any()
        pages.Pack(taken(pages=[f"p{number}" for number in range(30)]))
        events = await at.run("lists", pages, stage_outputs=True)
    told = [event.stage_progress for event in events if event.WhichOneof("event") == "stage_progress"]
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert {progress.items for progress in told} == {30}
    run = events[-1].run_ended
    outputs = [TextOutput.FromString(output.value).result for output in run.stages[0].output]
    assert outputs == [f"P{number}" for number in range(30)], "in the order of the items"


@pytest.mark.parametrize(
    "context", [context_pb2.Context(request_id="x" * 1000), context_pb2.Context(metadata={"k": "v" * 5000})]
)
async def test_a_context_that_is_none_is_refused(house: Opens, context: context_pb2.Context) -> None:
    async with house("loud") as at:
        events, error = await at.told("loud", context=context)
        assert events == []
        assert isinstance(error, InvalidArgument)


async def test_the_context_of_the_caller_is_that_of_every_stage(house: Opens) -> None:
    context = context_pb2.Context(request_id="r-7", user_id="ada")
    async with house("gated") as at:
        at.gate.open.set()
        events = await at.run("gated", context=context)
        assert at.gate.request_ids == ["r-7"]
    run = events[-1].run_ended
    assert (run.request_id, run.user_id) == ("r-7", "ada")


async def test_a_guarded_process_runs_nothing_for_strangers(house: Opens) -> None:
    """The same pipeline called as an agent needs the token there; its other door must not be open."""
    token = (("authorization", "Bearer sesame"),)
    async with house("loud", credentials=Credentials(token="sesame"), guard_calls=True) as at:
        events, error = await at.told("loud")
        assert events == []
        assert isinstance(error, Unauthenticated)
        request = pipeline_pb2.RunRequest(pipeline="loud", input=at.text("x"), run_id="r")
        events = [response.event async for response in at.stub.Run(request, metadata=token)]
        assert events[-1].run_ended.status == pipeline_pb2.RUN_STATUS_SUCCESS
        for method, asked in (
            ("GetRun", pipeline_pb2.GetRunRequest(run_id="r")),
            ("ListRuns", pipeline_pb2.ListRunsRequest()),
        ):
            with pytest.raises(Unauthenticated):
                await at.ask(method, asked)
            await at.ask(method, asked, metadata=token)


async def test_outputs_that_are_not_kept_still_come_with_the_run(house: Opens) -> None:
    async with house("loud", keeping=StoreSettings(max_output=0)) as at:
        events = await at.run("loud", run_id="r")
        assert output_of(events[-1].run_ended) == "HELLO"
        kept = await at.get("r")
        assert not kept.HasField("output")
        assert kept.output_bytes > 0
