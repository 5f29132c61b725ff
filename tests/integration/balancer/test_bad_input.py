"""Bad input from the caller: too large, no text, no time, no name. Each gets one clear line, and nothing is lost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import wrappers_pb2

from atomesh.agents import Agent, ExecutionContext
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


async def test_a_context_too_large_beside_its_input_is_told_where_both_go_in_one_message(mesh: Mesh) -> None:
    async with mesh() as m:
        server = await m.serve(Bytes())
        context = Context(metadata={f"k{n}": "v" * 4096 for n in range(64)})
        message = wrappers_pb2.BytesValue(value=b"1 " + b"x" * (MAX_MESSAGE_BYTES - 70_000))
        client = await m.client(mux=False)
        with pytest.raises(errors.MessageTooLarge):
            await client.call(BYTES, message, context=context)
        assert server.agents["bytes"].admission.executions == 0
        muxed = await m.client()
        assert len((await muxed.call(BYTES, message, context=context)).value) == 1, "a mux cuts the input up"


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
