"""What is put around stages and runs: middleware, context providers, observers, listeners, metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import Int64Value, StringValue
from prometheus_client import CollectorRegistry

from atomesh.agents import AgentFailed
from atomesh.core.context import Context
from atomesh.core.errors import AtomeshError, InvalidArgument, PermissionDenied
from atomesh.pipelines import Middleware, PipelineMetrics, RunFailed, RunObserver, RunRecord, StageCall, StageRecord

Worlds = Callable[..., Any]
X = StringValue(value="x")


def stage(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "agent": name, **more}


async def broken(value: str, context: Any) -> None:
    raise AgentFailed("no", reason="NO")


class Noted(Middleware):
    """Writes down what it is asked."""

    def __init__(self, name: str, book: list[str]) -> None:
        self.name = name
        self.book = book

    async def before(self, call: StageCall) -> None:
        self.book.append(f"{self.name} before {call.stage.stage} {call.item}")

    async def after(self, call: StageCall, output: Any) -> None:
        self.book.append(f"{self.name} after {call.stage.stage} {output.value}")

    async def error(self, call: StageCall, error: AtomeshError) -> None:
        self.book.append(f"{self.name} error {call.stage.stage} {error.reason}")


async def test_the_first_middleware_is_outermost(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        await w.agent("b", broken)
        book: list[str] = []
        runner = w.runner(middleware=[Noted("outer", book), Noted("inner", book)])
        with pytest.raises(RunFailed):
            await runner.run(await w.plan(stage("a"), stage("b")), X)
        assert book == [
            "outer before a None",
            "inner before a None",
            "inner after a x>a",
            "outer after a x>a",
            "outer before b None",
            "inner before b None",
            "inner error b NO",
            "outer error b NO",
        ]


async def test_middleware_is_around_each_item_and_not_around_each_attempt(world: Worlds) -> None:
    async with world() as w:
        left = [8]

        async def later(value: str, context: Any) -> None:
            left[0] -= 1
            if left[0] > 0:
                raise AgentFailed("later", retryable=True)

        await w.agent("a", later)
        book: list[str] = []
        plan = await w.plan(
            stage("a", map={"$cel": "['p', 'q']"}, input={"value": "$item"}, idempotent=True, concurrency=1),
            input_type="google.protobuf.StringValue",
        )
        await w.runner(middleware=[Noted("m", book)]).run(plan, X)
        assert book == ["m before a 0", "m after a p>a", "m before a 1", "m after a q>a"]


async def test_middleware_may_change_what_is_sent_and_what_goes_on(world: Worlds) -> None:
    class Changed(Middleware):
        async def before(self, call: StageCall) -> None:
            call.input = StringValue(value="changed")
            call.context = replace(call.context, user_id="somebody", metadata={**call.context.metadata, "token": "t"})

        async def after(self, call: StageCall, output: Any) -> Any:
            return StringValue(value=output.value + "!" * 100)

    async with world() as w:
        agent = await w.agent("a")
        outcome = await w.runner(middleware=[Changed()]).run(await w.plan(stage("a")), X)
        execution = agent.seen[0]
        assert (execution.value, execution.context.user_id) == ("changed", "somebody")
        assert execution.context.metadata["token"] == "t"
        assert outcome.output == StringValue(value="changed>a" + "!" * 100)
        record = outcome.record.stages[0]
        assert record.output_bytes == outcome.output.ByteSize(), "the size is that of what went on"
        assert record.to_proto(1000).output[0].value == outcome.output.SerializeToString()
        assert not record.to_proto(50).output


async def test_an_empty_message_of_middleware_counts_as_an_output(world: Worlds) -> None:
    class Emptied(Middleware):
        async def after(self, call: StageCall, output: Any) -> Any:
            return StringValue()

    async with world() as w:
        await w.agent("a")
        outcome = await w.runner(middleware=[Emptied()]).run(await w.plan(stage("a")), X)
        assert outcome.output == StringValue()


async def test_what_middleware_refuses_is_not_sent_and_is_the_stages_failure(world: Worlds) -> None:
    class Guard(Middleware):
        async def before(self, call: StageCall) -> None:
            raise PermissionDenied("not you")

    async with world() as w:
        agent = await w.agent("a")
        runner = w.runner(middleware=[Guard()])
        with pytest.raises(RunFailed) as caught:
            await runner.run(await w.plan(stage("a")), X)
        assert agent.seen == []
        assert (caught.value.failed_stage, caught.value.failed_with) == ("a", "PERMISSION_DENIED")
        outcome = await runner.run(await w.plan(stage("a", on_error="skip")), X)
        assert outcome.output == X, "on_error has its say of it"


@pytest.mark.parametrize("where", ["before", "after", "error"])
async def test_a_mistake_in_middleware_is_the_stages_failure_under_its_name(world: Worlds, where: str) -> None:
    async def mistaken(*_: Any) -> None:
        raise KeyError("what")

    async with world() as w:
        await w.agent("a", broken if where == "error" else None)
        middleware = type("Mistaken", (Middleware,), {where: mistaken})()
        with pytest.raises(RunFailed) as caught:
            await w.runner(middleware=[middleware]).run(await w.plan(stage("a")), X)
        assert caught.value.failed_with == "AGENT_CRASHED"
        assert "middleware Mistaken raised KeyError: 'what'" in str(caught.value)


async def test_an_output_of_another_type_from_middleware_is_refused(world: Worlds) -> None:
    class Wrong(Middleware):
        async def after(self, call: StageCall, output: Any) -> Any:
            return Int64Value(value=1)

    async with world() as w:
        await w.agent("a")
        with pytest.raises(RunFailed, match="middleware Wrong gave a Int64Value in place of "):
            await w.runner(middleware=[Wrong()]).run(await w.plan(stage("a")), X)


class Given:
    """A provider of one value, which counts how often it is asked."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.asked = 0

    async def provide(self, run: RunRecord) -> Any:
        self.asked += 1
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


