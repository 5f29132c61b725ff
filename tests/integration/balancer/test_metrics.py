"""What a client counts: exactly what happened, under labels whose values are bounded."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.exposition import generate_latest

from atomesh.agents import AgentFailed, ExecutionContext
from atomesh.balancer import ClientMetrics
from atomesh.core import Contract, errors
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Mesh = Callable[..., Any]
Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)


async def behave(input: TextInput, context: ExecutionContext) -> TextOutput | None:
    """As the content says."""
    match input.content:
        case "fail":
            raise AgentFailed("no", reason=f"TICKET_{context.request_id[:8].upper()}")
        case "crash":
            raise RuntimeError
        case "broken":
            return TextOutput(confidence=7)
        case "again":
            raise AgentFailed("not now", reason="BUSY", retryable=True)
    return None


def counted(metrics: ClientMetrics, family: str) -> dict[tuple[str, ...], float]:
    """The samples of a family by their label values, in the order of label names; those of 0 left out."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == family and sample.value
    }


async def mix(client: Any, text: Text, at_once: Any) -> None:
    """Ten calls go well, 3 fail, 2 crash, 1 is broken, 1 is invalid, 1 of a wrong type, 4 know no agent."""
    for content, times in (("ok", 10), ("fail", 3), ("crash", 2), ("broken", 1), ("", 1)):
        for _ in range(times):
            await at_once([client.call(ECHO, text(content))])
    await at_once([client.call(ECHO, TextOutput())])
    await at_once(client.call(f"nobody-{n}", text()) for n in range(4))
    await at_once([client.call("No Name", text())])


async def test_every_call_and_attempt_is_counted_once(mesh: Mesh, echo: Any, text: Text, at_once: Any) -> None:
    async with mesh() as m:
        server = await m.serve(echo(behave), slots=3)
        metrics = ClientMetrics()
        client = await m.client(metrics=metrics)
        await mix(client, text, at_once)
        assert counted(metrics, "atomesh_client_calls_total") == {
            ("echo", "OK"): 10,
            ("echo", "AGENT_FAILED"): 3,
            ("echo", "AGENT_CRASHED"): 2,
            ("echo", "INVALID_OUTPUT"): 1,
            ("echo", "INVALID_INPUT"): 1,
            ("echo", "WRONG_TYPE"): 1,
            ("other", "UNKNOWN_AGENT"): 4,
            ("other", "INVALID_ARGUMENT"): 1,
        }
        assert counted(metrics, "atomesh_client_attempts_total") == {
            ("echo", server.address, "OK"): 10,
            ("echo", server.address, "AGENT_FAILED"): 3,
            ("echo", server.address, "AGENT_CRASHED"): 2,
            ("echo", server.address, "INVALID_OUTPUT"): 1,
            ("echo", server.address, "INVALID_INPUT"): 1,
        }
        execute = ("Execute", "atomesh.v1.AgentService", "unary")
        for family, value in (("started", 17), ("msg_sent", 17), ("msg_received", 10)):
            assert counted(metrics, f"grpc_client_{family}_total") == {execute: value}, family
        assert counted(metrics, "grpc_client_handled_total") == {
            (code, *execute): value
            for code, value in (("OK", 10), ("FailedPrecondition", 3), ("Internal", 3), ("InvalidArgument", 1))
        }
        assert counted(metrics, "grpc_client_handling_seconds_count") == {execute: 17}
        assert counted(metrics, "atomesh_client_call_seconds_count") == {("echo",): 18, ("other",): 5}
        assert counted(metrics, "atomesh_client_slots") == {("echo", server.address): 3}
        assert counted(metrics, "atomesh_client_in_flight") == {}


async def test_retries_are_counted_by_reason_and_taken_from_the_budget(
    mesh: Mesh, echo: Any, text: Text, at_once: Any
) -> None:
    async with mesh() as m:
        await m.serve(echo(behave), idempotent=True)
        metrics = ClientMetrics()
        client = await m.client(metrics=metrics)
        before = counted(metrics, "atomesh_client_retry_budget_left")[()]
        await at_once([client.call(ECHO, text("again"))])
        assert counted(metrics, "atomesh_client_retries_total") == {("echo", "AGENT_FAILED"): 2}
        assert counted(metrics, "atomesh_client_calls_total") == {("echo", "AGENT_FAILED"): 1}
        assert before == pytest.approx(100)
        assert counted(metrics, "atomesh_client_retry_budget_left")[()] < 99.5


