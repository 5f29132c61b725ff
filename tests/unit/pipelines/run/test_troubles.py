"""Open circuits, agents that give garbage, large inputs, and pipelines as stages of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import Int64Value, StringValue
from prometheus_client import CollectorRegistry

from atomesh.agents import Agent, AgentFailed
from atomesh.balancer import Breaker
from atomesh.core.errors import AtomeshError
from atomesh.pipelines import PipelineMetrics, RunCancelled, RunFailed, RunStatus, pipeline_agent
from atomesh.pipelines.record import MAX_ITEM_ATTEMPTS, MAX_LOG
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Worlds = Callable[..., Any]
X = StringValue(value="x")


def stage(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "agent": name, **more}


async def crash(value: str, context: Any) -> None:
    raise ZeroDivisionError("a mistake")


async def opened(w: Any, runner: Any) -> Any:
    """Fails the agent's every endpoint until its circuit is open."""
    plan = await w.plan(stage("a", attempts=1))
    for _ in range(20):
        with pytest.raises(RunFailed) as caught:
            await runner.run(plan, X)
        if caught.value.failed_with == "CIRCUIT_OPEN":
            return caught.value
    pytest.fail("the circuit never opened")


@pytest.fixture
def breakers() -> dict[str, Breaker]:
    return {"a": Breaker(max_ejected=1, agent_failures=3)}


async def test_a_stage_that_meets_an_open_circuit_fails_at_once_and_says_so(world: Worlds, breakers: Any) -> None:
    async with world(breakers=breakers) as w:
        agent = await w.agent("a", crash, copies=2)
        registry = CollectorRegistry()
        runner = w.runner(metrics=PipelineMetrics(registry))
        error = await opened(w, runner)
        executions, begun = len(agent.seen), w.clock.now()
        plan = await w.plan(stage("a", idempotent=True, attempts=5))
        with pytest.raises(RunFailed) as caught:
            await runner.run(plan, X)
        (record,) = caught.value.run.stages
        assert w.clock.now() - begun < 0.01, "nothing is waited for"
        assert len(agent.seen) == executions, "nobody is asked"
        assert (record.circuit_open, record.attempt_count, record.error_type) == (True, 1, "CIRCUIT_OPEN")
        assert [attempt.outcome for attempt in record.attempts] == ["CIRCUIT_OPEN"]
        assert error.run.failure is not None
        labels = {"pipeline": "p", "stage": "a"}
        assert registry.get_sample_value("atomesh_pipeline_circuit_open_total", labels) == 2


async def test_an_open_circuit_goes_into_the_stages_on_error(world: Worlds, breakers: Any) -> None:
    async with world(breakers=breakers) as w:
        await w.agent("a", crash)
        await w.agent("b")
        runner = w.runner()
        await opened(w, runner)
        outcome = await runner.run(await w.plan(stage("a", on_error={"fallback": "b"})), X)
        (record,) = outcome.record.stages
        assert (outcome.output.value, record.circuit_open, record.fell_back_to) == ("x>b", True, "b")
        outcome = await runner.run(await w.plan(stage("a", on_error="skip")), X)
        assert outcome.record.status is RunStatus.PARTIAL
        assert outcome.record.stages[0].circuit_open


async def test_a_circuit_that_half_opens_lets_a_run_through_and_closes(world: Worlds, breakers: Any) -> None:
    async with world(breakers=breakers) as w:
        agent = await w.agent("a", crash)
        runner = w.runner()
        await opened(w, runner)
        agent.work = None
        await w.clock.sleep(60.0)
        plan = await w.plan(stage("a"))
        for _ in range(3):
            assert (await runner.run(plan, X)).output.value == "x>a"


@pytest.mark.parametrize(
    ("garbage", "said"),
    [
        (Int64Value(value=1), "a returned Int64Value, its contract says StringValue"),
        (None, ""),
        (b"bytes", "bytes"),
        (TextOutput(confidence=7), ""),
    ],
)
async def test_an_agent_that_gives_garbage_fails_its_stage_in_one_line(world: Worlds, garbage: Any, said: str) -> None:
    async with world() as w:

        async def work(value: str, context: Any) -> Any:
            return garbage if garbage is not None else 5

        agent = await w.agent("a", work)
        record = await w.fails(stage("a"))
        assert record.failure is not None
        assert record.failure.type in ("INVALID_OUTPUT", "AGENT_CRASHED")
        assert said in record.failure.message
        assert "\n" not in record.failure.message
        assert len(agent.seen) == 1


