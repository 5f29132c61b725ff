"""The traps of meshes, each sprung on purpose: loops, retries per layer, poison, broken copies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from atomesh.agents import Agent, AgentFailed, ExecutionContext
from atomesh.balancer import POLICIES, Client, ClientMetrics
from atomesh.balancer.budget import CAP, FLOOR_PER_SECOND, RATIO, RESERVE_SECONDS
from atomesh.core import Contract, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Mesh = Callable[..., Any]
Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)


class Tier(Agent[TextInput, TextOutput]):
    """Calls the next agent, and counts how often it was called itself."""

    idempotent = True

    def __init__(self, client: Client, following: str) -> None:
        self._client = client
        self._following = following
        self.runs = 0

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        self.runs += 1
        output: TextOutput = await self._client.call(self._following, input)
        return output


class First(Tier):
    name = "first"


class Second(Tier):
    name = "second"


@pytest.mark.parametrize("shared", [False, True], ids=["own clients", "one client"])
@pytest.mark.parametrize("copies", [1, 2])
async def test_a_circle_at_full_slots_ends_at_once(
    mesh: Mesh, text: Text, at_once: Any, shared: bool, copies: int
) -> None:
    async with mesh() as m:
        outer = await m.client()

        async def client() -> Client:
            own: Client = outer if shared else await m.client()
            return own

        servers = []
        for _ in range(copies):
            for kind, following in ((First, "second"), (Second, "first")):
                servers.append(await m.serve(kind(await client(), following), slots=2))
        begun = SYSTEM_CLOCK.now()
        ends = await at_once(outer.call("first", text(), timeout=15) for _ in range(8))
        assert SYSTEM_CLOCK.now() - begun < 5, "it must not wait for itself until the deadline"
        for end in ends:
            assert isinstance(end, errors.AgentCrashed)
            assert "CALL_LOOP" in end.message
        for server in servers:
            assert all(served.admission.in_flight == 0 for served in server.agents.values())


async def test_an_agent_may_call_itself_while_slots_are_free(mesh: Mesh, text: Text) -> None:
    class Countdown(Agent[TextInput, TextOutput]):
        name = "countdown"

        async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
            left = int(input.content)
            if not left:
                return TextOutput(result="lift-off")
            output: TextOutput = await client.call("countdown", text(str(left - 1)))
            return output

    async with mesh() as m:
        client = await m.client()
        await m.serve(Countdown(), slots=4)
        assert (await client.call("countdown", text("3"))).result == "lift-off"
        with pytest.raises(errors.AgentCrashed, match="CALL_LOOP"):
            await client.call("countdown", text("4"), timeout=10)


async def test_retries_do_not_multiply_over_three_tiers_with_a_leaf_that_always_fails(
    mesh: Mesh, echo: Any, text: Text, at_once: Any
) -> None:
    """Attempts per call at the leaf: at most 1 + 0.1 + (100 + 10 per second) / calls.

    Only the tier above the leaf tries again: what it hands on is final, so the
    tiers above add nothing. Its client may send a tenth of its calls, and what
    the floor has saved and earns meanwhile; below some 2,000 calls that floor
    is more than the tenth, so the ratio is promised from there on.
    """
    calls = 2_000

    async def work(*_: Any) -> None:
        raise AgentFailed("dead", retryable=True)

    async with mesh() as m:
        leaf = echo(work)
        await m.serve(leaf, slots=64, idempotent=True)
        second = Second(await m.client(), "echo")
        first = First(await m.client(), "second")
        for tier in (second, first):
            await m.serve(tier, slots=64)
        outer = await m.client()
        begun = SYSTEM_CLOCK.now()
        for _ in range(0, calls, 50):
            ends = await at_once(outer.call("first", text(), idempotent=True) for _ in range(50))
            assert all(isinstance(end, AgentFailed) and not end.retryable for end in ends)
        seconds = SYSTEM_CLOCK.now() - begun
        attempts = len(leaf.seen)
        assert (first.runs, second.runs) == (calls, calls), "no tier above may try again"
        assert attempts <= calls * (1 + RATIO) + FLOOR_PER_SECOND * (RESERVE_SECONDS + seconds)
        assert attempts / calls <= 1.2, f"{attempts} attempts at the leaf for {calls} calls"
        assert attempts > calls, "or the budget was not used at all, and this test shows nothing"
        assert CAP <= 100


async def test_a_leaf_that_is_away_is_not_attempted_at_all(mesh: Mesh, echo: Any, text: Text, at_once: Any) -> None:
    async with mesh() as m:
        leaf = await m.serve(echo(), idempotent=True)
        metrics = ClientMetrics()
        inner = await m.client(metrics=metrics)
        await m.serve(Second(inner, "echo"), slots=64)
        outer = await m.client()
        await outer.call("second", text())
        await leaf.stop()
        ends = await at_once(outer.call("second", text(), timeout=1) for _ in range(50))
        assert all(isinstance(end, errors.DeadlineExceeded) for end in ends)
        sample = metrics.registry.get_sample_value
        assert (sample("atomesh_client_attempts_total", _ok(leaf.address)) or 0) <= 1
        assert sample("grpc_client_started_total", _execute()) == 1, "nobody is there to be asked"


def _ok(address: str) -> dict[str, str]:
    return {"agent": "echo", "endpoint": address, "reason": "OK"}


def _execute() -> dict[str, str]:
    return {"grpc_type": "unary", "grpc_service": "atomesh.v1.AgentService", "grpc_method": "Execute"}


async def test_a_poisonous_input_ejects_nobody_and_is_not_tried_again(
    mesh: Mesh, echo: Any, text: Text, at_once: Any
) -> None:
    async def work(input: TextInput, _: Any) -> None:
        if input.content == "poison":
            raise ZeroDivisionError

    async with mesh() as m:
        agents = [echo(work) for _ in range(3)]
        for agent in agents:
            await m.serve(agent, idempotent=True)
        client = await m.client()
        await at_once(client.call(ECHO, text()) for _ in range(30))
        for _ in range(100):
            with pytest.raises(errors.AgentCrashed) as caught:
                await client.call(ECHO, text("poison"))
            assert len(caught.value.attempts) == 1, "INTERNAL is never tried again"
        assert sum(len(agent.seen) for agent in agents) == 130
        candidates = client._fleets["echo"].balancer.candidates.values()
        assert not any(candidate.ejection.active for candidate in candidates)
        assert (await client.call(ECHO, text("hi"))).result == "hi"


async def _broken_beside_two(mesh: Any, echo: Any, client: Client, text: Text, at_once: Any, work: Any) -> list[Any]:
    """Six hundred calls over three endpoints, of which the first does `work`; how often each was asked."""
    agents = [echo(work), echo(_takes_a_while), echo(_takes_a_while)]
    for agent in agents:
        await mesh.serve(agent, slots=4)
    failed = 0
    for _ in range(60):
        ends = await at_once(client.call(ECHO, text()) for _ in range(10))
        failed += sum(isinstance(end, errors.AtomeshError) for end in ends)
    return [failed, *(len(agent.seen) for agent in agents)]


async def _takes_a_while(*_: Any) -> None:
    await SYSTEM_CLOCK.sleep(0.002)


async def test_a_broken_copy_is_ejected_while_its_siblings_serve(
    mesh: Mesh, echo: Any, text: Text, at_once: Any
) -> None:
    async def no_database(*_: Any) -> None:
        await SYSTEM_CLOCK.sleep(0.002)
        raise ConnectionRefusedError

    async with mesh() as m:
        client = await m.client()
        failed, broken, *healthy = await _broken_beside_two(m, echo, client, text, at_once, no_database)
        assert failed == broken < 60, "it is found out within some tens of calls"
        assert min(healthy) > 200
        states = [c.ejection.active for c in client._fleets["echo"].balancer.candidates.values()]
        assert states.count(True) == 1


@pytest.mark.parametrize("policy", POLICIES)
async def test_an_endpoint_that_fails_at_once_does_not_swallow_the_traffic(
    mesh: Mesh, echo: Any, text: Text, at_once: Any, policy: str
) -> None:
    async def instantly(*_: Any) -> None:
        raise RuntimeError

    async with mesh() as m:
        client = await m.client(policy=policy)
        failed, broken, *_ = await _broken_beside_two(m, echo, client, text, at_once, instantly)
        assert failed == broken < 60, f"{broken} of 600 calls went to it"


async def test_a_call_that_may_not_run_twice_never_does_when_its_connection_is_cut(
    mesh: Mesh, echo: Any, holding: Any, text: Text
) -> None:
    async with mesh() as m:
        hold = holding()
        agents = [echo(hold), echo(hold)]
        servers = [await m.serve(agent) for agent in agents]
        client = await m.client()
        call = asyncio.create_task(client.call(ECHO, text()))
        await hold.begun.acquire()
        ran = next(n for n, agent in enumerate(agents) if agent.seen)
        await servers[ran].stop()
        with pytest.raises(errors.ConnectionLost):
            await call
        assert sum(len(agent.seen) for agent in agents) == 1
        again = asyncio.create_task(client.call(ECHO, text(), idempotent=True))
        await hold.begun.acquire()
        hold.let_go.set()
        assert (await again).result == "hello"
