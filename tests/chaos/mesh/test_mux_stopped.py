"""Processes that hang: an endpoint, a client that holds demands and grants, and a client that is killed."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable
from typing import Any

import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.rpc.mux.slots import GRANT_SECONDS
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

pytestmark = pytest.mark.timeout(60)

SILENT = 1.5  # seconds within which nothing new is sent to a process that hangs
BUSY = 1.5  # seconds by which this machine may be late


def view(client: Client, agent: str, address: str) -> Any:
    """What the client thinks of an endpoint."""
    return client._fleets[agent].balancer.candidates[address]


async def test_an_endpoint_that_hangs_gets_nothing_new_holds_up_nobody_and_is_used_again(
    mesh: Callable[..., Any], traffic: Callable[..., Any]
) -> None:
    async with mesh("Task", flags=["--slots", "30"]) as m, Client(m.registry.address) as client:
        async with traffic(client, "task", callers=24) as load:
            await load.more(500)
            assert all(view(client, "task", member.address).muxed for member in m.endpoints), "all of it is over muxes"
            before = SYSTEM_CLOCK.now()
            await SYSTEM_CLOCK.sleep(1)
            stopped = SYSTEM_CLOCK.now()
            hung = max(m.endpoints, key=lambda member: view(client, "task", member.address).in_flight)
            hung.signal(signal.SIGSTOP)
            while not (candidate := view(client, "task", hung.address)).silent:
                assert SYSTEM_CLOCK.now() < stopped + SILENT + BUSY, "it must be found silent"
                await SYSTEM_CLOCK.sleep(0.01)
            silent = SYSTEM_CLOCK.now()
            # All callers are stuck there by now: it had 30 slots. Others come.
            stuck = candidate.in_flight
            async with traffic(client, "task", callers=24) as others:
                await others.more(200)
                assert candidate.in_flight == stuck, "nothing new may be sent to who is silent"
                await SYSTEM_CLOCK.sleep(1)
                resumed = SYSTEM_CLOCK.now()
                assert others.rate(silent, resumed) > load.rate(before, stopped) / 4, "calls elsewhere go on"
                assert not any(call.where == hung.address for call in others.answered)
                hung.signal(signal.SIGCONT)
                while not any(call.where == hung.address for call in others.begun_in(resumed) + load.begun_in(resumed)):
                    assert SYSTEM_CLOCK.now() < resumed + BUSY, "it must be used again"
                    await SYSTEM_CLOCK.sleep(0.01)
        assert load.failed == others.failed == {}, "what it held is answered when it goes on"


async def test_a_client_that_hangs_with_demands_and_grants_holds_others_up_for_a_grants_time_and_goes_on(
    mesh: Callable[..., Any], traffic: Callable[..., Any], program: Callable[..., Any]
) -> None:
    async with (
        mesh("Task", endpoints=1) as m,
        Client(m.registry.address) as client,
        program("mux_caller.py", m.registry.address, "task", 32, "sleep 0.02") as hanging,
        traffic(client, "task", callers=16, content="sleep 0.0200{}") as load,
    ):
        await hanging.said()
        await load.more(50)
        begun = SYSTEM_CLOCK.now()
        await SYSTEM_CLOCK.sleep(1)
        stopped = SYSTEM_CLOCK.now()
        hanging.process.send_signal(signal.SIGSTOP)
        await SYSTEM_CLOCK.sleep(2)
        resumed = SYSTEM_CLOCK.now()
        hanging.process.send_signal(signal.SIGCONT)
        before = (await hanging.ask())["done"]
        await SYSTEM_CLOCK.sleep(0.5)
        after = await hanging.ask()
    ends = [stopped, *(call.ended for call in load.answered if stopped <= call.ended < resumed), resumed]
    longest = max(later - earlier for earlier, later in itertools.pairwise(ends))
    # What it ran when it was stopped ends and is granted to it once more: two grants' times.
    assert longest < 2 * GRANT_SECONDS + BUSY / 2, "all slots may be granted to it, for 250 ms and no longer"
    alone = load.rate(stopped + 1, resumed)
    assert alone > load.rate(begun, stopped), "once its grants have lapsed its share is that of others"
    assert after["done"] > before, "it goes on when it can"
    assert load.failed == after["failed"] == {}, "and no call of anybody fails"


class Held(Agent[TextInput, TextOutput]):
    """Holds its slot for a minute."""

    name = "held"
    slots = 8

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        await SYSTEM_CLOCK.sleep(60)
        return TextOutput(result=input.content)


async def test_the_slots_of_a_client_that_is_killed_are_free_within_100_ms(program: Callable[..., Any]) -> None:
    took = []
    async with (
        RegistryServer(storage=MemoryStorage()) as registry,
        AgentServer(Held(), registry=registry.address) as server,
    ):
        admission = server.agents["held"].admission
        for _ in range(3):
            async with program("mux_caller.py", registry.address, "held", 12, "hold") as killed, asyncio.timeout(20):
                while admission.in_flight < 8 or not admission.wanted:
                    await SYSTEM_CLOCK.sleep(0.005)
                killed.process.kill()
                at = SYSTEM_CLOCK.now()
                while admission.taken or admission.wanted:
                    await SYSTEM_CLOCK.sleep(0.001)
                took.append(SYSTEM_CLOCK.now() - at)
    assert min(took) < 0.1, f"slots, grants and demands of a killed client must be gone within 100 ms: {took}"
    assert max(took) < 0.1 + BUSY, "on a busy machine too"