async def test_values_of_providers_travel_and_resources_stay(world: Worlds) -> None:
    seen: list[Any] = []

    class Reads(Middleware):
        async def before(self, call: StageCall) -> None:
            seen.append(call.resources)

    async with world() as w:
        agent = await w.agent("a")
        resource = object()
        providers = {
            "tenant": Given("acme"),
            "limits": Given({"a": [1, None]}),
            "n": Given(5),
            "db": Given(resource),
            "unasked": Given(1),
        }
        plan = await w.plan(
            stage("a"),
            stage("b", agent="a"),
            providers=["tenant", "limits", "n", "db"],
            context={"team": "search", "size": 3},
        )
        await w.runner(providers=providers, middleware=[Reads()]).run(
            plan, X, context=Context(metadata={"caller": "c"}, user_id="u", session_id="s")
        )
        for execution in agent.seen:
            assert dict(execution.context.metadata) == {
                "caller": "c",
                "team": "search",
                "size": "3",
                "tenant": "acme",
                "limits": '{"a": [1, null]}',
                "n": "5",
            }
            assert (execution.context.user_id, execution.context.session_id) == ("u", "s")
        assert seen == [{"db": resource}, {"db": resource}]
        assert [provider.asked for provider in providers.values()] == [1, 1, 1, 1, 0], "once for a run"


@pytest.mark.parametrize(
    ("providers", "said"),
    [
        ({}, "declares the context provider 'db', which the runner was not given; make it Runner(mesh, providers="),
        ({"db": Given(ValueError("no db"))}, "context provider db raised ValueError: no db"),
        ({"db": Given(InvalidArgument("own words"))}, "own words"),
        ({"db": Given({"x": object()})}, "context value 'db' cannot travel: Object of type object is not JSON"),
        ({"db": Given("x" * 5000)}, "context value 'db' has more than 4096 bytes"),
    ],
)
async def test_a_provider_that_is_missing_or_fails_fails_the_run_before_any_stage(
    world: Worlds, providers: dict[str, Any], said: str
) -> None:
    async with world() as w:
        agent = await w.agent("a")
        with pytest.raises(RunFailed) as caught:
            await w.runner(providers=providers).run(await w.plan(stage("a"), providers=["db"]), X)
        assert said in str(caught.value)
        assert caught.value.failed_stage == ""
        assert agent.seen == []
        assert [entry.stage for entry in caught.value.run.log] == [""]


