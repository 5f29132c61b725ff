"""Spans of runs: the run, its stages in it, and the calls of each stage in that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from atomesh.agents import AgentFailed, ExecutionContext
from atomesh.core import Context
from atomesh.core.context import enter
from atomesh.pipelines import RunFailed
from atomesh.pipelines.errors import RunCancelled
from atomesh.pipelines.store import MemoryStore
from atomesh.rpc.tracing import OtelTracer
from atomesh.testing import VirtualClock

Opening = Callable[..., Any]
Tree: TypeAlias = dict[str, Any]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CONTEXT = Context("r", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")

X = StringValue(value="x")


def stage(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "agent": name, **more}


class Kept:
    """A tracer, and its spans as a tree."""

    def __init__(self, clock: VirtualClock) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = OtelTracer(provider, clock=clock)

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def below(self, parent: int | None = None) -> Tree:
        """What began under a span, by name; None is the parent that is elsewhere."""
        own = {span.context.span_id for span in self.spans}
        found: Tree = {}
        for span in self.spans:
            above = span.parent.span_id if span.parent is not None and span.parent.span_id in own else None
            if above == parent:
                name = f"{span.name}: {span.status.description}" if span.status.description else span.name
                found[name if name not in found else f"{name} again"] = self.below(span.context.span_id)
        return found

    def about(self, name: str) -> dict[str, Any]:
        (span,) = (span for span in self.spans if span.name == name)
        return dict(span.attributes or {})


def attempted(agent: str) -> Tree:
    return {f"call {agent}": {f"attempt {agent}": {}}}


@pytest.fixture
def kept(virtual_clock: VirtualClock) -> Kept:
    return Kept(virtual_clock)


async def test_a_run_of_three_stages_is_one_trace(world: Opening, kept: Kept) -> None:
    async with world(tracer=kept.tracer) as w:
        for name in ("a", "b", "c"):
            await w.agent(name, seconds=0.1)
        plan = await w.plan(stage("a"), stage("b"), stage("c"))
        outcome = await w.runner(tracer=kept.tracer).run(plan, X, context=CONTEXT)
        assert outcome.output.value == "x>a>b>c"
        stages = {f"stage {name}": attempted(name) for name in ("a", "b", "c")}
        assert kept.below() == {"run p": stages}
        assert {f"{span.context.trace_id:032x}" for span in kept.spans} == {TRACE}
        run = kept.about("run p")
        assert run == {
            "atomesh.pipeline": "p",
            "atomesh.version": plan.spec.version,
            "atomesh.run_id": outcome.record.id,
            "atomesh.request_id": "r",
            "atomesh.status": "SUCCESS",
        }
        about = kept.about("stage b")
        known = {"atomesh.run_id": outcome.record.id, "atomesh.stage": "b", "atomesh.agent": "b"}
        assert about.items() >= (known | {"atomesh.attempts": 1, "atomesh.status": "SUCCESS"}).items()


async def test_branches_and_items_are_each_where_they_belong(world: Opening, kept: Kept) -> None:
    async with world(tracer=kept.tracer) as w:
        for name in ("a", "b", "c"):
            await w.agent(name, seconds=0.1)
        plan = await w.plan(
            stage("a"),
            stage("b", input="$a"),
            stage("c", map={"$cel": "[a, a]"}, input={"value": "$item"}),
        )
        await w.runner(tracer=kept.tracer).run(plan, X)
        twice: Tree = {"call c": {"attempt c": {}}, "call c again": {"attempt c": {}}}
        stages = {"stage a": attempted("a"), "stage b": attempted("b"), "stage c": twice}
        assert kept.below() == {"run p": stages}
        assert kept.about("stage c").items() >= {"atomesh.items": 2, "atomesh.attempts": 2}.items()


async def test_a_stage_that_fails_says_how_often_it_was_tried_and_why(world: Opening, kept: Kept) -> None:
    async def broken(value: str, context: Any) -> None:
        raise AgentFailed(f"cannot {value}", reason="NO_TICKET")

    async with world(tracer=kept.tracer) as w:
        await w.agent("a")
        await w.agent("b", broken)
        await w.agent("c")
        plan = await w.plan(stage("a"), stage("b", attempts=2, idempotent=True), stage("c"))
        with pytest.raises(RunFailed):
            await w.runner(tracer=kept.tracer).run(plan, StringValue(value="secret"))
        failed: Tree = {"call b: NO_TICKET": {"attempt b: NO_TICKET": {}}}
        assert kept.below() == {"run p: NO_TICKET": {"stage a": attempted("a"), "stage b: NO_TICKET": failed}}
        assert kept.about("stage b").items() >= {"atomesh.attempts": 1, "atomesh.status": "FAILED"}.items()
        assert "secret" not in "".join(span.to_json() for span in kept.spans)


async def test_a_stage_that_is_left_out_and_one_that_is_skipped_are_no_errors(world: Opening, kept: Kept) -> None:
    async def broken(value: str, context: Any) -> None:
        raise AgentFailed("no", reason="NO_TICKET")

    async with world(tracer=kept.tracer) as w:
        await w.agent("a", broken)
        await w.agent("b")
        plan = await w.plan(
            stage("a", on_error="skip", default={"value": "none"}),
            stage("b", when="input == 'y'", default={"value": "unsaid"}),
            input_type="google.protobuf.StringValue",
        )
        await w.runner(tracer=kept.tracer).run(plan, X)
        failed: Tree = {"call a: NO_TICKET": {"attempt a: NO_TICKET": {}}}
        assert kept.below() == {"run p": {"stage a": failed, "stage b": {}}}
        said = [kept.about(f"stage {name}")["atomesh.status"] for name in ("a", "b")]
        assert said == ["SKIPPED", "OMITTED"]


async def test_a_cancelled_run_ends_all_that_is_open_in_it(world: Opening, kept: Kept) -> None:
    async with world(tracer=kept.tracer) as w:
        await w.agent("a", seconds=100.0)
        runner = w.runner(tracer=kept.tracer)
        running = asyncio.create_task(runner.run(await w.plan(stage("a")), X, run_id="one"))
        await w.clock.sleep(1)
        runner.cancel("one")
        with pytest.raises(RunCancelled):
            await running
        cancelled: Tree = {"call a: CANCELLED": {"attempt a: CANCELLED": {}}}
        assert kept.below() == {"run p: CANCELLED": {"stage a: CANCELLED": cancelled}}


async def test_what_undoes_a_stage_is_in_its_run(world: Opening, kept: Kept) -> None:
    async def broken(value: str, context: Any) -> None:
        raise AgentFailed("no", reason="NO_TICKET")

    async with world(tracer=kept.tracer) as w:
        await w.agent("a")
        await w.agent("b", broken)
        await w.agent("undo-a")
        plan = await w.plan(stage("a", undo={"agent": "undo-a", "input": "$a"}), stage("b", on_error="compensate"))
        with pytest.raises(RunFailed):
            await w.runner(tracer=kept.tracer).run(plan, X)
        (run,) = kept.below().values()
        assert list(run) == ["stage a", "stage b: NO_TICKET", "call undo-a"]


class KeptOutputs:
    """Checkpoints in memory, which outlive a runner."""

    def __init__(self) -> None:
        self.outputs: dict[str, bytes] = {}

    async def open(self) -> None:
        raise AssertionError("nothing to open")

    async def close(self) -> None:
        raise AssertionError("nothing to close")

    async def stage(self, run_id: str, key: str, work: Callable[[], Awaitable[bytes]], *, repeat: bool) -> bytes:
        if key not in self.outputs:
            self.outputs[key] = await work()
        return self.outputs[key]

    async def forget(self, run_id: str) -> None:
        self.outputs.clear()


async def test_a_run_that_is_resumed_is_a_span_beside_the_one_that_broke_off(world: Opening, kept: Kept) -> None:
    async with world(tracer=kept.tracer) as w:
        await w.agent("a")
        slow = await w.agent("b", seconds=5.0, idempotent=True)
        plan = await w.plan(stage("a"), stage("b"), durable=True)
        store, checkpoints = MemoryStore(), KeptOutputs()
        settings = {"tracer": kept.tracer, "store": store, "checkpoints": checkpoints}
        first = w.runner(**settings)
        running = asyncio.create_task(first.run(plan, X, run_id="one", context=CONTEXT))
        while not slow.seen:
            await w.clock.sleep(0.1)
        await first.close()
        await asyncio.gather(running, return_exceptions=True)
        await store.release("one", "")
        await w.runner(**settings).resume(plan, await store.claim("one", "second"))
        runs = [span for span in kept.spans if span.name == "run p"]
        assert [span.status.description for span in runs] == ["CANCELLED", None]
        assert {f"{span.parent.span_id:016x}" for span in runs if span.parent} == {CONTEXT.traceparent[36:52]}
        broken, resumed = (kept.below(span.context.span_id) for span in runs)
        assert list(broken) == ["stage a", "stage b: CANCELLED"]
        assert resumed == {"stage a": {}, "stage b": attempted("b")}, "what is finished is not called again"


async def test_a_run_inside_an_execution_goes_on_in_that_ones_trace(world: Opening, kept: Kept) -> None:
    async with world() as w:
        await w.agent("a")
        plan, runner = await w.plan(stage("a")), w.runner()  # neither knows of a tracer
        scope = ExecutionContext(CONTEXT, w.clock.now() + 10, "p")
        scope.tracer = kept.tracer
        with enter(scope):
            await runner.run(plan, X)
        assert kept.below() == {"run p": {"stage a": attempted("a")}}
        assert {f"{span.context.trace_id:032x}" for span in kept.spans} == {TRACE}
