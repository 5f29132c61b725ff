"""Spans over OTLP: once each, all at the end, and a collector that is away disturbs nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.agents.builtin.text.agent import TextProcessor
from atomesh.balancer import Client
from atomesh.core import Contract
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import InvalidArgument
from atomesh.core.tracing import SpanKind
from atomesh.rpc.otlp import FLUSH_SECONDS, open_otlp
from atomesh.text.v1 import text_pb2, text_pb2_grpc

Collecting = Callable[[], AbstractAsyncContextManager[Any]]
ECHO = Contract("echo", StringValue, StringValue)
X = StringValue(value="x")


class Echo(Agent[StringValue, StringValue]):
    name = "echo"

    async def execute(self, input: StringValue, context: ExecutionContext, /) -> StringValue:
        return input


@pytest.mark.parametrize("mux", [True, False], ids=["mux", "unary"])
async def test_a_collector_is_given_the_tree_of_a_call(collector: Collecting, mux: bool) -> None:
    async with collector() as c:
        async with (
            open_otlp(c.url, service="caller") as here,
            open_otlp(c.url, service="server") as there,
            AgentServer(Echo(), tracer=there) as server,
            Client(endpoints=[server.address], tracer=here, mux=mux) as mesh,
        ):
            await mesh.call(ECHO, X)
        assert c.tree() == ["call echo", "  attempt echo", "    execute echo"], "what is left goes out at the end"
        assert [(s.service, s.kind) for name in ("call", "attempt", "execute") for s in c.named(f"{name} echo")] == [
            ("caller", 1),
            ("caller", 3),
            ("server", 2),
        ]
        (execution,) = c.named("execute echo")
        assert execution.attributes["rpc.grpc.status_code"] == 0
        assert execution.attributes["atomesh.endpoint"] == server.address


async def test_a_stock_client_at_the_typed_door_is_a_parent_by_its_header(collector: Collecting) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    async with collector() as c:
        async with (
            open_otlp(c.url, service="server", ratio=0) as tracer,
            AgentServer(TextProcessor(), tracer=tracer) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            execute = text_pb2_grpc.TextProcessorServiceStub(channel).Execute
            header = ("traceparent", f"00-{trace}-{parent}-01")
            given = text_pb2.TextInput(content="It works.", operation="sentiment")
            await execute(given, metadata=(header, ("tracestate", "vendor=1")), timeout=10)
            await execute(given, timeout=10)
        (span,) = c.spans
        assert (span.trace, span.parent) == (trace, parent), "what is sampled elsewhere is here, whatever the ratio"
        assert span.attributes["rpc.service"] == "atomesh.text.v1.TextProcessorService"


async def test_every_span_is_exported_once(collector: Collecting) -> None:
    async with collector() as c:
        async with (
            open_otlp(c.url, service="all") as tracer,
            AgentServer(Echo(), tracer=tracer, slots=8) as server,
            Client(endpoints=[server.address], tracer=tracer) as mesh,
        ):
            for _ in range(40):
                await asyncio.gather(*(mesh.call(ECHO, X) for _ in range(25)))
        assert len(c.spans) == len({(span.trace, span.id) for span in c.spans}), "none twice"
        assert len(c.named("call echo")) == len(c.named("execute echo")) == 1000
        assert c.requests > 1, "they go in batches, not all at the end"


async def test_a_collector_that_is_away_costs_a_line_of_log_and_no_call(
    caplog: pytest.LogCaptureFixture, collector: Collecting
) -> None:
    async with collector() as c:
        await c.stop()
        begun = SYSTEM_CLOCK.now()
        async with open_otlp(c.url, service="all") as tracer:
            async with (
                AgentServer(Echo(), tracer=tracer) as server,
                Client(endpoints=[server.address], tracer=tracer) as mesh,
            ):
                for _ in range(1200):
                    await mesh.call(ECHO, X)
            ending = SYSTEM_CLOCK.now()
        assert SYSTEM_CLOCK.now() - ending < FLUSH_SECONDS + 1.0, "the end waits for it a bounded moment"
        assert begun < ending
        said = [record for record in caplog.records if "opentelemetry" in record.name or "otlp" in record.name]
        assert [record.name for record in said] == ["atomesh.rpc.otlp"] * 2
        assert "cannot be exported" in said[0].getMessage()
        assert c.url in said[0].getMessage()
        assert "left behind" in said[1].getMessage()


async def test_one_that_comes_back_is_told_of_once_and_gets_what_was_kept(
    caplog: pytest.LogCaptureFixture, collector: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    caplog.set_level(logging.INFO, "atomesh.rpc.otlp")
    async with collector() as c:
        c.status = grpc.StatusCode.UNAVAILABLE
        async with open_otlp(c.url, service="all") as tracer:
            for number in range(3):
                tracer.begin(f"work {number}", SpanKind.INTERNAL, "", {}).end()
            async with asyncio.timeout(10):
                while c.requests < 2:
                    await SYSTEM_CLOCK.sleep(0.02)
            c.status = grpc.StatusCode.OK
            await c.got(3)
        assert len(c.spans) == 3
        said = [record.getMessage() for record in caplog.records if record.name == "atomesh.rpc.otlp"]
        assert len(said) == 2, "once that it is away, once that it is back, whatever was tried between"
        assert "cannot be exported" in said[0]
        assert "exported to" in said[1]
        assert "again" in said[1]


async def test_one_that_takes_connections_and_does_not_answer_holds_up_nobody(
    caplog: pytest.LogCaptureFixture, collector: Collecting
) -> None:
    async with collector() as c:
        c.hangs = True
        async with open_otlp(c.url, service="all") as tracer:
            span = tracer.begin("work", SpanKind.INTERNAL, "", {})
            span.end()
            ending = SYSTEM_CLOCK.now()
        took = SYSTEM_CLOCK.now() - ending
        assert took < FLUSH_SECONDS + 1.0
        assert any("left behind" in record.getMessage() for record in caplog.records)


async def test_what_opentelemetry_says_elsewhere_in_the_process_is_heard(
    caplog: pytest.LogCaptureFixture, collector: Collecting
) -> None:
    async with collector() as c:
        async with open_otlp(c.url, service="all"):
            logging.getLogger("opentelemetry.exporter.otlp.proto.grpc.exporter").error("of somebody else's exporter")
        assert [record.getMessage() for record in caplog.records] == ["of somebody else's exporter"]


async def test_standard_variables_are_those_of_the_exporter(
    collector: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=seven")
    async with collector() as c:
        async with open_otlp(c.url, service="ours") as tracer:
            tracer.begin("work", SpanKind.INTERNAL, "", {}).end()
        assert [span.service for span in c.spans] == ["theirs"]
        assert c.headers[0]["x-tenant"] == "seven"


@pytest.mark.parametrize(
    ("endpoint", "ratio"), [("nothing at all", 1.0), ("http://h:1/v1/traces", 1.0), ("h:1", 1.5), ("h:1", float("nan"))]
)
async def test_what_is_no_collector_or_no_share_is_refused(endpoint: str, ratio: float) -> None:
    with pytest.raises(InvalidArgument):
        async with open_otlp(endpoint, service="all", ratio=ratio):
            raise AssertionError("it was let pass")
