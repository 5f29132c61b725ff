"""Errors arrive as they were meant, and what is wrong before anything is sent is not sent."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import wrappers_pb2

from atomesh.agents import Agent, AgentFailed, ExecutionContext
from atomesh.balancer import CallOptions, Client
from atomesh.core import Contract, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.context import Context
from atomesh.rpc.channel import MAX_MESSAGE_BYTES
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Mesh = Callable[..., Any]
Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)


class Bytes(Agent[wrappers_pb2.BytesValue, wrappers_pb2.BytesValue]):
    """Answers with as many bytes as it is told in decimal; a contract with no limits of its own."""

    name = "bytes"

    async def execute(self, input: wrappers_pb2.BytesValue, context: ExecutionContext, /) -> wrappers_pb2.BytesValue:
        wanted = int(input.value[:20].split(b" ")[0])
        return wrappers_pb2.BytesValue(value=b"x" * wanted)


BYTES = Contract("bytes", wrappers_pb2.BytesValue, wrappers_pb2.BytesValue)


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


async def test_an_unknown_agent_is_told_at_once(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        await m.serve()
        client = await m.client()
        begun = SYSTEM_CLOCK.now()
        with pytest.raises(errors.UnknownAgent, match="no agent 'nobody' is registered; `atomesh agents`") as caught:
            await client.call("nobody", text())
        assert SYSTEM_CLOCK.now() - begun < 0.5
        assert caught.value.origin.agent == "nobody"
        assert caught.value.executed is False
        with pytest.raises(errors.UnknownAgent):
            await client.contract("nobody")


async def test_without_a_registry_the_first_call_fails_within_two_seconds_in_one_line(text: Text) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    async with Client(address) as client:
        begun = SYSTEM_CLOCK.now()
        with pytest.raises(errors.RegistryUnavailable) as caught:
            await client.call("echo", text())
        assert SYSTEM_CLOCK.now() - begun < 2.5
        assert address in caught.value.message
        assert "start one with `atomesh registry`" in caught.value.message
        assert "\n" not in str(caught.value)


async def test_an_address_that_is_no_registry_is_said_to_be_none(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        server = await m.serve()
        async with Client(server.address) as client:
            with pytest.raises(errors.RegistryUnavailable, match=f"{server.address} is not a registry"):
                await client.call("echo", text())


async def test_a_registry_that_hangs_holds_no_call_beyond_its_deadline(text: Text) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with Client(f"127.0.0.1:{silent.getsockname()[1]}") as client:
            begun = SYSTEM_CLOCK.now()
            with pytest.raises(errors.DeadlineExceeded) as caught:
                await client.call("echo", text(), timeout=0.2)
            assert 0.19 < SYSTEM_CLOCK.now() - begun < 0.5
            assert caught.value.executed is False


async def test_an_input_too_large_to_send_is_refused_here(mesh: Mesh) -> None:
    async with mesh() as m:
        server = await m.serve(Bytes())
        client = await m.client()
        with pytest.raises(errors.MessageTooLarge, match=r"the input is \d+ bytes") as caught:
            await client.call(BYTES, wrappers_pb2.BytesValue(value=b"1 " + b"x" * MAX_MESSAGE_BYTES))
        assert caught.value.executed is False
        assert server.agents["bytes"].admission.executions == 0


async def test_an_input_just_small_enough_goes_through(mesh: Mesh) -> None:
    async with mesh() as m:
        await m.serve(Bytes())
        client = await m.client()
        message = wrappers_pb2.BytesValue(value=b"5 " + b"x" * (MAX_MESSAGE_BYTES - 65_536 - 16))
        assert len((await client.call(BYTES, message)).value) == 5


async def test_a_context_too_large_beside_its_input_is_told(mesh: Mesh) -> None:
    async with mesh() as m:
        server = await m.serve(Bytes())
        client = await m.client()
        context = Context(metadata={f"k{n}": "v" * 4096 for n in range(64)})
        message = wrappers_pb2.BytesValue(value=b"1 " + b"x" * (MAX_MESSAGE_BYTES - 70_000))
        with pytest.raises(errors.MessageTooLarge):
            await client.call(BYTES, message, context=context)
        assert server.agents["bytes"].admission.executions == 0


async def test_an_output_too_large_to_receive_is_told(mesh: Mesh) -> None:
    async with mesh() as m:
        server = await m.serve(Bytes())
        client = await m.client()
        with pytest.raises(errors.MessageTooLarge, match="larger than max"):
            await client.call(BYTES, wrappers_pb2.BytesValue(value=b"5000000"), idempotent=True)
        assert server.agents["bytes"].admission.executions == 1, "it would be too large again"
        assert len((await client.call(BYTES, wrappers_pb2.BytesValue(value=b"5"))).value) == 5


@pytest.mark.parametrize(
    "context",
    [
        Context(request_id="\ud800"),
        Context(user_id="Zo\udceb"),
        Context(metadata={"key": "\udfff"}),
        Context(metadata={"\ud800": "value"}),
        Context(traceparent="\ud800"),
    ],
)
async def test_a_lone_surrogate_cannot_be_sent_and_says_where_it_is(mesh: Mesh, text: Text, context: Context) -> None:
    async with mesh() as m:
        server = await m.serve()
        with pytest.raises(errors.InvalidArgument, match="lone surrogate"):
            await (await m.client()).call(ECHO, text(), context=context)
        assert server.agents["echo"].admission.executions == 0


async def test_hostile_words_in_a_context_arrive_as_they_are(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        agent = echo()
        await m.serve(agent)
        hostile = "Zoë\r\nx-user-id: admin\0\u202e%00'; DROP--"
        context = Context(user_id=hostile, session_id=hostile, metadata={hostile: hostile, "UPPER": ""})
        await (await m.client()).call(ECHO, text(), context=context)
        (seen,) = agent.seen
        assert (seen.user_id, seen.session_id, seen.metadata) == (hostile, hostile, {hostile: hostile, "UPPER": ""})


async def test_a_context_beyond_its_limits_is_refused_by_field(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        server = await m.serve()
        client = await m.client()
        for context in (Context(user_id="x" * 257), Context(metadata={f"k{n}": "" for n in range(65)})):
            with pytest.raises(errors.InvalidArgument, match="context") as caught:
                await client.call(ECHO, text(), context=context, idempotent=True)
            assert len(caught.value.attempts) == 1
        assert server.agents["echo"].admission.executions == 0


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, -math.inf, 1e300])
async def test_a_timeout_that_is_no_duration_is_refused(mesh: Mesh, text: Text, timeout: float) -> None:
    async with mesh() as m:
        await m.serve()
        client = await m.client()
        with pytest.raises(errors.InvalidArgument, match="timeout"):
            await client.call(ECHO, text(), timeout=timeout)
        with pytest.raises(errors.InvalidArgument, match="timeout"):
            await client.execute(ECHO, text(), CallOptions(timeout=timeout))
        with pytest.raises(errors.InvalidArgument, match="timeout"):
            Client(m.address, timeout=timeout)


@pytest.mark.parametrize(
    "name", ["", " ", "Echo", "echo ", "-echo", "e" * 65, "../etc", "echo\n", "écho", "echo\0", "\ud800", "*", "a b"]
)
async def test_a_hostile_agent_name_is_refused_and_leaves_nothing(mesh: Mesh, text: Text, name: str) -> None:
    async with mesh() as m:
        client = await m.client()
        with pytest.raises(errors.InvalidArgument, match="agent name") as caught:
            await client.call(name, text())
        assert caught.value.message.isprintable()
        with pytest.raises(errors.InvalidArgument, match="agent name"):
            await client.contract(name)
        assert client._fleets == {}


async def test_a_closed_client_refuses_calls_in_one_line(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        server = await m.serve()
        client = Client(m.address)
        await client.call(ECHO, text())
        await client.close()
        for target in (ECHO, "nobody"):
            with pytest.raises(errors.Cancelled, match="the client is closed") as caught:
                await client.call(target, text())
            assert caught.value.executed is False
        with pytest.raises(errors.Cancelled, match="the client is closed"):
            await client.contract("echo")
        await client.close()  # twice is fine
        assert server.agents["echo"].admission.executions == 1


async def test_ten_hostile_callers_of_unknown_names_leave_no_watch(mesh: Mesh, text: Text, at_once: Any) -> None:
    async with mesh() as m:
        await m.serve()
        client = await m.client()
        await client.call(ECHO, text())
        tasks = len(asyncio.all_tasks())
        for _ in range(5):
            ends = await at_once(client.call(f"nobody-{n % 20}", text()) for n in range(60))
            assert all(isinstance(end, errors.UnknownAgent) for end in ends)
        assert set(client._fleets) == {"echo"}
        await SYSTEM_CLOCK.sleep(0.1)
        assert len(asyncio.all_tasks()) <= tasks, "the watch of an agent that nobody registered must end"
