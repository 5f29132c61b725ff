"""Attempts of a stage: how many, when, for how long, and never twice what may have run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from atomesh.agents import AgentFailed
from atomesh.core.context import Context
from atomesh.pipelines import RunStatus, StageStatus

Worlds = Callable[..., Any]


def failing(times: int, **error: Any) -> Any:
    """Work that fails so many times, and then does not."""
    left = [times]

    async def work(value: str, context: Any) -> None:
        del value, context
        if left[0] > 0:
            left[0] -= 1
            raise AgentFailed("not now", **{"retryable": True, **error})

    return work


async def test_what_fails_is_tried_again_after_waits_that_double_up_to_their_cap(world: Worlds) -> None:
    async with world() as w:
        # The client's own attempts are one: it tries what is retryable by itself as well.
        agent = await w.agent("a", failing(99), idempotent=False)
        record = await w.fails({"id": "a", "agent": "a", "idempotent": True, "attempts": 7}, timeout=1000)
        (stage,) = record.stages
        assert (stage.attempt_count, len(stage.attempts), stage.retries_exhausted) == (7, 7, True)
        assert [attempt.number for attempt in stage.attempts] == [1, 2, 3, 4, 5, 6, 7]
        starts = [attempt.started_at for attempt in stage.attempts]
        ends = [attempt.started_at + attempt.seconds for attempt in stage.attempts]
        waits = [start - end for start, end in zip(starts[1:], ends, strict=False)]
        for wait, full in zip(waits, (1, 2, 4, 8, 10, 10), strict=True):
            assert full / 2 - 0.001 <= wait <= full + 0.001
        assert len({round(wait, 6) for wait in waits}) == len(waits), "jitter keeps runs from coming back in step"
        assert len(agent.seen) >= 7
        assert [attempt.outcome for attempt in stage.attempts] == ["AGENT_FAILED"] * 7
        assert [(entry.stage, entry.attempt, entry.type) for entry in record.log] == [
            ("a", number, "AGENT_FAILED") for number in range(1, 8)
        ]
        assert record.failure is not None
        assert (record.failure.stage, record.failure.retries_exhausted) == ("a", True)


async def test_a_stage_that_goes_well_in_the_end_is_a_success_and_its_failures_are_kept(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", failing(8))
        outcome = await w.run({"id": "a", "agent": "a", "idempotent": True})
        (stage,) = outcome.record.stages
        assert (stage.status, outcome.record.status) == (StageStatus.SUCCESS, RunStatus.SUCCESS)
        assert [attempt.outcome for attempt in stage.attempts][-1] == "OK"
        assert stage.attempt_count == len(stage.attempts) > 1
        assert (stage.error, stage.retries_exhausted) == ("", False)
        assert len(outcome.record.log) == stage.attempt_count - 1, "what was mended is in the log all the same"
        assert outcome.output.value == "x>a"


@pytest.mark.parametrize("error", [{"retryable": False}, {"retryable": True}])
async def test_a_stage_that_must_not_run_twice_is_tried_once_where_it_ran(world: Worlds, error: Any) -> None:
    async with world() as w:
        agent = await w.agent("a", failing(99, **error))
        record = await w.fails({"id": "a", "agent": "a", "attempts": 5})
        assert len(agent.seen) == 1
        assert record.stages[0].attempt_count == 1
        assert not record.stages[0].retries_exhausted, "no attempt was left out for want of attempts"


async def test_one_attempt_is_how_an_error_stops_at_once(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", failing(99))
        record = await w.fails({"id": "a", "agent": "a", "idempotent": True, "attempts": 1})
        assert (record.stages[0].attempt_count, record.stages[0].retries_exhausted) == (1, True)
        assert w.clock.now() < 1.0


async def test_the_timeout_is_of_each_attempt(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a", seconds=100.0)
        begun = w.clock.now()
        record = await w.fails({"id": "a", "agent": "a", "idempotent": True, "attempts": 3, "timeout": 5})
        (stage,) = record.stages
        assert [attempt.outcome for attempt in stage.attempts] == ["DEADLINE_EXCEEDED"] * 3
        assert [attempt.seconds for attempt in stage.attempts] == pytest.approx([5.0] * 3, abs=0.01)
        assert 15 + 1.5 <= w.clock.now() - begun <= 15 + 3.1
        await w.clock.sleep(0.1)
        assert set(agent.outcomes) == {"cancelled"}


async def test_a_stage_that_may_have_run_is_not_repeated_after_its_timeout(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a", seconds=100.0)
        record = await w.fails({"id": "a", "agent": "a", "attempts": 3, "timeout": 5})
        assert len(agent.seen) == 1
        assert record.stages[0].error_type == "DEADLINE_EXCEEDED"


async def test_one_deadline_is_over_all_stages(world: Worlds) -> None:
    async with world() as w:
        for name in "abc":
            await w.agent(name, seconds=4.0)
        begun = w.clock.now()
        record = await w.fails(*({"id": name, "agent": name, "idempotent": True} for name in "abc"), timeout=10.0)
        assert w.clock.now() - begun == pytest.approx(10.0, abs=0.05)
        assert [stage.status.name for stage in record.stages] == ["SUCCESS", "SUCCESS", "FAILED"]
        assert record.stages[2].attempts[0].seconds == pytest.approx(2.0, abs=0.05)
        assert record.stages[2].retries_exhausted, "there was no time for another attempt"


async def test_no_attempt_begins_where_no_time_is_left_for_its_wait(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", failing(99, retry_after=30.0))
        begun = w.clock.now()
        record = await w.fails({"id": "a", "agent": "a", "idempotent": True}, timeout=20.0)
        assert record.stages[0].attempt_count == 1
        assert w.clock.now() - begun < 5.0, "it fails at once and does not sleep to its deadline"


async def test_each_piece_of_work_has_a_key_of_its_own(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a")
        plan = await w.plan(
            {"id": "one", "agent": "a"},
            {"id": "two", "agent": "a"},
            {"id": "many", "agent": "a", "map": {"$cel": "['p', 'q']"}, "input": {"value": "$item"}, "after": ["two"]},
        )
        runner = w.runner()
        for run_id in ("first", "second"):
            await runner.run(plan, StringValue(value="x"), run_id=run_id)
        keys = [execution.context.idempotency_key for execution in agent.seen]
        assert keys[:4] == ["first/one", "first/two", "first/many/0", "first/many/1"]
        assert len(set(keys)) == len(keys) == 8, "two pieces of work with one key would be taken for one"


async def test_all_attempts_at_a_piece_of_work_have_one_key(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a", seconds=10.0)
        w.later(5.0, lambda: w.network.cut("client", "a-1"))
        await w.fails({"id": "a", "agent": "a", "timeout": 7.0, "attempts": 3})
        w.later(5.0, lambda: w.network.block("client", "a-1"))
        assert len({execution.context.idempotency_key for execution in agent.seen}) == 1


async def test_a_long_runs_key_is_no_longer_than_a_context_takes(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a")
        stage = "s" * 63
        plan = await w.plan(
            {"id": stage, "agent": "a", "map": {"$cel": "['p', 'q']"}, "input": {"value": "$item"}},
            input_type="google.protobuf.StringValue",
        )
        await w.runner().run(plan, StringValue(value="x"), run_id="r" * 64)
        keys = [execution.context.idempotency_key for execution in agent.seen]
        assert len(set(keys)) == 2
        assert all(0 < len(key) <= 128 for key in keys)


async def test_the_key_of_who_starts_a_run_names_the_run_and_none_of_its_stages(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a", idempotent=True)
        plan = await w.plan({"id": "one", "agent": "a"}, {"id": "two", "agent": "a"})
        await w.runner().run(plan, StringValue(value="x"), context=Context(idempotency_key="mine", user_id="u"))
        assert [execution.context.user_id for execution in agent.seen] == ["u", "u"]
        assert "mine" not in [execution.context.idempotency_key for execution in agent.seen], (
            "an agent that deduplicates by it would give the second stage the first one's answer"
        )


async def test_an_endpoint_killed_in_the_middle_is_not_asked_to_do_it_twice(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a", seconds=10.0, copies=2)
        w.later(5.0, lambda: w.kill_busy(agent))
        record = await w.fails({"id": "a", "agent": "a", "attempts": 5}, timeout=60.0)
        assert len(agent.seen) == 1, "nobody knows how far it came"
        assert record.stages[0].error_type == "CONNECTION_LOST"
        assert record.stages[0].attempt_count == 1


async def test_work_that_may_run_twice_goes_to_another_endpoint(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a", seconds=10.0, copies=2, idempotent=True)
        w.later(5.0, lambda: w.kill_busy(agent))
        outcome = await w.run({"id": "a", "agent": "a"}, timeout=60.0)
        assert len({execution.context.instance_id for execution in agent.seen}) == 2
        assert outcome.record.status is RunStatus.SUCCESS


async def test_an_agent_that_vanishes_between_two_stages_is_one_clear_line(world: Worlds) -> None:
    async with world() as w:

        async def leave(value: str, context: Any) -> None:
            del value, context
            w.kill("b")
            await w.clock.sleep(60.0)  # longer than a lease

        await w.agent("a", leave)
        await w.agent("b")
        record = await w.fails(
            {"id": "a", "agent": "a", "timeout": 100}, {"id": "b", "agent": "b", "attempts": 2}, timeout=200
        )
        assert record.status is RunStatus.FAILED
        assert [stage.status.name for stage in record.stages] == ["SUCCESS", "FAILED"]
        failure = record.failure
        assert failure is not None
        assert (failure.stage, failure.type) == ("b", "NO_ENDPOINT")
        assert "\n" not in failure.message
