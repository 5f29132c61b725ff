"""Cancelling: what is in flight ends downstream at once, and the record says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from atomesh.agents import AgentFailed
from atomesh.core.errors import WrongType
from atomesh.pipelines import (
    AttemptFailed,
    Middleware,
    RunCancelled,
    RunEnded,
    RunRecord,
    RunStarted,
    RunStatus,
    StageEnded,
    StageProgress,
    StageStarted,
    StageStatus,
    UnknownRun,
)

Worlds = Callable[..., Any]
X = StringValue(value="x")
DOWNSTREAM = 0.1
"""Seconds within which what is in flight must have been cancelled."""


def stage(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "agent": name, **more}


async def broken(value: str, context: Any) -> None:
    raise AgentFailed("no", reason="NO")


def statuses(record: RunRecord) -> dict[str, str]:
    return {stage.stage: stage.status.name for stage in record.stages}


async def test_cancelling_reaches_every_agent_in_flight_at_once_and_the_record_is_true(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", seconds=1.0)
        flying = [await w.agent(name, seconds=100.0) for name in ("b", "c")]
        items = await w.agent("d", seconds=100.0)
        never = await w.agent("e")
        plan = await w.plan(
            stage("a"),
            stage("b", input="$a"),
            stage("c", input="$a"),
            stage("d", map={"$cel": "[a, a, a]"}, input={"value": "$item"}),
            stage("e", input="$b"),
        )
        runner = w.runner()
        at = w.clock.now() + 5.0
        w.later(5.0, lambda: runner.cancel("one"))
        with pytest.raises(RunCancelled, match="run one was cancelled") as caught:
            await runner.run(plan, X, run_id="one")
        assert w.clock.now() - at < DOWNSTREAM
        await w.clock.sleep(DOWNSTREAM)
        executions = [*flying[0].seen, *flying[1].seen, *items.seen]
        assert [execution.outcome for execution in executions] == ["cancelled"] * 5
        assert all(execution.ended - at < DOWNSTREAM for execution in executions)
        assert never.seen == []
        record = caught.value.run
        assert record.status is RunStatus.CANCELLED
        assert statuses(record) == {
            "a": "SUCCESS",
            "b": "CANCELLED",
            "c": "CANCELLED",
            "d": "CANCELLED",
            "e": "PENDING",
        }
        assert record.seconds == pytest.approx(5.0, abs=DOWNSTREAM)
        assert record.ended_at > record.started_at
        assert [attempt.outcome for attempt in record.stages[1].attempts] == ["CANCELLED"]
        assert {attempt.item for attempt in record.stages[3].attempts} == {0, 1, 2}
        assert not runner.running


async def test_a_caller_that_is_cancelled_cancels_its_run_and_is_told_of_its_own_cancellation(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a", seconds=100.0)
        plan, runner = await w.plan(stage("a")), w.runner()
        seen: list[RunRecord] = []
        task = asyncio.ensure_future(runner.run(plan, X, listener=lambda event: seen.append(event.run)))
        await w.clock.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await w.clock.sleep(DOWNSTREAM)
        assert agent.outcomes == ["cancelled"]
        assert seen[-1].status is RunStatus.CANCELLED


async def test_a_timeout_around_a_run_is_the_callers(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", seconds=100.0)
        plan, runner = await w.plan(stage("a")), w.runner()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3.0):
                await runner.run(plan, X)
        assert not runner.running


async def test_a_caller_cancelled_together_with_its_run_is_cancelled(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", seconds=100.0)
        plan, runner = await w.plan(stage("a")), w.runner()
        task = asyncio.ensure_future(runner.run(plan, X, run_id="one"))
        await w.clock.sleep(1.0)
        runner.cancel("one")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled(), "to be told only that the run was cancelled would swallow its own cancellation"


async def test_a_task_goes_on_after_its_run_was_cancelled(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", seconds=5.0)
        plan, runner = await w.plan(stage("a")), w.runner()
        w.later(1.0, lambda: runner.cancel("one"))
        with pytest.raises(RunCancelled):
            await runner.run(plan, X, run_id="one")
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0
        assert (await runner.run(plan, X)).output.value == "x>a"


async def test_cancelling_twice_or_what_has_ended_is_no_harm(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", seconds=5.0)
        plan, runner = await w.plan(stage("a")), w.runner()

        def twice() -> None:
            runner.cancel("one")
            runner.cancel("one")

        w.later(1.0, twice)
        with pytest.raises(RunCancelled):
            await runner.run(plan, X, run_id="one")
        with pytest.raises(UnknownRun, match="no run 'one' is under way here"):
            runner.cancel("one")


@pytest.mark.parametrize("branches", [False, True])
async def test_who_follows_a_run_may_cancel_it(world: Worlds, branches: bool) -> None:
    async with world() as w:
        await w.agent("a")
        after = await w.agent("b", seconds=1.0)
        stages = (
            [stage("a"), stage("b")] if not branches else [stage("a"), stage("b", input="$a"), stage("c", agent="a")]
        )
        plan, runner = await w.plan(*stages), w.runner()

        def listener(event: Any) -> None:
            if isinstance(event, StageEnded) and event.stage.stage == "a":
                runner.cancel(event.run.id)

        with pytest.raises(RunCancelled):
            await runner.run(plan, X, listener=listener)
        await w.clock.sleep(DOWNSTREAM)
        assert "done" not in after.outcomes


async def test_a_run_that_is_cancelled_by_its_own_last_event_has_ended_by_then(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        plan, runner = await w.plan(stage("a")), w.runner()

        def listener(event: Any) -> None:
            if isinstance(event, StageEnded):
                runner.cancel(event.run.id)

        outcome = await runner.run(plan, X, listener=listener)
        assert outcome.record.status is RunStatus.SUCCESS
        await w.clock.sleep(1.0)  # would raise here what was meant for the run


async def test_a_wait_between_attempts_ends_at_once(world: Worlds) -> None:
    async with world() as w:

        async def later(value: str, context: Any) -> None:
            raise AgentFailed("later", retryable=True, retry_after=50.0)

        await w.agent("a", later)
        plan, runner = await w.plan(stage("a", idempotent=True), timeout=1000.0), w.runner()
        w.later(20.0, lambda: runner.cancel("one"))
        with pytest.raises(RunCancelled) as caught:
            await runner.run(plan, X, run_id="one")
        assert caught.value.run.seconds == pytest.approx(20.0, abs=DOWNSTREAM)
        assert statuses(caught.value.run) == {"a": "CANCELLED"}


async def test_closing_a_runner_ends_what_runs(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a", seconds=100.0)
        plan, runner = await w.plan(stage("a")), w.runner()
        runs = [asyncio.ensure_future(runner.run(plan, X)) for _ in range(3)]
        await w.clock.sleep(1.0)
        assert len(runner.running) == 3
        await runner.close()
        assert not runner.running
        results = await asyncio.gather(*runs, return_exceptions=True)
        assert [type(result) for result in results] == [RunCancelled] * 3
        await w.clock.sleep(DOWNSTREAM)
        assert agent.outcomes == ["cancelled"] * 3


async def test_middleware_may_cancel_its_run(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        agent = await w.agent("b", seconds=1.0)

        class Guard(Middleware):
            async def before(self, call: Any) -> None:
                if call.stage.stage == "b":
                    runner.cancel(call.run.id)

        runner = w.runner(middleware=[Guard()])
        with pytest.raises(RunCancelled):
            await runner.run(await w.plan(stage("a"), stage("b")), X)
        await w.clock.sleep(DOWNSTREAM)
        assert "done" not in agent.outcomes


async def test_a_stream_tells_each_step_and_last_how_the_run_ended(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        await w.agent("b", seconds=1.0)
        plan = await w.plan(stage("a"), stage("b", map={"$cel": "[a, a]"}, input={"value": "$item"}))
        told = [(type(event), getattr(event, "done", None)) async for event in w.runner().stream(plan, X)]
        assert told == [
            (RunStarted, None),
            (StageStarted, None),
            (StageEnded, None),
            (StageStarted, None),
            (StageProgress, 1),
            (StageProgress, 2),
            (StageEnded, None),
            (RunEnded, None),
        ]


async def test_outputs_come_as_they_are_there(world: Worlds) -> None:
    async with world() as w:
        for name, seconds in (("slow", 9.0), ("fast", 1.0), ("middle", 4.0)):
            await w.agent(name, seconds=seconds)
        plan = await w.plan(*(stage(name, input="$input") for name in ("slow", "fast", "middle")))
        begun = w.clock.now()
        told: list[tuple[str, str, int]] = []
        async for event in w.runner().stream(plan, X):
            if isinstance(event, StageEnded):
                output: Any = event.output
                told.append((event.stage.stage, output.value, round(w.clock.now() - begun)))
        assert told == [("fast", "x>fast", 1), ("middle", "x>middle", 4), ("slow", "x>slow", 9)]


async def test_a_stream_of_a_run_that_fails_ends_with_its_record_and_no_error(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", broken)
        events = [event async for event in w.runner().stream(await w.plan(stage("a")), X)]
        assert [type(event) for event in events] == [RunStarted, StageStarted, AttemptFailed, StageEnded, RunEnded]
        assert events[-1].run.status is RunStatus.FAILED
        failed: Any = events[2]
        assert (failed.attempt.outcome, failed.retry_in) == ("NO", None)


async def test_who_stops_reading_a_stream_cancels_the_run(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        agent = await w.agent("b", seconds=100.0)
        runner = w.runner()
        async with aclosing(runner.stream(await w.plan(stage("a"), stage("b")), X)) as events:
            async for event in events:
                if isinstance(event, StageStarted) and event.stage.stage == "b":
                    await w.clock.sleep(1.0)
                    break
        assert not runner.running
        assert event.run.status is RunStatus.CANCELLED
        assert event.stage.status is StageStatus.CANCELLED
        await w.clock.sleep(DOWNSTREAM)
        assert agent.outcomes == ["cancelled"]


async def test_a_stream_of_a_run_that_is_cancelled_elsewhere_ends_with_its_record(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", seconds=100.0)
        runner = w.runner()
        w.later(1.0, lambda: runner.cancel("one"))
        events = [event async for event in runner.stream(await w.plan(stage("a")), X, run_id="one")]
        assert isinstance(events[-1], RunEnded)
        assert events[-1].run.status is RunStatus.CANCELLED


async def test_a_stream_of_what_cannot_begin_is_an_error(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        stream = w.runner().stream(await w.plan(stage("a")), "text")
        with pytest.raises(WrongType):
            await anext(stream)