async def test_what_runs_and_what_waits_is_shown_while_it_does(
    mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        hold = holding()
        server = await m.serve(echo(hold), slots=2)
        metrics = ClientMetrics()
        client = await m.client(metrics=metrics)
        calls = [asyncio.create_task(client.call(ECHO, text())) for _ in range(5)]
        for _ in range(2):
            await hold.begun.acquire()
        assert counted(metrics, "atomesh_client_in_flight") == {("echo", server.address): 2}
        assert counted(metrics, "atomesh_client_waiting") == {("echo",): 3}
        hold.let_go.set()
        await asyncio.gather(*calls)
        assert counted(metrics, "atomesh_client_in_flight") == {}
        assert counted(metrics, "atomesh_client_waiting") == {}
        assert counted(metrics, "atomesh_client_queue_wait_seconds_count")[("echo",)] >= 3


async def test_a_call_that_was_cancelled_is_counted_as_such(mesh: Mesh, echo: Any, holding: Any, text: Text) -> None:
    async with mesh() as m:
        hold = holding()
        await m.serve(echo(hold))
        metrics = ClientMetrics()
        client = await m.client(metrics=metrics)
        call = asyncio.create_task(client.call(ECHO, text()))
        await hold.begun.acquire()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert counted(metrics, "atomesh_client_calls_total") == {("echo", "CANCELLED"): 1}
        codes = {labels[0]: value for labels, value in counted(metrics, "grpc_client_handled_total").items()}
        assert codes == {"Cancelled": 1}


async def test_an_ejection_is_counted(mesh: Mesh, echo: Any, text: Text, at_once: Any) -> None:
    async with mesh() as m:
        broken = await m.serve(echo(lambda _, context: behave(TextInput(content="crash"), context)))
        await m.serve(echo())
        metrics = ClientMetrics()
        client = await m.client(metrics=metrics, policy="round_robin")
        for _ in range(30):
            await at_once([client.call(ECHO, text()), client.call(ECHO, text())])
        assert counted(metrics, "atomesh_client_ejections_total") == {("echo", broken.address): 1}


async def test_the_series_of_an_endpoint_that_left_are_gone_even_if_a_call_ends_there_later(
    mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        hold = holding()
        leaving = await m.serve(echo(hold), slots=1)
        metrics = ClientMetrics()
        client = await m.client(metrics=metrics)
        call = asyncio.create_task(client.call(ECHO, text()))
        await hold.begun.acquire()
        staying = await m.serve(slots=1)
        await client.call(ECHO, text())
        assert leaving._registrar is not None
        await leaving._registrar.leave()
        await until(lambda: len(client._fleets["echo"].balancer.candidates) == 1)
        assert leaving.address not in generate_latest(metrics.registry).decode()
        hold.let_go.set()
        await call
        page = generate_latest(metrics.registry).decode()
        assert leaving.address not in page
        assert staying.address in page
        attempts = counted(metrics, "atomesh_client_attempts_total")
        assert attempts == {("echo", "other", "OK"): 1, ("echo", staying.address, "OK"): 1}


async def test_names_that_callers_make_up_make_no_series(mesh: Mesh, text: Text, at_once: Any) -> None:
    async with mesh() as m:
        await m.serve()
        metrics = ClientMetrics()
        client = await m.client(metrics=metrics)
        await client.call(ECHO, text())
        await at_once([client.call("nobody", text())])
        before = len(generate_latest(metrics.registry).splitlines())
        ends = await at_once(client.call(f"nobody-{n}", text()) for n in range(100))
        assert all(isinstance(end, errors.UnknownAgent) for end in ends)
        page = generate_latest(metrics.registry).decode()
        assert len(page.splitlines()) == before
        assert "nobody" not in page


async def test_words_that_agents_make_up_make_no_series(mesh: Mesh, echo: Any, text: Text, at_once: Any) -> None:
    async with mesh() as m:
        await m.serve(echo(behave))
        metrics = ClientMetrics()
        client = await m.client(metrics=metrics)
        ends = await at_once(client.call(ECHO, text("fail")) for _ in range(20))
        assert len({end.reason for end in ends}) == 20
        assert "TICKET" not in generate_latest(metrics.registry).decode()


@pytest.mark.needs_tool("promtool")
async def test_promtool_finds_nothing_to_complain_of(mesh: Mesh, echo: Any, text: Text, at_once: Any) -> None:
    async with mesh() as m:
        await m.serve(echo(behave), idempotent=True)
        metrics = ClientMetrics()
        client = await m.client(metrics=metrics)
        await mix(client, text, at_once)
        await at_once([client.call(ECHO, text("again"))])
        page = generate_latest(metrics.registry)
        done = await asyncio.to_thread(
            subprocess.run, ["promtool", "check", "metrics"], input=page, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
