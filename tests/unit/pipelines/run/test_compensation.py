"""Undoing what went well before a stage failed for good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from atomesh.agents import AgentFailed
from atomesh.pipelines import Event, RunCancelled, RunFailed, RunRecord, RunStatus, StageEnded, pipeline_agent

Worlds = Callable[..., Any]


def stage(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "agent": name, "undo": {"agent": "undo", "input": {"value": f"${name}.value"}}, **more}


def statuses(record: RunRecord) -> dict[str, str]:
    return {stage.stage: stage.status.name for stage in record.stages}


async def broken(value: str, context: Any) -> None:
    raise AgentFailed(f"{value} cannot be done", reason="NO")


async def test_stages_are_undone_newest_first_with_what_they_gave(world: Worlds) -> None:
    async with world() as w:
        for name in "abc":
            await w.agent(name)
        await w.agent("d", broken)
        undo = await w.agent("undo")
        record = await w.fails(stage("a"), stage("b"), stage("c", undo=None), stage("d", on_error="compensate"))
        assert undo.values == ["x>a>b", "x>a"], "newest first, and only those that say how"
        assert statuses(record) == {"a": "COMPENSATED", "b": "COMPENSATED", "c": "SUCCESS", "d": "FAILED"}
        assert record.status is RunStatus.FAILED
        assert [execution.context.idempotency_key for execution in undo.seen] == [
            f"{record.id}/b/undo",
            f"{record.id}/a/undo",
        ]


async def test_nothing_is_undone_where_the_stage_that_failed_does_not_ask_for_it(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        await w.agent("b", broken)
        undo = await w.agent("undo")
        record = await w.fails(stage("a"), stage("b"))
        assert undo.seen == []
        assert statuses(record) == {"a": "SUCCESS", "b": "FAILED"}


async def test_an_undo_that_fails_keeps_no_other_from_its_turn(world: Worlds) -> None:
    async with world() as w:

        async def refuse(value: str, context: Any) -> None:
            if value.endswith("b"):
                await broken(value, context)

        for name in "ab":
            await w.agent(name)
        await w.agent("c", broken)
        undo = await w.agent("undo", refuse)
        record = await w.fails(stage("a"), stage("b"), stage("c", on_error="compensate"))
        assert undo.values == ["x>a>b", "x>a"]
        assert statuses(record) == {"a": "COMPENSATED", "b": "SUCCESS", "c": "FAILED"}
        assert record.stages[1].reason == "not undone: x>a>b cannot be done"
        assert [(entry.stage, entry.type) for entry in record.log] == [("c", "NO"), ("b.undo", "NO")]
        assert record.failure is not None
        assert record.failure.stage == "c", "what failed first is why the run failed"


async def test_an_undo_is_tried_as_often_as_its_stage_where_it_may_run_twice(world: Worlds) -> None:
    async with world() as w:
        left = [7]

        async def later(value: str, context: Any) -> None:
            left[0] -= 1
            if left[0] > 0:
                raise AgentFailed("not now", retryable=True)

        await w.agent("a")
        await w.agent("b", broken)
        await w.agent("undo", later, idempotent=True)
        record = await w.fails(stage("a"), stage("b", on_error="compensate"))
        assert statuses(record)["a"] == "COMPENSATED"
        assert {entry.stage for entry in record.log} == {"b", "a.undo"}


async def test_branches_in_flight_are_cancelled_first_and_those_that_went_well_undone_by_when_they_ended(
    world: Worlds,
) -> None:
    async with world() as w:
        await w.agent("slow", seconds=2.0)
        await w.agent("fast", seconds=1.0)
        flying = await w.agent("flying", seconds=100.0)

        async def late(value: str, context: Any) -> None:
            await w.clock.sleep(5.0)
            await broken(value, context)

        await w.agent("late", late)
        undo = await w.agent("undo")
        names = ("slow", "fast", "flying", "late")
        stages = [stage(name, input="$input", on_error="compensate" if name == "late" else "stop") for name in names]
        record = await w.fails(*stages)
        assert undo.values == ["x>slow", "x>fast"]
        assert flying.outcomes == ["cancelled"]
        assert flying.seen[0].ended <= undo.seen[0].begun
        assert statuses(record) == {
            "slow": "COMPENSATED",
            "fast": "COMPENSATED",
            "flying": "CANCELLED",
            "late": "FAILED",
        }


async def test_what_was_skipped_is_not_undone(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", broken)
        await w.agent("b", broken)
        undo = await w.agent("undo")
        record = await w.fails(stage("a", on_error="skip"), stage("b", on_error="compensate"))
        assert undo.seen == []
        assert statuses(record) == {"a": "SKIPPED", "b": "FAILED"}


async def test_a_run_that_is_out_of_time_is_undone_all_the_same(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        await w.agent("b", seconds=100.0)
        undo = await w.agent("undo", seconds=3.0)
        record = await w.fails(stage("a"), stage("b", on_error="compensate"), timeout=5.0)
        assert undo.outcomes == ["done"], "what was done must not stay because time is up"
        assert statuses(record) == {"a": "COMPENSATED", "b": "FAILED"}
        assert record.seconds == pytest.approx(8.0, abs=0.1)


async def test_a_run_that_is_cancelled_is_not_undone(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        await w.agent("b", seconds=100.0)
        undo = await w.agent("undo")
        plan, runner = await w.plan(stage("a"), stage("b", on_error="compensate")), w.runner()
        w.later(1.0, lambda: runner.cancel("one"))
        with pytest.raises(RunCancelled) as caught:
            await runner.run(plan, StringValue(value="x"), run_id="one")
        assert undo.seen == []
        assert statuses(caught.value.run) == {"a": "SUCCESS", "b": "CANCELLED"}


async def serve(w: Any, name: str, *stages: dict[str, Any]) -> None:
    """Serves a pipeline of these stages as an agent."""
    plan, runner = await w.plan(*stages, name=name), w.runner()
    await w.serve(name, pipeline_agent(plan, lambda: runner, w.clock))


async def test_a_run_inside_an_agent_is_undone_before_its_callers_time_is_up(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        await w.agent("b", seconds=100.0)
        undo = await w.agent("undo", seconds=1.0)
        await serve(w, "saga", stage("a"), stage("b", on_error="compensate"))
        begun = w.clock.now()
        with pytest.raises(AgentFailed) as caught:
            await w.mesh.call("saga", StringValue(value="x"), timeout=10.0)
        assert caught.value.reason == "RUN_FAILED"
        assert caught.value.data["stages"][0].startswith("a compensated")
        assert undo.outcomes == ["done"]
        assert w.clock.now() - begun == pytest.approx(9.0, abs=0.1), "a fifth of the time is kept for it"


async def test_time_is_kept_for_undoing_only_where_something_may_be_undone(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", seconds=9.0)
        for name, more in (("plain", {}), ("saga", {"on_error": "compensate"})):
            await serve(w, name, stage("a", undo=None, **more))
            output = await w.mesh.call(name, StringValue(value="x"), timeout=10.0)
            assert output.value == "x>a"


@pytest.mark.parametrize(("crashes", "said"), [(True, "it may have run, and is not undone"), (False, "")])
async def test_the_stage_that_failed_is_not_undone_and_says_where_it_may_have_run(
    world: Worlds, crashes: bool, said: str
) -> None:
    async def crash(value: str, context: Any) -> None:
        raise RuntimeError("half done")

    async with world() as w:
        await w.agent("a")
        await w.agent("b", crash)
        undo = await w.agent("undo")
        plan = await w.plan(stage("a"), stage("b", on_error="compensate", attempts=1))
        if not crashes:
            w.kill("b")
        with pytest.raises(RunFailed) as caught:
            await w.runner().run(plan, StringValue(value="x"))
        record = caught.value.run
        assert undo.values == ["x>a"]
        assert record.stages[1].reason.partition(":")[0] == said


async def test_who_follows_a_run_hears_what_was_undone(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        await w.agent("b", broken)
        await w.agent("undo")
        told: list[tuple[str, str]] = []

        def listen(event: Event) -> None:
            if isinstance(event, StageEnded):
                told.append((event.stage.stage, event.stage.status.name))

        plan = await w.plan(stage("a"), stage("b", on_error="compensate"))
        with pytest.raises(RunFailed):
            await w.runner().run(plan, StringValue(value="x"), listener=listen)
        assert told == [("a", "SUCCESS"), ("b", "FAILED"), ("a", "COMPENSATED")]
