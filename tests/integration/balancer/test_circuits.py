"""Open circuits through real servers: calls that fail fast, others that wait, and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from atomesh.agents import AgentFailed, ExecutionContext
from atomesh.balancer import Breaker, Circuit, Client, ClientMetrics
from atomesh.core import Contract, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Mesh = Callable[..., Any]
Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)
QUICK = Breaker(agent_failures=2, base_seconds=0.5, max_ejected=1)


class Moody:
    """Fails until it is mended; holds those that ask for it."""

    def __init__(self) -> None:
        self.broken = True
        self.let_go = asyncio.Event()

    async def __call__(self, input: TextInput, context: ExecutionContext) -> None:
        if input.content == "hold":
            await self.let_go.wait()
        if self.broken:
            raise AgentFailed("out of order")


async def test_a_whole_fleet_that_fails_opens_fails_fast_and_closes_by_a_probe(
    mesh: Mesh, echo: Any, text: Text, at_once: Any, until: Any, within: Any
) -> None:
    async with mesh() as m:
        moody = Moody()
        servers = [await m.serve(echo(moody)) for _ in range(2)]
        metrics = ClientMetrics()
        client = await m.client(breakers={"echo": QUICK}, metrics=metrics, policy="round_robin")
        await client.meet("echo")
        await until(lambda: client.capacity("echo").endpoints == 2)
        ends = await at_once(client.call(ECHO, text()) for _ in range(4))
        assert all(isinstance(end, errors.AgentFailed) for end in ends)
        assert client.circuit("echo") is Circuit.OPEN
        ran = sum(server.agents["echo"].admission.executions for server in servers)
        async with within(0.1):
            with pytest.raises(errors.CircuitOpen, match="2 of 2 endpoints are ejected") as caught:
                await client.call(ECHO, text(), fail_fast=True)
        assert caught.value.retry_after == pytest.approx(0.5, abs=0.2)
        with pytest.raises(errors.CircuitOpen):
            async with client.stream(ECHO, text(), fail_fast=True) as stream:
                await stream.result()
        assert sum(server.agents["echo"].admission.executions for server in servers) == ran, "nothing was sent"
        value = metrics.registry.get_sample_value
        assert value("atomesh_client_circuit", {"agent": "echo"}) == 2
        assert value("atomesh_client_calls_total", {"agent": "echo", "reason": "CIRCUIT_OPEN"}) == 2
        moody.broken = False
        assert (await client.call(ECHO, text("patience"))).result == "patience", "others wait for the probe"
        assert client.circuit("echo") is Circuit.CLOSED
        assert value("atomesh_client_circuit", {"agent": "echo"}) == 0


async def test_beside_a_probe_under_way_calls_that_fail_fast_are_refused(
    mesh: Mesh, echo: Any, text: Text, at_once: Any, until: Any
) -> None:
    async with mesh() as m:
        moody = Moody()
        await m.serve(echo(moody))
        client = await m.client(breakers={"echo": QUICK})
        await at_once([client.call(ECHO, text()) for _ in range(2)])
        assert client.circuit("echo") is Circuit.OPEN
        await until(lambda: client.circuit("echo") is Circuit.HALF_OPEN)
        moody.broken = False
        probe = asyncio.create_task(client.call(ECHO, text("hold"), fail_fast=True))
        await until(lambda: client.capacity("echo").in_flight == 1)
        with pytest.raises(errors.CircuitOpen, match="half-open"):
            await client.call(ECHO, text(), fail_fast=True)
        moody.let_go.set()
        assert (await probe).result == "hold"
        assert await client.call(ECHO, text(), fail_fast=True)


async def test_an_endpoint_that_was_killed_and_ejected_fails_fast_too(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        server = await m.serve(echo())
        client = Client(endpoints=[server.address], breakers={"echo": Breaker(transport_failures=1)})
        async with client:
            assert await client.call(ECHO, text(), fail_fast=True)
            candidate = client._fleets["echo"].balancer.candidates[server.address]
            client._fleets["echo"].balancer.ended(_begun(candidate), SYSTEM_CLOCK.now(), errors.ConnectionLost(), None)
            assert client.circuit("echo") is Circuit.OPEN
            with pytest.raises(errors.CircuitOpen):
                await client.call(ECHO, text(), fail_fast=True)


async def test_each_agent_has_its_own_breaker_and_a_range_its_own_circuit(
    mesh: Mesh, echo: Any, text: Text, at_once: Any
) -> None:
    class Next(echo):  # type: ignore[misc] # a class out of a fixture is Any
        version = "2.0.0"

    async with mesh() as m:
        await m.serve(Next(Moody()))
        await m.serve(echo())
        client = await m.client(breakers={"echo": QUICK})
        await at_once([client.call(ECHO, text(), version=">=2") for _ in range(2)])
        assert client.circuit("echo", ">=2") is Circuit.OPEN
        assert client.circuit("echo") is Circuit.CLOSED
        with pytest.raises(errors.CircuitOpen):
            await client.call(ECHO, text(), version=">=2", fail_fast=True)
        assert await client.call(ECHO, text(), version="<2", fail_fast=True)


@pytest.mark.parametrize(
    "breakers", [{"Echo": Breaker()}, {"echo": {"transport_failures": 2}}, {"echo": None}], ids=str
)
async def test_breakers_that_are_none_are_refused_when_the_client_is_made(breakers: Any) -> None:
    with pytest.raises(errors.InvalidArgument, match=r"agent name|give a Breaker"):
        Client(breakers=breakers)


def _begun(candidate: Any) -> Any:
    candidate.in_flight += 1
    return candidate
