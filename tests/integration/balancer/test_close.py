"""A client that ends leaves nothing, and whoever called it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from atomesh.balancer import Client
from atomesh.core import Contract, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Mesh = Callable[..., Any]
Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)


async def test_a_hundred_clients_leave_no_task_and_no_channel(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        await m.serve()
        await (await m.client()).call(ECHO, text())
        await SYSTEM_CLOCK.sleep(0.05)
        before = len(asyncio.all_tasks())
        for _ in range(100):
            async with Client(m.address) as client:
                await client.call(ECHO, text())
        async with asyncio.timeout(2):
            while len(asyncio.all_tasks()) > before:
                await SYSTEM_CLOCK.sleep(0.01)


async def test_a_client_that_never_called_closes(mesh: Mesh) -> None:
    async with mesh() as m:
        for _ in range(10):
            await Client(m.address).close()


@pytest.mark.parametrize("idempotent", [False, True])
async def test_closing_ends_calls_in_flight_and_calls_that_wait(
    mesh: Mesh, echo: Any, holding: Any, text: Text, at_once: Any, until: Any, idempotent: bool
) -> None:
    async with mesh() as m:
        hold = holding()
        server = await m.serve(echo(hold), slots=2)
        client = Client(m.address)
        calls = [asyncio.create_task(client.call(ECHO, text(), idempotent=idempotent)) for _ in range(10)]
        for _ in range(2):
            await hold.begun.acquire()
        async with asyncio.timeout(2):
            await client.close()
            ends = await at_once(calls)
        kinds = [type(end) for end in ends]
        assert kinds.count(errors.Cancelled) == (10 if idempotent else 8)
        assert kinds.count(errors.ConnectionLost) == (0 if idempotent else 2), "what was in flight may have run"
        for end in ends:
            if isinstance(end, errors.Cancelled):
                assert "the client" in end.message
        await until(lambda: server.agents["echo"].admission.in_flight == 0)
        assert hold.cancelled == 2


async def test_closing_while_an_endpoint_that_left_still_works_leaves_no_channel(
    mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        hold = holding()
        server = await m.serve(echo(hold))
        client = Client(m.address)
        call = asyncio.create_task(client.call(ECHO, text()))
        await hold.begun.acquire()
        assert server._registrar is not None
        await server._registrar.leave()
        await until(lambda: not client._fleets["echo"].balancer.candidates)
        async with asyncio.timeout(2):
            await client.close()
            with pytest.raises(errors.ConnectionLost):
                await call


async def test_closing_while_the_first_call_waits_for_a_registry_ends_it_at_once(text: Text) -> None:
    client = Client("127.0.0.1:1")
    call = asyncio.create_task(client.call(ECHO, text()))
    await SYSTEM_CLOCK.sleep(0.05)
    async with asyncio.timeout(0.5):
        await client.close()
        with pytest.raises(errors.Cancelled, match="the client is closed"):
            await call


async def test_closing_while_an_unknown_agent_is_asked_for_is_fine(mesh: Mesh, text: Text, at_once: Any) -> None:
    async with mesh() as m:
        for _ in range(20):
            client = Client(m.address)
            calls = [asyncio.create_task(client.call("nobody", text())) for _ in range(5)]
            await asyncio.sleep(0)  # noqa: TID251 # a turn of the loop, no time
            await client.close()
            ends = await at_once(calls)
            assert all(isinstance(end, errors.UnknownAgent | errors.Cancelled) for end in ends), ends


async def test_who_is_cancelled_while_asking_for_an_unknown_agent_leaves_nothing(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        client = await m.client()
        for turns in range(12):
            call = asyncio.create_task(client.call("nobody", text()))
            for _ in range(turns):
                await asyncio.sleep(0)  # noqa: TID251 # a turn of the loop, no time
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert client._fleets == {}
