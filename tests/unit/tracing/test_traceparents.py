"""What joins spans into a trace, and what becomes of it: hostile, unsampled, or with nobody who records."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import Int32Value, StringValue
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from atomesh.core import Context, Contract, StreamContract
from atomesh.core.tracing import SpanKind
from atomesh.rpc.tracing import OtelTracer

Opening = Callable[[], Any]
COUNTER = StreamContract("counter", Int32Value, Int32Value, chunk=StringValue)
A = Contract("a", StringValue, StringValue)
X = StringValue(value="x")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01", f"00-{TRACE}-00f067aa0ba902b7-00"
WELL_FORMED = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]")

ways = pytest.mark.parametrize("mux", [True, False], ids=["mux", "unary"])

HOSTILE = {
    "no traceparent": "hello",
    "all zeros": f"00-{'0' * 32}-{'0' * 16}-01",
    "no trace": f"00-{'0' * 32}-00f067aa0ba902b7-01",
    "no parent": f"00-{TRACE}-{'0' * 16}-01",
    "upper case": SAMPLED.upper(),
    "a version that is forbidden": f"ff{SAMPLED[2:]}",
    "more than its version has": f"{SAMPLED}-and-more",
    "too short": SAMPLED[:-1],
    "not hex": SAMPLED.replace("4bf", "xyz"),
    "digits of another script": SAMPLED.replace("00-", "٠٠-", 1),
    "a line break": SAMPLED.replace("-01", "\r\n-01"),
    "control characters": "\x00\x1b[2J",
    "as long as may be": "0" * 128,
}


@ways
@pytest.mark.parametrize("given", HOSTILE.values(), ids=HOSTILE)
async def test_what_is_no_traceparent_begins_a_trace_and_harms_no_call(world: Opening, given: str, mux: bool) -> None:
    async with world() as w:
        agent = await w.agent("a")
        mesh = await w.client(agent, mux=mux)
        assert await mesh.call(A, X, context=Context(traceparent=given)) == X
        assert w.spans.tree() == ["call a", "  attempt a", "    execute a"]
        (began,) = w.spans.traces
        assert int(began, 16)
        assert w.spans.one("call a").parent is None
        assert WELL_FORMED.fullmatch(agent.seen[0].traceparent), "nothing hostile goes on"


@pytest.mark.parametrize("given", HOSTILE.values(), ids=HOSTILE)
async def test_an_endpoint_does_not_believe_its_callers_either(world: Opening, given: str) -> None:
    async with world() as w:
        agent = await w.agent("a")
        execute = await w.stock(agent)
        await execute("x", traceparent=given)
        assert w.spans.one("execute a").parent is None
        assert WELL_FORMED.fullmatch(agent.seen[0].traceparent)


async def test_a_version_that_is_to_come_is_read_as_far_as_it_is_known(world: Opening) -> None:
    async with world() as w:
        mesh = await w.client(await w.agent("a"))
        await mesh.call(A, X, context=Context(traceparent=f"cc{SAMPLED[2:]}-what-comes-then"))
        assert w.spans.traces == {TRACE}, "W3C Trace Context, 4.3: versions are compatible forwards"


@ways
@pytest.mark.parametrize("given", [SAMPLED, UNSAMPLED, "", *HOSTILE.values()])
async def test_without_tracing_what_came_goes_on_as_it_came(world: Opening, given: str, mux: bool) -> None:
    async with world() as w:
        agent = await w.agent("a", tracer=None)
        mesh = await w.client(agent, mux=mux, tracer=None)
        await mesh.call(A, X, context=Context(traceparent=given))
        assert agent.seen[0].traceparent == given
        assert w.spans.all == []


async def test_without_tracing_it_goes_on_through_agents_and_streams(world: Opening, counting: Any) -> None:
    async with world() as w:
        inner = await w.agent("a", tracer=None)
        nested = await w.client(inner, tracer=None)

        async def work(*_: Any) -> None:
            await nested.call(A, X)
            await nested.call(A, X, context=Context(user_id="somebody else"))

        middle = await w.agent("middle", work, tracer=None)
        mesh = await w.client(middle, tracer=None)
        await mesh.call("middle", X, context=Context(traceparent=SAMPLED))
        assert [context.traceparent for context in inner.seen] == [SAMPLED] * 2


@ways
async def test_a_trace_that_is_not_sampled_stays_so_and_leaves_no_span(world: Opening, mux: bool) -> None:
    async with world() as w:
        agent = await w.agent("a")
        mesh = await w.client(agent, mux=mux)
        await mesh.call(A, X, context=Context(traceparent=UNSAMPLED))
        assert w.spans.all == []
        seen = agent.seen[0].traceparent
        assert (seen[3:35], seen[-2:]) == (TRACE, "00"), "the agents behind are told of the trace, and not to sample it"


@ways
async def test_where_a_trace_begins_it_is_decided_whether_it_is_sampled(world: Opening, spans: Any, mux: bool) -> None:
    async with world() as w:
        agent = await w.agent("a")  # it would sample all
        none = spans(w.clock, ratio=0)
        mesh = await w.client(agent, mux=mux, tracer=none.tracer)
        for _ in range(20):
            await mesh.call(A, X)
        assert none.all == w.spans.all == []
        traced = {context.traceparent[3:35] for context in agent.seen}
        assert len(traced) == 20, "each is a trace, for logs"
        assert {int(context.traceparent[-2:], 16) & 1 for context in agent.seen} == {0}


async def test_a_ratio_samples_that_share_of_whole_traces(world: Opening, spans: Any) -> None:
    async with world() as w:
        some = spans(w.clock, ratio=0.25)
        mesh = await w.client(await w.agent("a"), tracer=some.tracer)
        for _ in range(400):
            await mesh.call(A, X)
        sampled = len(some.named("call a"))
        assert 50 < sampled < 150, "binomial: 100 of 400, and 50 away is more than five standard deviations"
        assert len(some.named("attempt a")) == len(w.spans.named("execute a")) == sampled
        assert some.traces == w.spans.traces


@ways
async def test_spans_of_the_authors_own_are_in_the_tree_where_they_belong(world: Opening, mux: bool) -> None:
    async with world() as w:
        own = w.spans.provider.get_tracer("the author's")
        inner = await w.agent("a")
        nested = await w.client(inner, mux=mux)

        async def work(*_: Any) -> None:
            with own.start_as_current_span("look up", start_time=int(w.clock.wall() * 1e9)) as span:
                await w.clock.sleep(0.001)
                await nested.call(A, X)
                await w.clock.sleep(0.001)
                span.end(int(w.clock.wall() * 1e9))

        mesh = await w.client(await w.agent("outer", work), mux=mux)
        with own.start_as_current_span("request", start_time=int(w.clock.wall() * 1e9)):
            await w.clock.sleep(0.001)
            await mesh.call("outer", X)
        way = ["request", "call outer", "attempt outer", "execute outer", "look up", "call a", "attempt a", "execute a"]
        assert w.spans.tree() == ["  " * depth + name for depth, name in enumerate(way)]


@pytest.mark.parametrize("given", [SAMPLED, UNSAMPLED])
async def test_whoever_enters_a_span_leaves_it_at_its_end(world: Opening, given: str) -> None:
    async with world() as w:
        span = w.spans.tracer.begin("work", SpanKind.SERVER, given, {})
        span.enter()
        assert f"{trace.get_current_span().get_span_context().trace_id:032x}" == TRACE
        span.end()
        assert trace.get_current_span() is trace.INVALID_SPAN


async def test_what_is_not_sampled_is_the_current_span_of_the_authors_code_too(world: Opening) -> None:
    async with world() as w:
        own = w.spans.provider.get_tracer("the author's")

        async def work(*_: Any) -> None:
            with own.start_as_current_span("look up"):
                pass

        mesh = await w.client(await w.agent("a", work))
        await mesh.call(A, X, context=Context(traceparent=UNSAMPLED))
        assert w.spans.all == [], "or an author's instrumentation would begin a trace for each execution"


async def test_an_endpoint_has_nothing_to_do_with_the_span_in_which_it_was_started(world: Opening) -> None:
    async with world() as w:
        with w.spans.provider.get_tracer("the author's").start_as_current_span("start up"):
            agent = await w.agent("a")
        execute = await w.stock(agent)
        await execute("x")
        assert w.spans.one("execute a").parent is None


async def test_a_wall_clock_that_jumps_stretches_no_span(world: Opening, spans: Any) -> None:
    class Jumping:
        def __init__(self, clock: Any) -> None:
            self.now, self.sleep, self.jump, self._clock = clock.now, clock.sleep, 0.0, clock

        def wall(self) -> float:
            return float(self._clock.wall() + self.jump)

    async with world() as w:
        clock = Jumping(w.clock)
        kept = spans(clock)
        span = kept.tracer.begin("work", SpanKind.INTERNAL, "", {})
        await w.clock.sleep(2.0)
        clock.jump = -3600.0
        span.end()
        (ended,) = kept.all
        assert ended.end_time - ended.start_time == pytest.approx(2e9, abs=1e3)


async def test_without_a_ratio_the_providers_own_sampler_is_asked_for_each(world: Opening) -> None:
    class Picky(Sampler):
        """Samples executions, whatever was decided before."""

        def should_sample(self, parent_context: Any, trace_id: int, name: str, *more: Any, **rest: Any) -> Any:
            wanted = name.startswith("execute")
            return SamplingResult(Decision.RECORD_AND_SAMPLE if wanted else Decision.DROP)

        def get_description(self) -> str:
            return "picky"

    async with world() as w:
        provider = TracerProvider(sampler=Picky(), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(w.spans.kept))
        tracer = OtelTracer(provider, clock=w.clock)
        mesh = await w.client(await w.agent("a", tracer=tracer), tracer=tracer)
        await mesh.call(A, X, context=Context(traceparent=UNSAMPLED))
        assert w.spans.tree() == ["execute a"]
        assert w.spans.traces == {TRACE}


class Broken(SpanProcessor):
    """Fails at a span's beginning, or at its end."""

    def __init__(self, at: str) -> None:
        self.at = at

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self.at == "start":
            raise ZeroDivisionError(self.at)

    def on_end(self, span: Any) -> None:
        if self.at == "end":
            raise ZeroDivisionError(self.at)