async def test_an_input_that_breaks_the_agents_rules_fails_its_stage_and_nothing_runs(world: Worlds) -> None:
    class Text(Agent[TextInput, TextOutput]):
        name = "text"
        ran = 0

        async def execute(self, input: TextInput, context: Any, /) -> TextOutput:
            Text.ran += 1
            return TextOutput(result=input.content)

    async with world() as w:
        await w.agent("a")
        await w.serve("text", Text())
        record = await w.fails(
            stage("a"), stage("text", input={"content": "$a.value", "operation": {"$cel": "a + '?'"}}), input="x"
        )
        assert Text.ran == 0
        assert record.failure is not None
        assert (record.failure.stage, record.failure.type) == ("text", "INVALID_INPUT")
        assert 'unknown operation "x>a?"' in record.failure.message
        assert record.stages[1].attempt_count == 1, "the same again is wrong again"


async def test_sizes_and_times_are_kept_and_shares_sum_to_one(world: Worlds) -> None:
    async with world() as w:
        for name, seconds in (("a", 1.0), ("b", 3.0), ("c", 6.0)):
            await w.agent(name, seconds=seconds)
        await w.agent("d")
        outcome = await w.run(
            stage("a"),
            stage("b"),
            stage("c", input="$a"),
            stage("d", when="false"),
            output={"b": "$b", "c": "$c.value"},
            input="y" * 100,
        )
        record = outcome.record
        sizes = {one.stage: (one.input_bytes, one.output_bytes) for one in record.stages}
        assert sizes["a"] == (StringValue(value="y" * 100).ByteSize(), StringValue(value="y" * 100 + ">a").ByteSize())
        assert sizes["d"] == (0, 0)
        assert record.input_bytes == sizes["a"][0]
        assert record.output_bytes == outcome.output.ByteSize()
        proto = record.to_proto(1024)
        summary = proto.summary
        assert (summary.stages, summary.successes, summary.failures) == (4, 3, 0)
        assert sum(summary.shares.values()) == pytest.approx(1.0)
        assert summary.shares["c"] == pytest.approx(0.6, abs=0.01)
        assert set(summary.shares) == {"a", "b", "c"}
        assert summary.min.ToTimedelta().total_seconds() == pytest.approx(1.0, abs=0.05)
        assert summary.max.ToTimedelta().total_seconds() == pytest.approx(6.0, abs=0.05)
        assert summary.total.ToTimedelta().total_seconds() == pytest.approx(10.0, abs=0.1)
        assert summary.average.ToTimedelta().total_seconds() == pytest.approx(10 / 3, abs=0.1)
        assert record.seconds == pytest.approx(7.0, abs=0.1)
        assert all(one.endpoint for one in record.stages[:3])
        assert [one.stage for one in proto.stages] == ["a", "b", "c", "d"]
        assert not proto.stages[3].HasField("started_at")
        assert proto.stages[0].output[0].Is(StringValue.DESCRIPTOR)
        assert not record.to_proto(0).stages[0].output, "outputs need not be kept"
        assert not record.to_proto(0).HasField("output")


