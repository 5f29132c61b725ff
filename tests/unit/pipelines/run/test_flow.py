"""How stages follow one another: branches, lists, guards, what goes on in place of an output."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from atomesh.agents import AgentFailed
from atomesh.core.errors import InvalidArgument, NoEndpoint, UnknownAgent, WrongType
from atomesh.pipelines import RunExists, RunFailed, RunRecord, RunStatus

Worlds = Callable[..., Any]
TEXT = "google.protobuf.StringValue"
LIST = {"$cel": "['p', 'q', 'r', 's', 't']"}


def statuses(record: RunRecord) -> dict[str, str]:
    return {stage.stage: stage.status.name for stage in record.stages}


def stage(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "agent": name, **more}


async def broken(value: str, context: Any) -> None:
    raise AgentFailed(f"{value} cannot be done", reason="NO")


async def only(bad: str, value: str) -> None:
    if value == bad:
        raise AgentFailed(f"{value} cannot be done", reason="NO")


async def test_stages_take_the_output_of_the_one_before(world: Worlds) -> None:
    async with world() as w:
        for name in "abc":
            await w.agent(name)
        outcome = await w.run(stage("a"), stage("b"), stage("c"))
        assert outcome.output == StringValue(value="x>a>b>c")
        assert isinstance(outcome.output, StringValue), "in this process's own class"
        assert statuses(outcome.record) == dict.fromkeys("abc", "SUCCESS")


async def test_branches_run_at_the_same_time_and_join_by_name(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", seconds=1.0)
        branches = {name: await w.agent(name, seconds=5.0) for name in ("b", "c", "d")}
        join = await w.agent("e", seconds=1.0)
        begun = w.clock.now()
        outcome = await w.run(
            stage("a"),
            *(stage(name, input="$a") for name in branches),
            stage("e", input={"value": {"$cel": "b + '|' + c + '|' + d"}}),
            output={"all": "$e.value", "b": "$b.value"},
        )
        assert w.clock.now() - begun == pytest.approx(7.0, abs=0.1)
        assert join.values == ["x>a>b|x>a>c|x>a>d"]
        output: Any = outcome.output
        assert (output.all, output.b) == ("x>a>b|x>a>c|x>a>d>e", "x>a>b")


async def test_a_stage_begins_when_what_it_needs_has_ended_and_waits_for_nothing_else(world: Worlds) -> None:
    async with world() as w:
        await w.agent("fast", seconds=1.0)
        await w.agent("slow", seconds=10.0)
        after = await w.agent("after")
        begun = w.clock.now()
        await w.run(stage("fast"), stage("slow", input="$input"), stage("after", input="$fast"))
        assert after.seen[0].begun - begun == pytest.approx(1.0, abs=0.1)


async def test_a_list_keeps_its_order_and_its_bound(world: Worlds) -> None:
    async with world() as w:

        async def work(value: str, context: Any) -> None:
            del context
            await w.clock.sleep({"p": 5.0, "q": 1.0, "r": 3.0, "s": 0.5, "t": 0.1}[value])

        agent = await w.agent("a", work, slots=100)
        outcome = await w.run(stage("a", map=LIST, input={"value": "$item"}, concurrency=2), input_type=TEXT)
        output: Any = outcome.output
        assert [each.value for each in output.a] == [f"{letter}>a" for letter in "pqrst"]
        assert agent.most == 2
        record = outcome.record.stages[0]
        assert (record.items, record.attempt_count, record.attempts) == (5, 5, [])
        assert record.input_bytes == 5 * StringValue(value="p").ByteSize()


async def test_an_item_knows_its_place(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a")
        await w.run(stage("a", map=LIST, input={"value": {"$cel": "item + string(index)"}}), input_type=TEXT)
        assert sorted(agent.values) == ["p0", "q1", "r2", "s3", "t4"]


async def test_an_empty_list_is_no_work_and_no_failure(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a")
        outcome = await w.run(
            stage("a", map={"$cel": "['x'].filter(i, i == 'y')"}, input={"value": "$item"}), input_type=TEXT
        )
        assert agent.seen == []
        assert statuses(outcome.record) == {"a": "SUCCESS"}
        assert len(getattr(outcome.output, "a")) == 0  # noqa: B009 # a message made from descriptors


async def test_a_bad_item_ends_the_others_and_names_itself(world: Worlds) -> None:
    async with world() as w:

        async def work(value: str, context: Any) -> None:
            del context
            await w.clock.sleep(1.0 if value == "r" else 5.0)
            await only("r", value)

        agent = await w.agent("a", work, slots=100)
        record = await w.fails(stage("a", map=LIST, input={"value": "$item"}), input_type=TEXT)
        await w.clock.sleep(0.1)
        assert sorted(agent.outcomes) == ["AgentFailed"] + ["cancelled"] * 4
        assert [
            (attempt.item, attempt.outcome) for attempt in record.stages[0].attempts if attempt.outcome == "NO"
        ] == [(2, "NO")]


async def test_items_that_fail_are_skipped_with_the_default_and_the_run_is_partial(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", lambda value, _: only("r", value))
        outcome = await w.run(
            stage("a", map=LIST, input={"value": "$item"}, on_error="skip", default={"value": "none"}), input_type=TEXT
        )
        output: Any = outcome.output
        assert [each.value for each in output.a] == ["p>a", "q>a", "none", "s>a", "t>a"]
        (record,) = outcome.record.stages
        assert (record.status.name, record.items, record.items_skipped) == ("SUCCESS", 5, 1)
        assert record.reason == "1 of 5 items were skipped"
        assert outcome.record.status is RunStatus.PARTIAL


async def test_a_stage_whose_items_all_fail_is_skipped(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", broken)
        outcome = await w.run(
            stage("a", map=LIST, input={"value": "$item"}, on_error="skip", default={"value": "none"}), input_type=TEXT
        )
        assert statuses(outcome.record) == {"a": "SKIPPED"}
        assert outcome.record.status is RunStatus.PARTIAL


async def test_a_skipped_stage_passes_its_default_on(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", broken)
        after = await w.agent("b")
        outcome = await w.run(stage("a", on_error="skip", default={"value": "none"}), stage("b"))
        assert after.values == ["none"]
        assert outcome.record.status is RunStatus.PARTIAL
        record = outcome.record.stages[0]
        assert (record.status.name, record.error_type, record.error) == ("SKIPPED", "NO", "x cannot be done")
        assert record.reason == "its default went on"
        assert outcome.record.to_proto().summary.failures == 1


async def test_a_skipped_stage_without_a_default_passes_its_input_on(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        await w.agent("b", broken)
        after = await w.agent("c")
        await w.run(stage("a"), stage("b", on_error="skip"), stage("c"))
        assert after.values == ["x>a"]


async def test_what_a_skipped_stage_passes_on_counts_as_its_output(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", broken)
        outcome = await w.run(stage("a", on_error="skip"), input="x" * 1000)
        record = outcome.record.stages[0]
        assert record.output_bytes == StringValue(value="x" * 1000).ByteSize()
        assert not record.to_proto(500).output, "outputs above the cap are not kept"
        assert len(record.to_proto(2000).output) == 1


async def test_a_stage_whose_guard_says_no_is_left_out_and_so_is_what_reads_it_alone(world: Worlds) -> None:
    async with world() as w:
        agents = {name: await w.agent(name) for name in "abcde"}
        outcome = await w.run(
            stage("a"),
            stage("b", when="a == 'nothing like it'"),
            stage("c", input={"value": "$b.value"}),
            stage("d", input="$c"),
            stage("e", input={"value": {"$cel": "d + a"}}),
        )
        assert statuses(outcome.record) == {
            "a": "SUCCESS",
            "b": "OMITTED",
            "c": "OMITTED",
            "d": "OMITTED",
            "e": "SUCCESS",
        }
        assert [len(agent.seen) for agent in agents.values()] == [1, 0, 0, 0, 1]
        assert [record.reason for record in outcome.record.stages] == [
            "",
            "when a == 'nothing like it'",
            "nothing came of b",
            "nothing came of c",
            "",
        ]
        assert outcome.record.status is RunStatus.SUCCESS, "what was never to run is no failure"


async def test_a_stage_that_is_left_out_gives_its_default(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        after = await w.agent("b")
        await w.run(stage("a", when="input == 'y'", default={"value": "unsaid"}), stage("b"))
        assert after.values == ["unsaid"]


async def test_a_list_that_is_left_out_gives_its_default_for_each_item(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        after = await w.agent("b")
        outcome = await w.run(
            stage("a", map=LIST, input={"value": "$item"}, when="input == 'y'", default={"value": "unsaid"}),
            stage("b", map="$a", input={"value": "$item.value"}),
            input_type=TEXT,
        )
        assert after.values == ["unsaid"] * 5
        assert statuses(outcome.record) == {"a": "OMITTED", "b": "SUCCESS"}


async def test_a_list_of_a_stage_that_is_left_out_is_left_out(world: Worlds) -> None:
    async with world() as w:
        for name in "abc":
            await w.agent(name)
        outcome = await w.run(
            stage("a", map=LIST, input={"value": "$item"}, when="input == 'y'"),
            stage("b", map="$a", input="$item"),
            stage("c", input={"value": "$input.value"}, after=["b"]),
            input_type=TEXT,
        )
        assert statuses(outcome.record) == {"a": "OMITTED", "b": "OMITTED", "c": "SUCCESS"}


async def test_an_output_of_a_stage_that_was_left_out_needs_a_default(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        record = await w.fails(stage("a", when="input == 'y'"))
        assert record.failure is not None
        assert record.failure.message == "nothing came of the stage that the output is of; give it a default"
        assert record.failure.stage == "", "no stage is to blame"


@pytest.mark.parametrize("more", [{}, {"on_error": "compensate"}])
async def test_a_guard_that_fails_is_its_stages_failure(world: Worlds, more: Any) -> None:
    async with world() as w:
        await w.agent("a")
        agent = await w.agent("b")
        record = await w.fails(stage("a"), stage("b", when="1 / size(input) > 0", **more), input="")
        assert agent.seen == []
        assert statuses(record) == {"a": "SUCCESS", "b": "FAILED"}
        assert record.failure is not None
        assert (record.failure.stage, record.failure.type) == ("b", "EXPRESSION_FAILED")
        assert "divide by zero" in record.failure.message


async def test_a_mapping_that_fails_is_its_stages_failure(world: Worlds) -> None:
    async with world() as w:
        agent = await w.agent("a")
        record = await w.fails(stage("a", input={"value": {"$cel": "['x'][size(input)]"}}), input_type=TEXT)
        assert agent.seen == []
        assert record.failure is not None
        assert (record.failure.stage, record.failure.type) == ("a", "EXPRESSION_FAILED")
        assert [(entry.stage, entry.type) for entry in record.log] == [("a", "EXPRESSION_FAILED")]


async def test_a_fallback_is_asked_once_the_attempts_are_spent(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", broken)
        other = await w.agent("other")
        outcome = await w.run(stage("a", on_error={"fallback": "other"}))
        assert outcome.output.value == "x>other"
        (record,) = outcome.record.stages
        assert (record.status.name, record.agent, record.fell_back_to) == ("SUCCESS", "other", "other")
        assert [(attempt.number, attempt.agent, attempt.outcome) for attempt in record.attempts] == [
            (1, "a", "NO"),
            (2, "other", "OK"),
        ]
        assert outcome.record.status is RunStatus.SUCCESS
        assert [entry.type for entry in outcome.record.log] == ["NO"]
        assert len(other.seen) == 1


async def test_a_fallback_that_fails_too_is_the_stages_failure(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", broken)
        await w.agent("other", broken)
        record = await w.fails(stage("a", on_error={"fallback": "other"}))
        assert [attempt.agent for attempt in record.stages[0].attempts] == ["a", "other"]
        assert record.stages[0].fell_back_to == "other"


async def crash(value: str, context: Any) -> None:
    raise RuntimeError("half done")


@pytest.mark.parametrize(("more", "asked"), [({}, 0), ({"idempotent": True, "attempts": 1}, 1)])
async def test_a_fallback_does_not_do_again_what_may_be_done_and_must_not_be_done_twice(
    world: Worlds, more: dict[str, Any], asked: int
) -> None:
    async with world() as w:
        await w.agent("a", crash)
        other = await w.agent("other")
        plan = await w.plan(stage("a", on_error={"fallback": "other"}, **more))
        if asked:
            assert (await w.runner().run(plan, StringValue(value="x"))).output.value == "x>other"
        else:
            with pytest.raises(RunFailed) as failed:
                await w.runner().run(plan, StringValue(value="x"))
            assert failed.value.failed_with == "AGENT_CRASHED"
        assert len(other.seen) == asked, "an agent that crashed may have done the work"


async def test_what_fails_cancels_its_siblings_and_begins_nothing_more(world: Worlds) -> None:
    async with world() as w:

        async def late(value: str, context: Any) -> None:
            await w.clock.sleep(1.0)
            await broken(value, context)

        await w.agent("a", late)
        sibling = await w.agent("b", seconds=100.0)
        never = await w.agent("c")
        record = await w.fails(stage("a"), stage("b", input="$input"), stage("c", input="$a"))
        await w.clock.sleep(0.1)
        assert sibling.outcomes == ["cancelled"]
        assert sibling.seen[0].ended == pytest.approx(
            record.stages[0].started_at - w.clock.wall() + w.clock.now() + 1.0, abs=0.1
        )
        assert never.seen == []
        assert statuses(record) == {"a": "FAILED", "b": "CANCELLED", "c": "PENDING"}
        assert record.stages[1].attempts[0].outcome == "CANCELLED"


async def test_of_branches_that_fail_together_the_error_is_that_of_the_stage_it_names(world: Worlds) -> None:
    async with world() as w:
        names = [f"s{number}" for number in range(6)]
        for name in names:
            await w.agent(name, broken, seconds=1.0)
        record = await w.fails(*(stage(name, input={"value": name}) for name in names), input_type=TEXT)
        assert record.failure is not None
        assert record.failure.message == f"{record.failure.stage} cannot be done"


async def test_the_input_must_be_of_the_pipelines_type(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        plan = await w.plan(stage("a"))
        runner = w.runner()
        with pytest.raises(WrongType, match=r"pipeline p takes google.protobuf.StringValue, not google.protobuf.Int64"):
            await runner.run(plan, Int64Value(value=1))
        with pytest.raises(WrongType, match="not a str"):
            await runner.run(plan, "text")
        for timeout in (0, -1.0, float("nan"), float("inf")):
            with pytest.raises(InvalidArgument, match="is not a number of seconds above 0"):
                await runner.run(plan, StringValue(), timeout=timeout)
        for run_id in ("a b", "x" * 65, "a/b"):
            with pytest.raises(InvalidArgument, match="is not 1 to 64 of"):
                await runner.run(plan, StringValue(), run_id=run_id)
        assert not runner.running


async def test_a_mistake_in_the_library_itself_leaves_a_true_record(
    world: Worlds, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world() as w:
        await w.agent("a")
        plan = await w.plan(stage("a"))
        runner = w.runner()
        ended: list[RunRecord] = []

        async def crash(*_: Any) -> None:
            raise ZeroDivisionError("a mistake")

        monkeypatch.setattr(w.mesh, "execute", crash)
        with pytest.raises(ZeroDivisionError):
            await runner.run(plan, StringValue(), listener=lambda event: ended.append(event.run))
        assert ended[-1].status is RunStatus.FAILED
        assert (ended[-1].stages[0].status.name, ended[-1].stages[0].error) == ("FAILED", "a mistake")
        assert not runner.running


async def test_a_stage_may_ask_another_version(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        assert (await w.run(stage("a", version=">=1,<2"))).output.value == "x>a"
        with pytest.raises(NoEndpoint, match=r"stages.a.agent: no endpoint serves a >=2 \(1 registered: 1.0.0\)"):
            await w.run(stage("a", version=">=2"))


async def test_an_agent_that_is_not_there_at_the_start_is_one_line_with_its_stage(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        with pytest.raises(UnknownAgent) as caught:
            await w.run(stage("a"), stage("b"))
        assert str(caught.value).startswith("stages.b.agent: ")
        assert "\n" not in str(caught.value)
        with pytest.raises(UnknownAgent, match=r"stages.a.on_error: "):
            await w.run(stage("a", on_error={"fallback": "b"}))


async def test_a_run_may_be_repeated_under_another_id_and_not_under_its_own(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", seconds=1.0)
        plan, runner = await w.plan(stage("a")), w.runner()
        first = asyncio.ensure_future(runner.run(plan, StringValue(), run_id="one"))
        await w.clock.sleep(0.5)
        assert list(runner.running) == ["one"]
        with pytest.raises(RunExists):
            await runner.run(plan, StringValue(), run_id="one")
        assert (await first).record.id == "one"
        assert (await runner.run(plan, StringValue(), run_id="one")).record.id == "one", "no store, no memory"


async def test_failures_carry_the_trace(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        await w.agent("b", broken)
        await w.agent("c")
        with pytest.raises(RunFailed) as caught:
            await w.run(stage("a"), stage("b"), stage("c"))
        error = caught.value
        assert error.reason == "RUN_FAILED"
        assert str(error) == f"stage b of p failed: x>a cannot be done (run {error.run.id})"
        assert error.data["run_id"] == error.run.id
        assert (error.data["failed_stage"], error.data["error_type"]) == ("b", "NO")
        assert [line.split(" ")[:2] for line in error.data["stages"]] == [
            ["a", "success"],
            ["b", "failed"],
            ["c", "pending"],
        ]
