"""Deadlines and contexts, through one agent and through several; what a caller gives up ends everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from atomesh.agents import Agent, ExecutionContext
from atomesh.balancer import Client
from atomesh.core import Contract, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.context import DEFAULT_TIMEOUT, Context
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Mesh = Callable[..., Any]
Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)
MIDDLE = Contract("middle", TextInput, TextOutput)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Middle(Agent[TextInput, TextOutput]):
    """Calls echo, in the way that the test says."""

    name = "middle"

    def __init__(self, client: Client, **options: Any) -> None:
        self._client = client
        self._options = options
        self.failures: list[BaseException] = []

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        try:
            return await self._client.call(ECHO, input, **self._options)
        except BaseException as error:
            self.failures.append(error)
            raise


async def test_a_caller_is_answered_at_its_deadline(
    mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any, within: Any
) -> None:
    async with mesh() as m:
        hold = holding()
        server = await m.serve(echo(hold))
        client = await m.client()
        begun = SYSTEM_CLOCK.now()
        async with within(0.4):
            with pytest.raises(errors.DeadlineExceeded) as caught:
                await client.call(ECHO, text(), timeout=0.2, idempotent=True)
        assert SYSTEM_CLOCK.now() - begun > 0.19
        assert caught.value.executed is not False, "it was executed, at least in part"
        assert len(caught.value.attempts) == 1, "no time is left for another"
        await until(lambda: server.agents["echo"].admission.in_flight == 0, 0.2)
        assert hold.cancelled == 1


async def test_thirty_seconds_where_nobody_says(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        agent = echo()
        await m.serve(agent)
        await (await m.client()).call(ECHO, text())
        await (await m.client(timeout=5)).call(ECHO, text())
        left = [seen.deadline - SYSTEM_CLOCK.now() for seen in agent.seen]
        assert DEFAULT_TIMEOUT == 30
        assert left == [pytest.approx(30, abs=1), pytest.approx(5, abs=1)]


async def test_a_nested_call_carries_its_callers_context_by_itself(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        leaf = echo()
        await m.serve(leaf)
        await m.serve(Middle(await m.client()))
        given = Context("r-9", "Zoë", "s-1", {"tenant": "a"}, TRACE, "key-1", timestamp=1_700_000_000.0)
        await (await m.client()).call(MIDDLE, text(), context=given, timeout=10)
        (seen,) = leaf.seen
        assert (seen.request_id, seen.user_id, seen.session_id) == ("r-9", "Zoë", "s-1")
        assert seen.metadata == {"tenant": "a"}
        assert seen.traceparent == TRACE
        assert seen.context.timestamp == 1_700_000_000.0
        assert seen.via == ("middle",)
        assert seen.idempotency_key == "", "another piece of work has another key"
        assert 8 < seen.deadline - SYSTEM_CLOCK.now() < 10


async def test_a_nested_call_may_say_more_but_stays_on_its_way(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        leaf = echo()
        await m.serve(leaf)
        own = Context(user_id="robot", idempotency_key="own", via=("forged",))
        await m.serve(Middle(await m.client(), context=own))
        await (await m.client()).call(MIDDLE, text(), context=Context("r-9", "Zoë"))
        (seen,) = leaf.seen
        assert (seen.request_id, seen.user_id, seen.idempotency_key) == ("r-9", "robot", "own")
        assert seen.via == ("middle",), "nobody hides through whom a call came"


async def test_every_request_has_an_id_and_a_time(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        agent = echo()
        await m.serve(agent)
        client = await m.client()
        await client.call(ECHO, text())
        await client.call(ECHO, text(), context=Context(user_id="u"))
        ids = {seen.request_id for seen in agent.seen}
        assert len(ids) == 2
        assert "" not in ids
        for seen in agent.seen:
            assert seen.context.timestamp == pytest.approx(SYSTEM_CLOCK.wall(), abs=5)


@pytest.mark.parametrize("own", [None, 60])
async def test_a_nested_call_cannot_outlive_its_caller(
    mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any, within: Any, own: float | None
) -> None:
    async with mesh() as m:
        hold = holding()
        leaf = await m.serve(echo(hold))
        middle = Middle(await m.client(), **({} if own is None else {"timeout": own}))
        await m.serve(middle)
        async with within(0.6):
            with pytest.raises(errors.DeadlineExceeded):
                await (await m.client()).call(MIDDLE, text(), timeout=0.3)
            await until(lambda: leaf.agents["echo"].admission.in_flight == 0)
        assert hold.cancelled == 1


async def test_a_nested_call_may_give_up_sooner_and_its_caller_goes_on(
    mesh: Mesh, echo: Any, holding: Any, text: Text
) -> None:
    async with mesh() as m:
        await m.serve(echo(holding()))
        middle = Middle(await m.client(), timeout=0.1)
        await m.serve(middle)
        with pytest.raises(errors.AgentCrashed, match="a call that it made failed with DEADLINE_EXCEEDED"):
            await (await m.client()).call(MIDDLE, text(), timeout=10)
        (failure,) = middle.failures
        assert isinstance(failure, errors.DeadlineExceeded)


async def test_who_is_cancelled_frees_the_slot_within_a_tenth_of_a_second(
    mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        hold = holding()
        server = await m.serve(echo(hold))
        client = await m.client()
        call = asyncio.create_task(client.call(ECHO, text()))
        await hold.begun.acquire()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: server.agents["echo"].admission.in_flight == 0, 0.1)
        assert hold.cancelled == 1


async def test_a_cancel_goes_through_every_tier(mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any) -> None:
    async with mesh() as m:
        hold = holding()
        leaf = await m.serve(echo(hold))
        middle = Middle(await m.client())
        front = await m.serve(middle)
        call = asyncio.create_task((await m.client()).call(MIDDLE, text()))
        await hold.begun.acquire()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: leaf.agents["echo"].admission.in_flight == 0, 0.1)
        await until(lambda: front.agents["middle"].admission.in_flight == 0, 0.1)
        assert [type(failure) for failure in middle.failures] == [asyncio.CancelledError]