async def test_time_in_queues_is_told_apart(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a", seconds=2.0, slots=1)
        outcome = await w.run(
            stage("a", map={"$cel": "['p', 'q', 'r']"}, input={"value": "$item"}),
            input_type="google.protobuf.StringValue",
        )
        (record,) = outcome.record.stages
        assert record.seconds == pytest.approx(6.0, abs=0.1)
        assert record.queue_wait == pytest.approx(2.0 + 4.0, abs=0.1)


async def test_the_error_log_has_an_end(world: Worlds) -> None:
    async def broken(value: str, context: Any) -> None:
        raise AgentFailed("no", reason="NO")

    async with world() as w:
        await w.agent("a", broken, slots=500)
        await w.agent("b")
        outcome = await w.run(
            stage(
                "b",
                map={"$cel": str([str(number) for number in range(MAX_LOG + 200)])},
                input={"value": "$item"},
                concurrency=500,
            ),
            stage("a", map="$b", input="$item", on_error="skip", concurrency=500),
            input_type="google.protobuf.StringValue",
        )
        assert len(outcome.record.log) == MAX_LOG
        record = outcome.record.stages[1]
        assert (record.attempt_count, len(record.attempts)) == (MAX_LOG + 200, MAX_ITEM_ATTEMPTS)


async def nested(w: Any, *, idempotent: bool) -> tuple[Any, Any]:
    """A leaf that always fails and may be retried, an inner pipeline of it, served as an agent."""

    async def later(value: str, context: Any) -> None:
        raise AgentFailed("later", retryable=True)

    leaf = await w.agent("leaf", later, idempotent=idempotent)
    inner_runner = w.runner()
    inner = await w.plan({"id": "leaf", "agent": "leaf", "attempts": 3, "backoff": {"base": 0, "cap": 0}}, name="inner")
    await w.serve("inner", pipeline_agent(inner, lambda: inner_runner, w.clock))
    return leaf, inner


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_pipeline_as_a_stage_does_not_multiply_attempts(world: Worlds, idempotent: bool) -> None:
    async with world() as w:
        leaf, inner = await nested(w, idempotent=idempotent)
        assert inner.idempotent == idempotent
        with pytest.raises(RunFailed):
            await w.runner().run(inner, X)
        alone = len(leaf.seen)
        record = await w.fails({"id": "inner", "agent": "inner", "attempts": 5})
        assert len(leaf.seen) == 2 * alone, "the outer stage must not try what the inner one has given up"
        assert record.stages[0].attempt_count == 1
        assert record.stages[0].error_type == "RUN_FAILED"
        assert "stage leaf of inner failed: later" in record.stages[0].error
        assert "\n" not in record.stages[0].error


async def test_the_error_of_a_pipeline_tells_of_its_run(world: Worlds) -> None:
    async with world() as w:
        await nested(w, idempotent=False)
        with pytest.raises(AgentFailed) as caught:
            await w.mesh.call("inner", X)
        error = caught.value
        assert error.reason == "RUN_FAILED"
        assert error.data["failed_stage"] == "leaf"
        assert error.data["error_type"] == "AGENT_FAILED"
        assert [line.split()[:2] for line in error.data["stages"]] == [["leaf", "failed"]]
        assert len(error.data["run_id"]) > 0
        assert error.executed is True


async def test_a_run_inside_an_agent_never_outlives_its_caller_and_inherits_its_context(world: Worlds) -> None:
    async with world() as w:
        leaf = await w.agent("leaf", seconds=100.0)
        runner = w.runner()
        inner = await w.plan({"id": "leaf", "agent": "leaf"}, name="inner", timeout=1000)
        await w.serve("inner", pipeline_agent(inner, lambda: runner, w.clock))
        begun = w.clock.now()
        with pytest.raises(AtomeshError):
            await w.mesh.call("inner", X, timeout=5.0)
        assert w.clock.now() - begun == pytest.approx(5.0, abs=0.1)
        await w.clock.sleep(0.1)
        assert leaf.outcomes == ["cancelled"]
        assert leaf.seen[0].context.via == ("inner",)
        assert not runner.running


async def test_cancelling_an_outer_run_reaches_the_leaf(world: Worlds) -> None:
    async with world() as w:
        leaf = await w.agent("leaf", seconds=100.0)
        inner_runner, runner = w.runner(), w.runner()
        inner = await w.plan({"id": "leaf", "agent": "leaf"}, name="inner")
        await w.serve("inner", pipeline_agent(inner, lambda: inner_runner, w.clock))
        outer = await w.plan({"id": "inner", "agent": "inner"}, name="outer")
        at = w.clock.now() + 3.0
        w.later(3.0, lambda: runner.cancel("one"))
        with pytest.raises(RunCancelled):
            await runner.run(outer, X, run_id="one")
        await w.clock.sleep(0.1)
        assert leaf.outcomes == ["cancelled"]
        assert leaf.seen[0].ended - at < 0.1
        assert not inner_runner.running


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_pipeline_whose_run_is_cancelled_says_so_to_its_caller(world: Worlds, streamed: bool) -> None:
    async with world() as w:
        await w.agent("leaf", seconds=100.0)
        runner = w.runner()
        inner = await w.plan({"id": "leaf", "agent": "leaf"}, name="inner")
        await w.serve("inner", pipeline_agent(inner, lambda: runner, w.clock))
        w.later(3.0, lambda: runner.cancel(next(iter(runner.running))))
        call = streamed_output(w.mesh, "inner") if streamed else w.mesh.call("inner", X)
        with pytest.raises(AgentFailed, match=r"run .* of inner was cancelled") as caught:
            await call
        assert caught.value.reason == "RUN_CANCELLED", "a crash would eject an endpoint that did as it was told"
        assert caught.value.data["stages"][0].startswith("leaf cancelled")
        assert not caught.value.retryable


async def streamed_output(mesh: Any, agent: str) -> Any:
    async with mesh.stream(agent, X) as stream:
        return await stream.result()


async def test_a_large_input_is_carried_through(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        outcome = await w.run(stage("a"), input="x" * 1_000_000)
        assert outcome.record.input_bytes > 1_000_000
