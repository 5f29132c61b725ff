"""More calls than slots: they wait in the client, in the order of their deadlines, and none is lost."""

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


async def _short(*_: Any) -> None:
    await SYSTEM_CLOCK.sleep(0.005)


async def test_two_hundred_calls_over_four_slots_all_succeed_and_never_more_than_two_at_once(
    mesh: Mesh, echo: Any, text: Text
) -> None:
    async with mesh() as m:
        agents = [echo(_short), echo(_short)]
        servers = [await m.serve(agent, slots=2) for agent in agents]
        client = await m.client()
        outputs = await asyncio.gather(*(client.call(ECHO, text(f"call {n}")) for n in range(200)))
        assert [output.result for output in outputs] == [f"call {n}" for n in range(200)]
        assert [agent.most for agent in agents] == [2, 2]
        loads = [server.agents["echo"].admission.load() for server in servers]
        assert sum(load.executions for load in loads) == 200
        assert sum(load.refusals for load in loads) == 0, "a lone client knows which slots are free"
        assert min(load.executions for load in loads) > 60


async def test_several_clients_share_the_slots_and_each_gets_through(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        agents = [echo(_short), echo(_short)]
        for agent in agents:
            await m.serve(agent, slots=2)
        clients = [await m.client() for _ in range(4)]
        begun = SYSTEM_CLOCK.now()

        async def fifty(client: Client) -> float:
            await asyncio.gather(*(client.call(ECHO, text()) for _ in range(50)))
            return SYSTEM_CLOCK.now() - begun

        times = await asyncio.gather(*map(fifty, clients))
        assert [agent.most for agent in agents] == [2, 2]
        assert sum(len(agent.seen) for agent in agents) == 200, "nothing runs twice"
        assert max(times) < 200 * 0.005 / 4 + 3, "nobody starves"


async def test_one_client_does_not_wait_longer_than_its_own_call_for_a_slot_that_is_free(
    mesh: Mesh, echo: Any, holding: Any, text: Text, within: Any
) -> None:
    """An endpoint says when to come again by its mean; a slot of one's own that comes free is nearer than that."""

    async with mesh() as m:
        work: dict[str, Any] = {"long": lambda: SYSTEM_CLOCK.sleep(0.6), "short": lambda: SYSTEM_CLOCK.sleep(0.02)}
        hold = holding()
        work["hold"] = hold

        async def by_content(input: TextInput, _: Any) -> None:
            await work[input.content]()

        await m.serve(echo(by_content), slots=2)
        mine, other = await m.client(), await m.client()
        await asyncio.gather(*(mine.call(ECHO, text("long")) for _ in range(2)))  # so that the mean is long
        held = asyncio.create_task(other.call(ECHO, text("hold")))
        await hold.begun.acquire()
        async with within(0.3):  # five calls of 20 ms over one slot
            await asyncio.gather(*(mine.call(ECHO, text("short")) for _ in range(5)))
        hold.let_go.set()
        await held


async def test_the_earliest_deadline_goes_first(mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any) -> None:
    async with mesh() as m:
        hold = holding()
        agent = echo(hold)
        await m.serve(agent, slots=1)
        client = await m.client()
        order: list[str] = []

        async def call(name: str, timeout: float) -> None:
            await client.call(ECHO, text(name), timeout=timeout)
            order.append(name)

        first = asyncio.create_task(call("first", 20))
        await hold.begun.acquire()
        waiting = [asyncio.create_task(call(name, t)) for name, t in (("late", 19), ("soon", 9), ("later", 29))]
        await until(lambda: client._fleets["echo"].balancer.waiting == 3)
        hold.let_go.set()
        await asyncio.gather(first, *waiting)
        assert order == ["first", "soon", "late", "later"]


async def test_a_call_that_is_cancelled_while_it_waits_costs_nothing(
    mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        hold = holding()
        agent = echo(hold)
        await m.serve(agent, slots=1)
        client = await m.client()
        first = asyncio.create_task(client.call(ECHO, text()))
        await hold.begun.acquire()
        waiting = [asyncio.create_task(client.call(ECHO, text())) for _ in range(50)]
        await until(lambda: client._fleets["echo"].balancer.waiting == 50)
        for call in waiting[:49]:
            call.cancel()
        await until(lambda: client._fleets["echo"].balancer.waiting == 1)
        hold.let_go.set()
        await asyncio.gather(first, waiting[49])
        assert len(agent.seen) == 2
        assert all(call.cancelled() for call in waiting[:49])


async def test_a_call_that_waits_in_vain_ends_at_its_deadline_unexecuted(
    mesh: Mesh, echo: Any, holding: Any, text: Text
) -> None:
    async with mesh() as m:
        hold = holding()
        agent = echo(hold)
        await m.serve(agent, slots=1)
        client = await m.client()
        first = asyncio.create_task(client.call(ECHO, text()))
        await hold.begun.acquire()
        with pytest.raises(errors.DeadlineExceeded, match="no endpoint of echo had a slot free in time") as caught:
            await client.call(ECHO, text(), timeout=0.1, idempotent=True)
        assert caught.value.executed is False
        hold.let_go.set()
        await first
        assert len(agent.seen) == 1


async def test_the_queue_is_bounded_and_says_so(
    mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mesh() as m:
        hold = holding()
        await m.serve(echo(hold), slots=1)
        client = await m.client()
        first = asyncio.create_task(client.call(ECHO, text()))
        await hold.begun.acquire()
        balancer = client._fleets["echo"].balancer
        monkeypatch.setattr(balancer, "_max_waiting", 10)
        waiting = [asyncio.create_task(client.call(ECHO, text())) for _ in range(10)]
        await until(lambda: balancer.waiting == 10)
        with pytest.raises(errors.QueueFull, match="10 calls already wait for a slot of echo") as caught:
            await client.call(ECHO, text())
        assert caught.value.executed is False
        hold.let_go.set()
        await asyncio.gather(first, *waiting)


async def test_an_agent_whose_endpoints_are_all_away_is_waited_for_five_seconds(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        server = await m.serve()
        client = await m.client()
        await client.call(ECHO, text())
        await server.stop()
        begun = SYSTEM_CLOCK.now()
        with pytest.raises(errors.NoEndpoint, match="no endpoint of echo is registered any more; waited 5 s"):
            await client.call(ECHO, text())
        assert 4 < SYSTEM_CLOCK.now() - begun < 6