async def test_observers_are_told_of_everything_and_break_nothing(
    world: Worlds, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    class Watches(RunObserver):
        def run_started(self, run: RunRecord) -> None:
            told.append(f"run {run.status.name}")

        def stage_ended(self, run: RunRecord, stage: StageRecord) -> None:
            told.append(f"{stage.stage} {stage.status.name}")

        def run_ended(self, run: RunRecord) -> None:
            told.append(f"run {run.status.name}")

    class Broken(RunObserver):
        def run_started(self, run: RunRecord) -> None:
            raise RuntimeError("mine")

        def stage_ended(self, run: RunRecord, stage: StageRecord) -> None:
            raise RuntimeError("mine")

        def run_ended(self, run: RunRecord) -> None:
            raise RuntimeError("mine")

    async with world() as w:
        for name in "abc":
            await w.agent(name, broken if name == "b" else None)
        runner = w.runner(observers=[Broken(), Watches()])
        plan = await w.plan(stage("a"), stage("b", on_error="skip"), stage("c", when="false"), output="$a")
        await runner.run(plan, X)
        assert told == ["run RUNNING", "a SUCCESS", "b SKIPPED", "c OMITTED", "run PARTIAL"]
    complaints = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(complaints) == 5
    assert all("Broken." in complaint for complaint in complaints)


async def test_a_listener_that_raises_breaks_nothing(world: Worlds, caplog: pytest.LogCaptureFixture) -> None:
    def listener(event: Any) -> None:
        raise RuntimeError("mine")

    async with world() as w:
        await w.agent("a")
        outcome = await w.runner().run(await w.plan(stage("a")), X, listener=listener)
        assert outcome.output.value == "x>a"
    assert any("who follows run" in record.message for record in caplog.records)


async def test_metrics_count_runs_stages_and_attempts_by_how_they_ended(world: Worlds) -> None:
    async with world() as w:
        await w.agent("a")
        await w.agent("b", broken)
        registry = CollectorRegistry()
        runner = w.runner(metrics=PipelineMetrics(registry))
        fails = await w.plan(stage("a"), stage("b"))
        skips = await w.plan(stage("a"), stage("b", on_error="skip"))
        await runner.run(skips, X)
        for _ in range(2):
            with pytest.raises(RunFailed):
                await runner.run(fails, X)

        def count(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(f"atomesh_pipeline_{name}", {"pipeline": "p", **labels})

        assert count("runs_total", status="partial") == 1
        assert count("runs_total", status="failed") == 2
        assert count("stages_total", stage="a", status="success") == 3
        assert count("stages_total", stage="b", status="failed") == 2
        assert count("stages_total", stage="b", status="skipped") == 1
        assert count("attempts_total", stage="b") == 3
        assert count("run_seconds_count") == 3
        assert count("stage_seconds_count", stage="a") == 3
        assert count("running") == 0


@pytest.mark.parametrize("where", ["before", "after", "provider"])
async def test_an_authors_code_that_hangs_ends_with_the_run(world: Worlds, where: str) -> None:
    async def hang(*_: Any) -> None:
        await w.clock.sleep(1e6)

    hanging = type("Hanging", (Middleware,), {} if where == "provider" else {where: hang})()
    provider = type("Hangs", (), {"provide": hang})()
    async with world() as w:
        await w.agent("a")
        runner = w.runner(middleware=[hanging], providers={"db": provider})
        plan = await w.plan(stage("a"), providers=["db"] if where == "provider" else [])
        begun = w.clock.now()
        with pytest.raises(RunFailed) as caught:
            await runner.run(plan, X, timeout=7.0)
        assert w.clock.now() - begun == pytest.approx(7.0, abs=0.1)
        assert caught.value.failed_with == "DEADLINE_EXCEEDED"


async def test_middleware_is_told_of_a_run_that_is_out_of_time(world: Worlds) -> None:
    told: list[str] = []

    class Told(Middleware):
        async def error(self, call: StageCall, error: AtomeshError) -> None:
            await w.clock.sleep(0.5)
            told.append(error.reason)

    async with world() as w:
        await w.agent("a", seconds=100.0)
        with pytest.raises(RunFailed):
            await w.runner(middleware=[Told()]).run(await w.plan(stage("a")), X, timeout=7.0)
        assert told == ["DEADLINE_EXCEEDED"]


async def test_an_authors_own_timeout_is_a_mistake_of_the_author(world: Worlds) -> None:
    class Impatient(Middleware):
        async def before(self, call: StageCall) -> None:
            raise TimeoutError("mine")

    async with world() as w:
        await w.agent("a")
        with pytest.raises(RunFailed, match="middleware Impatient raised TimeoutError: mine"):
            await w.runner(middleware=[Impatient()]).run(await w.plan(stage("a")), X)
