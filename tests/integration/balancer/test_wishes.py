"""What a client wishes for, through a real registry: its zone, shares of releases, one endpoint for a session."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from atomesh.balancer import CallOptions, Client
from atomesh.core import Contract, errors
from atomesh.core.context import Context
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Mesh = Callable[..., Any]
Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)


async def knows(client: Client, until: Any, endpoints: int) -> None:
    """Returns once the client can pick each of them."""
    await client.call(ECHO, TextInput(content="x", operation="sentiment"))
    balancer = client._fleets["echo"].balancer
    await until(lambda: len(balancer._first) == endpoints)


async def test_calls_stay_in_the_zone_until_it_is_full(
    mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        hold = holding()
        far = await m.serve(echo(hold), zone="far", slots=8)
        near = await m.serve(echo(hold), zone="near", slots=2)
        hold.let_go.set()
        client = await m.client(zone="near")
        await knows(client, until, 2)
        replies = [await client.execute(ECHO, text()) for _ in range(10)]
        assert {reply.info.endpoint for reply in replies} == {near.address}
        hold.let_go.clear()
        calls = [asyncio.create_task(client.execute(ECHO, text())) for _ in range(5)]
        counts = client._fleets["echo"].balancer.candidates
        await until(lambda: sum(c.in_flight for c in counts.values()) == 5)
        assert counts[near.address].in_flight == 2
        assert counts[far.address].in_flight == 3, "what the zone has no slot for goes elsewhere and does not wait"
        hold.let_go.set()
        await asyncio.gather(*calls)


async def test_a_canary_gets_its_share_and_a_session_keeps_its_release(
    mesh: Mesh, echo: Any, text: Text, until: Any
) -> None:
    class Next(echo):  # type: ignore[misc] # a class out of a fixture is Any
        version = "2.0.0"

    async with mesh() as m:
        await m.serve(echo())
        canary = await m.serve(Next())
        client = await m.client(versions={">=2": 20, "<2": 80})
        await knows(client, until, 2)
        replies = [await client.execute(ECHO, text()) for _ in range(400)]
        counts = Counter(reply.info.endpoint for reply in replies)
        assert 48 <= counts[canary.address] <= 112, "80 of 400 expected, four standard deviations are 32"
        for session in range(10):
            context = Context(session_id=f"s{session}")
            versions = {(await client.execute(ECHO, text(), _with(context))).info.version for _ in range(8)}
            assert len(versions) == 1


async def test_a_session_has_one_endpoint_and_another_when_that_leaves(
    mesh: Mesh, echo: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        servers = {server.address: server for server in [await m.serve(echo()) for _ in range(3)]}
        client = await m.client(policy="rendezvous")
        await knows(client, until, 3)
        sessions = {f"s{n}": await _home(client, text, f"s{n}") for n in range(30)}
        assert len(set(sessions.values())) == 3
        left = sessions["s0"]
        await servers[left].stop()
        await until(lambda: len(client._fleets["echo"].balancer._first) == 2)
        for session, home in sessions.items():
            now = await _home(client, text, session)
            assert now != left
            assert home in (left, now), "who was elsewhere stays there"


async def test_wishes_that_mean_nothing_are_refused_when_the_client_is_made() -> None:
    with pytest.raises(errors.InvalidArgument, match="is no version"):
        Client(versions={"newest": 1})


async def _home(client: Client, text: Text, session: str) -> str:
    replies = [await client.execute(ECHO, text(), _with(Context(session_id=session))) for _ in range(3)]
    (home,) = {reply.info.endpoint for reply in replies}
    return home


def _with(context: Context) -> CallOptions:
    return CallOptions(context=context)
