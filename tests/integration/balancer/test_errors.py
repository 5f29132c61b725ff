"""Errors arrive as they were meant, and what is wrong before anything is sent is not sent."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import wrappers_pb2

from atomesh.agents import AgentFailed
from atomesh.balancer import Client
from atomesh.core import Contract, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.context import Context
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Mesh = Callable[..., Any]
Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)


async def failing(mesh: Any, agent: Any, message: Any, **options: Any) -> tuple[Any, errors.AtomeshError]:
    """The server, and the error that a call of the agent ends with."""
    server = await mesh.serve(agent)
    client = await mesh.client()
    with pytest.raises(errors.AtomeshError) as caught:
        await client.call(ECHO, message, **options)
    return server, caught.value


async def test_an_authors_error_arrives_intact(mesh: Mesh, echo: Any, text: Text) -> None:
    async def work(*_: Any) -> None:
        raise AgentFailed("no such ticket", reason="NO_TICKET", details={"ticket": 7}, retry_after=2.5)

    async with mesh() as m:
        before = SYSTEM_CLOCK.wall()
        server, error = await failing(m, echo(work), text(), context=Context(request_id="r-1"))
        assert isinstance(error, AgentFailed)
        assert (error.message, error.reason, error.data) == ("no such ticket", "NO_TICKET", {"ticket": 7})
        assert (error.retryable, error.retry_after, error.executed) == (False, 2.5, True)
        origin = error.origin
        assert (origin.agent, origin.endpoint, origin.request_id) == ("echo", server.address, "r-1")
        assert origin.instance_id == server.instance_id
        assert origin.time is not None
        assert before <= origin.time <= SYSTEM_CLOCK.wall()
        assert [(a.endpoint, a.reason) for a in error.attempts] == [(server.address, "NO_TICKET")]


async def test_a_retryable_error_is_tried_again_only_where_the_call_may_run_twice(
    mesh: Mesh, echo: Any, text: Text
) -> None:
    async def work(*_: Any) -> None:
        raise AgentFailed("not now", retryable=True)

    async with mesh() as m:
        agent = echo(work)
        _, error = await failing(m, agent, text())
        assert isinstance(error, AgentFailed)
        assert error.retryable
        assert len(agent.seen) == 1
        client = await m.client()
        with pytest.raises(AgentFailed) as caught:
            await client.call(ECHO, text(), idempotent=True)
        assert len(agent.seen) == 1 + 3
        assert len(caught.value.attempts) == 3, "the final error tells of every attempt"
        assert str(caught.value).startswith("not now (tried ")


async def test_a_broken_rule_names_its_field_and_nothing_runs(mesh: Mesh, echo: Any) -> None:
    async with mesh() as m:
        agent = echo()
        _, error = await failing(m, agent, TextInput(content="", operation="dance"), idempotent=True)
        assert isinstance(error, errors.InvalidInput)
        assert {violation.field for violation in error.violations} == {"content", "operation"}
        assert error.executed is False
        assert len(error.attempts) == 1, "the same input is wrong again"
        assert agent.seen == []


async def test_a_broken_output_carries_the_work_that_was_paid_for(mesh: Mesh, echo: Any, text: Text) -> None:
    async def work(*_: Any) -> TextOutput:
        return TextOutput(result="dear", confidence=7)

    async with mesh() as m:
        agent = echo(work)
        _, error = await failing(m, agent, text(), idempotent=True)
        assert isinstance(error, errors.InvalidOutput)
        assert error.output == TextOutput(result="dear", confidence=7)
        assert [violation.field for violation in error.violations] == ["confidence"]
        assert len(agent.seen) == 1, "INTERNAL is never tried again"


async def test_a_crash_arrives_without_its_trace(mesh: Mesh, echo: Any, text: Text) -> None:
    async def work(*_: Any) -> None:
        raise RuntimeError("password=hunter2")

    async with mesh() as m:
        agent = echo(work)
        _, error = await failing(m, agent, text(), idempotent=True, context=Context(request_id="r-2"))
        assert isinstance(error, errors.AgentCrashed)
        for leak in ("hunter2", "RuntimeError", "Traceback", ".py"):
            assert leak not in f"{error!s}{error.details}"
        assert "r-2" in error.message, "it ties the caller's error to the agent's log"
        assert error.executed is True
        assert len(agent.seen) == 1


async def test_a_wrong_type_is_refused_before_anything_is_sent(mesh: Mesh, echo: Any) -> None:
    async with mesh() as m:
        agent = echo()
        server, error = await failing(m, agent, TextOutput())
        assert isinstance(error, errors.WrongType)
        assert error.message == "echo takes atomesh.text.v1.TextInput, not atomesh.text.v1.TextOutput"
        assert error.attempts == ()
        client: Any = await m.client()
        for wrong in ("hello", None, {"content": "hello"}, TextInput):
            with pytest.raises(errors.WrongType, match=r"takes atomesh\.text\.v1\.TextInput, not "):
                await client.call("echo", wrong)
        assert server.agents["echo"].admission.executions == 0


async def test_an_answer_of_another_type_than_the_callers_contract_is_an_invalid_output(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        await m.serve()
        with pytest.raises(errors.InvalidOutput, match=r"expected google\.protobuf\.BytesValue"):
            await (await m.client()).call(Contract("echo", TextInput, wrappers_pb2.BytesValue), text())


async def test_an_unknown_agent_is_told_at_once(mesh: Mesh, text: Text, within: Any) -> None:
    async with mesh() as m:
        await m.serve()
        client = await m.client()
        async with within(0.5):
            with pytest.raises(
                errors.UnknownAgent, match="no agent 'nobody' is registered; `atomesh agents`"
            ) as caught:
                await client.call("nobody", text())
        assert caught.value.origin.agent == "nobody"
        assert caught.value.executed is False
        with pytest.raises(errors.UnknownAgent):
            await client.contract("nobody")


async def test_without_a_registry_the_first_call_fails_within_two_seconds_in_one_line(text: Text, within: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    async with Client(address) as client:
        async with within(2.5):
            with pytest.raises(errors.RegistryUnavailable) as caught:
                await client.call("echo", text())
        assert address in caught.value.message
        assert "start one with `atomesh registry`" in caught.value.message
        assert "\n" not in str(caught.value)


async def test_an_address_that_is_no_registry_is_said_to_be_none(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        server = await m.serve()
        async with Client(server.address) as client:
            with pytest.raises(errors.RegistryUnavailable, match=f"{server.address} is not a registry"):
                await client.call("echo", text())


async def test_a_registry_that_hangs_holds_no_call_beyond_its_deadline(text: Text, within: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with Client(f"127.0.0.1:{silent.getsockname()[1]}") as client:
            begun = SYSTEM_CLOCK.now()
            async with within(0.5):
                with pytest.raises(errors.DeadlineExceeded) as caught:
                    await client.call("echo", text(), timeout=0.2)
            assert SYSTEM_CLOCK.now() - begun > 0.19
            assert caught.value.executed is False
