"""Spans of calls: what is a child of what, over muxes and over unary calls alike, and how each ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import Int32Value, StringValue
from opentelemetry.trace import SpanKind, StatusCode

from atomesh.agents import AgentFailed
from atomesh.core import Context, Contract, StreamContract, errors

Opening = Callable[[], Any]
COUNTER = StreamContract("counter", Int32Value, Int32Value, chunk=StringValue)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"

ways = pytest.mark.parametrize("mux", [True, False], ids=["mux", "unary"])


def to(agent: str) -> Contract[StringValue, StringValue]:
    return Contract(agent, StringValue, StringValue)


X = StringValue(value="x")


@ways
async def test_a_call_has_its_attempt_and_that_its_execution(world: Opening, mux: bool) -> None:
    async with world() as w:
        agent = await w.agent("a", lambda *_: w.clock.sleep(0.25))
        mesh = await w.client(agent, mux=mux)
        await mesh.call(to("a"), X, context=Context("r", traceparent=PARENT))
        assert w.spans.tree() == ["call a", "  attempt a", "    execute a"]
        assert w.spans.traces == {TRACE}, "what came from elsewhere goes on in its trace"
        call, attempt, execution = (w.spans.one(f"{what} a") for what in ("call", "attempt", "execute"))
        assert f"{call.parent.span_id:016x}" == PARENT[36:52]
        assert [s.kind for s in (call, attempt, execution)] == [SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.SERVER]
        assert execution.end_time - execution.start_time == pytest.approx(0.25e9, abs=1e3)
        assert call.start_time <= attempt.start_time <= execution.start_time
        microsecond = 1000  # a float of seconds since 1970 is no finer
        assert execution.end_time <= attempt.end_time + microsecond <= call.end_time + 2 * microsecond
        assert {s.status.status_code for s in w.spans.all} == {StatusCode.UNSET}
        (address,) = agent.addresses
        host, _, port = address.rpartition(":")
        known: dict[str, Any] = {
            "rpc.system": "grpc",
            "rpc.service": "atomesh.v1.AgentService",
            "rpc.method": "Execute",
        }
        known |= {"rpc.grpc.status_code": 0, "atomesh.agent": "a", "atomesh.endpoint": address}
        known |= {"atomesh.request_id": "r"}
        assert attempt.attributes.items() >= (known | {"server.address": host, "server.port": int(port)}).items()
        assert attempt.attributes.items() >= {"atomesh.attempt": 1, "atomesh.cause": "first"}.items()
        assert execution.attributes.items() >= (known | {"atomesh.queue_wait": 0.0, "atomesh.in_flight": 1}).items()
        assert call.attributes.items() >= {"atomesh.attempts": 1, "atomesh.request_id": "r"}.items()


@ways
async def test_what_an_agent_sees_is_its_execution(world: Opening, mux: bool) -> None:
    async with world() as w:
        agent = await w.agent("a")
        mesh = await w.client(agent, mux=mux)
        await mesh.call(to("a"), X)
        execution, attempt = w.spans.one("execute a"), w.spans.one("attempt a")
        assert agent.seen[0].traceparent[36:52] == f"{execution.context.span_id:016x}"
        assert execution.parent.span_id == attempt.context.span_id, "an endpoint is told of the attempt, not the call"


@ways
async def test_calls_made_in_an_execution_are_its_children_whether_or_not_the_client_knows_of_tracing(
    world: Opening, mux: bool
) -> None:
    async with world() as w:
        inner = await w.agent("inner")
        nested = [await w.client(inner, mux=mux, tracer=tracer) for tracer in (True, None)]

        async def work(value: str, _: Any) -> None:
            for client in nested:
                await client.call(to("inner"), X)
            await nested[0].call(to("inner"), X, context=Context(user_id="somebody else"))

        mesh = await w.client(await w.agent("outer", work), mux=mux)
        await mesh.call(to("outer"), X)
        child = ["      call inner", "        attempt inner", "          execute inner"]
        assert w.spans.tree() == ["call outer", "  attempt outer", "    execute outer", *child * 3]
        assert len(w.spans.traces) == 1


@ways
async def test_a_call_that_is_tried_again_has_sibling_attempts_that_say_why(world: Opening, mux: bool) -> None:
    async with world() as w:
        left = ["again", "again"]

        async def work(*_: Any) -> None:
            if left:
                raise AgentFailed("not yet", reason="NOT_YET", retryable=True) if left.pop() else AssertionError

        mesh = await w.client(await w.agent("a", work, copies=2), mux=mux)
        await mesh.call(to("a"), X, idempotent=True)
        failed = ["  attempt a: NOT_YET", "    execute a: NOT_YET"]
        assert w.spans.tree() == ["call a", *failed, *failed, "  attempt a", "    execute a"]
        attempts = [span.attributes for span in w.spans.named("attempt a")]
        assert [(a["atomesh.attempt"], a["atomesh.cause"], a.get("atomesh.after")) for a in attempts] == [
            (1, "first", None),
            (2, "retry", "NOT_YET"),
            (3, "retry", "NOT_YET"),
        ]
        assert attempts[0]["atomesh.reason"] == attempts[0]["error.type"] == "NOT_YET"
        assert attempts[0]["atomesh.executed"] is True
        assert w.spans.one("call a").attributes["atomesh.attempts"] == 3


async def test_what_is_refused_unexecuted_shows_as_an_attempt_and_costs_the_endpoint_nothing(world: Opening) -> None:
    async with world() as w:
        done = asyncio.Event()
        agent = await w.agent("a", lambda *_: done.wait(), copies=2, slots=1)
        other = await w.client(agent, mux=False, tracer=None)
        mesh = await w.client(agent, mux=False, policy="round_robin")
        await mesh.meet("a")
        holding = asyncio.create_task(other.call(to("a"), X))
        while not agent.seen:
            await w.clock.sleep(0.01)
        taken = agent.seen[0].context
        assert taken.traceparent[:3] == "00-", "an endpoint that is traced begins a trace where its caller is not"
        calls = [asyncio.create_task(mesh.call(to("a"), X)) for _ in range(2)]
        await w.clock.sleep(0.5)
        done.set()
        await asyncio.gather(*calls, holding)
        attempts = w.spans.named("attempt a")
        refused = [span for span in attempts if span.status.description == "NO_FREE_SLOT"]
        assert refused, "a call met the endpoint that was full"
        assert {span.attributes["atomesh.executed"] for span in refused} == {False}
        assert {s.attributes["atomesh.cause"] for s in attempts} >= {"first", "elsewhere"}
        assert len(w.spans.named("execute a")) == 3, "what was refused has no span where it was refused"
        assert {s.status.status_code for s in w.spans.named("call a")} == {StatusCode.UNSET}


@ways
async def test_an_attempt_says_what_was_waited_before_it_and_no_more(world: Opening, mux: bool) -> None:
    async with world() as w:
        failed: list[str] = []

        async def work(value: str, _: Any) -> None:
            await w.clock.sleep(1.0)
            if value == "fails once" and not failed:
                failed.append(value)
                raise AgentFailed("not yet", reason="NOT_YET", retryable=True)

        mesh = await w.client(await w.agent("a", work, slots=1), mux=mux)
        await mesh.meet("a")
        first = asyncio.create_task(mesh.call(to("a"), X))
        await w.clock.sleep(0.1)
        await mesh.call(to("a"), StringValue(value="fails once"), context=Context("second"), idempotent=True)
        await first
        attempts = [s.attributes for s in w.spans.named("attempt a")]
        waits = [a["atomesh.queue_wait"] for a in attempts if a["atomesh.request_id"] == "second"]
        (call,) = (s.attributes for s in w.spans.named("call a") if s.attributes["atomesh.request_id"] == "second")
        assert max(waits[:-1]) == pytest.approx(0.9, abs=0.1)
        assert waits[-1] == pytest.approx(0.0, abs=0.1), "the slot was free when it was tried again"
        assert sum(waits) == pytest.approx(call["atomesh.queue_wait"])


@ways
async def test_a_wait_for_a_slot_is_in_the_call_and_said_by_the_attempt(world: Opening, mux: bool) -> None:
    async with world() as w:
        agent = await w.agent("a", lambda *_: w.clock.sleep(1.0), slots=1)
        mesh = await w.client(agent, mux=mux)
        await mesh.meet("a")
        await asyncio.gather(*(mesh.call(to("a"), X) for _ in range(2)))
        second = w.spans.named("attempt a")[-1]
        waited = max(s.attributes["atomesh.queue_wait"] for s in w.spans.named("call a"))
        assert waited == pytest.approx(1.0, abs=0.1)
        assert second.attributes["atomesh.queue_wait"] == pytest.approx(1.0, abs=0.1)


async def test_a_wait_at_the_endpoint_is_in_the_execution(world: Opening) -> None:
    async with world() as w:
        agent = await w.agent("a", lambda *_: w.clock.sleep(0.5), slots=1)
        execute = await w.stock(agent)
        await asyncio.gather(*(execute("x") for _ in range(2)))
        first, second = w.spans.named("execute a")
        waits = sorted(s.attributes["atomesh.queue_wait"] for s in (first, second))
        assert waits == [0.0, pytest.approx(0.5, abs=0.05)]
        lasted = sorted(s.end_time - s.start_time for s in (first, second))
        assert lasted == [pytest.approx(0.5e9, rel=0.1), pytest.approx(1e9, rel=0.1)], "it began when the call came"


@ways
async def test_a_hedge_is_an_attempt_beside_the_first_and_the_one_that_loses_is_cancelled(
    world: Opening, mux: bool
) -> None:
    async with world() as w:
        slow: list[str] = []

        async def work(_: str, context: Any) -> None:
            await w.clock.sleep(10.0 if context.instance_id in slow else 0.01)

        agent = await w.agent("a", work, copies=2, idempotent=True)
        mesh = await w.client(agent, mux=mux, hedge=True, policy="round_robin")
        for _ in range(60):
            await mesh.call(to("a"), X)
        assert {s.attributes["atomesh.cause"] for s in w.spans.named("attempt a")} == {"first"}
        slow.append(agent.seen[-2].instance_id)  # whose turn it is
        before = len(w.spans.all)
        await mesh.call(to("a"), X, context=Context("hedged"))
        await w.clock.sleep(0.1)
        made = [s for s in w.spans.all[before:] if s.name == "attempt a"]
        assert {(s.attributes["atomesh.cause"], s.status.description) for s in made} == {
            ("first", "CANCELLED"),
            ("hedge", None),
        }
        assert len({s.parent.span_id for s in made}) == 1, "they are siblings"
        executions = [s for s in w.spans.all[before:] if s.name == "execute a"]
        assert sorted(str(s.status.description) for s in executions) == ["CANCELLED", "None"]


@ways
async def test_a_call_whose_caller_goes_away_ends_cancelled_all_the_way_down(world: Opening, mux: bool) -> None:
    async with world() as w:
        mesh = await w.client(await w.agent("a", lambda *_: w.clock.sleep(100)), mux=mux)
        call = asyncio.create_task(mesh.call(to("a"), X))
        await w.clock.sleep(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await w.clock.sleep(1)
        assert w.spans.tree() == ["call a: CANCELLED", "  attempt a: CANCELLED", "    execute a: CANCELLED"]


@ways
async def test_a_call_that_fails_has_the_reason_and_nothing_that_anybody_said(world: Opening, mux: bool) -> None:
    async with world() as w:

        async def work(value: str, _: Any) -> None:
            raise AgentFailed(f"cannot do {value}", reason="NO_TICKET", details={"what": value})

        mesh = await w.client(await w.agent("a", work), mux=mux)
        with pytest.raises(AgentFailed) as failed:
            await mesh.call(to("a"), StringValue(value="the secret"))
        assert w.spans.tree() == ["call a: NO_TICKET", "  attempt a: NO_TICKET", "    execute a: NO_TICKET"]
        for span in w.spans.all:
            assert span.status.status_code is StatusCode.ERROR
            assert span.attributes["rpc.grpc.status_code"] == int(failed.value.code)
            assert "secret" not in span.to_json(), "no input is in a span, nor a message that may quote one"


@ways
async def test_an_agent_that_crashes_and_one_that_is_late_say_so(world: Opening, mux: bool) -> None:
    async with world() as w:

        async def work(value: str, _: Any) -> None:
            if value == "crash":
                raise ZeroDivisionError(value)
            await w.clock.sleep(100)

        mesh = await w.client(await w.agent("a", work), mux=mux)
        with pytest.raises(errors.AgentCrashed):
            await mesh.call(to("a"), StringValue(value="crash"))
        with pytest.raises(errors.DeadlineExceeded):
            await mesh.call(to("a"), X, timeout=1.0)
        await w.clock.sleep(1)
        ends = [[s.status.description for s in w.spans.named(f"{what} a")] for what in ("call", "attempt", "execute")]
        assert ends == [["AGENT_CRASHED", "DEADLINE_EXCEEDED"]] * 3


async def test_a_call_that_never_leaves_is_a_span_all_the_same(world: Opening) -> None:
    async with world() as w:
        mesh = await w.client(await w.agent("a"))
        with pytest.raises(errors.UnknownAgent):
            await mesh.call("nobody", X)
        assert w.spans.tree() == ["call nobody: UNKNOWN_AGENT"]


async def test_a_stream_is_traced_as_a_call_is(world: Opening, counting: Any) -> None:
    async with world() as w:
        mesh = await w.client(await w.serve(counting()))
        async with mesh.stream(COUNTER, Int32Value(value=3)) as stream:
            assert [chunk.value async for chunk in stream] == ["0", "1", "2"]
        assert w.spans.tree() == ["call counter", "  attempt counter", "    execute counter"]
        methods = {s.attributes.get("rpc.method") for s in w.spans.all}
        assert methods == {None, "ExecuteStream"}


async def test_a_stream_that_is_left_early_is_cancelled(world: Opening, counting: Any) -> None:
    async with world() as w:
        mesh = await w.client(await w.serve(counting()))
        async with mesh.stream(COUNTER, Int32Value(value=100_000)) as stream:
            await anext(stream)
        await w.clock.sleep(1)
        line = ["call counter", "  attempt counter", "    execute counter"]
        assert w.spans.tree() == [f"{what}: CANCELLED" for what in line]