@ways
@pytest.mark.parametrize("at", ["start", "end"])
async def test_a_provider_that_fails_costs_spans_and_no_call_nor_slot(
    world: Opening, caplog: pytest.LogCaptureFixture, at: str, mux: bool
) -> None:
    async with world() as w:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(Broken(at))
        tracer = OtelTracer(provider, clock=w.clock)
        agent = await w.agent("a", tracer=tracer, slots=1)
        mesh = await w.client(agent, mux=mux, tracer=tracer)
        for _ in range(3):
            assert await mesh.call(A, X, context=Context(traceparent=SAMPLED)) == X
        assert {context.traceparent[3:35] for context in agent.seen} == {TRACE}
        assert {record.name for record in caplog.records} == {"atomesh.rpc.tracing"}


@ways
@pytest.mark.parametrize("given", ["", SAMPLED, UNSAMPLED])
async def test_a_provider_that_is_switched_off_lets_a_traceparent_pass(world: Opening, given: str, mux: bool) -> None:
    async with world() as w:
        tracer = OtelTracer(trace.NoOpTracerProvider(), clock=w.clock)
        agent = await w.agent("a", tracer=tracer)
        mesh = await w.client(agent, mux=mux, tracer=tracer)
        await mesh.call(A, X, context=Context(traceparent=given))
        assert agent.seen[0].traceparent == given
