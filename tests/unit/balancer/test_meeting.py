"""Meeting an agent in virtual time: when enough has been heard to say that nobody serves a version range."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator

import pytest

from atomesh.balancer import Client
from atomesh.core import SYSTEM_CLOCK, Endpoint, errors
from atomesh.core.contract import ContractDescriptor
from atomesh.core.updates import Added, Position, Reset, WatchEvent
from atomesh.testing import VirtualClock
from atomesh.testing.memory import MemoryNetwork

pytestmark = pytest.mark.virtual_time

OLD, NEW = (Endpoint("a", f"127.0.0.1:{n}", version=f"{n}.0.0") for n in (1, 2))
Told = tuple[float, WatchEvent]


class Scripted:
    """A resolver that tells each event after so many seconds, and then nothing more."""

    name = "script"
    trouble = ""

    def __init__(self, *told: Told) -> None:
        self.told = told

    async def watch(self, agent: str) -> AsyncGenerator[WatchEvent, None]:
        for seconds, event in self.told:
            await SYSTEM_CLOCK.sleep(seconds)
            yield event
        await SYSTEM_CLOCK.sleep(1e9)

    async def contract(self, endpoint: Endpoint) -> ContractDescriptor:
        raise errors.NotFound("no contract")

    async def close(self) -> None: ...


async def met(*told: Told, version: str) -> tuple[float, str]:
    """Seconds until it was met, or until it was said why not."""
    network = MemoryNetwork(random.Random(1))
    clock = VirtualClock()
    async with Client(Scripted(*told), clock=clock, network=network.host("caller"), rng=random.Random(1)) as client:
        begun, why = clock.now(), ""
        try:
            await client.meet("a", version)
        except errors.NoEndpoint as error:
            assert client._fleets == {}, "what nobody serves leaves nothing behind"
            why = error.message
        return round(clock.now() - begun, 6), why


async def test_addresses_that_are_told_of_one_by_one_are_waited_for() -> None:
    one_by_one = ((0.1, WatchEvent((Reset((OLD,)),), Position())), (0.3, WatchEvent((Added(NEW),), Position())))
    assert await met(*one_by_one, version="") == (0.1, ""), "who asks for no version takes the first"
    assert await met(*one_by_one, version="2.0.0") == (0.4, "")


async def test_a_bookmark_says_that_all_have_been_told_of() -> None:
    whole = ((0.1, WatchEvent((Reset((OLD,)),), Position())), (0.3, WatchEvent((), Position())))
    seconds, why = await met(*whole, version=">=2")
    assert why.startswith("no endpoint serves a >=2 (1 registered: 1.0.0)")
    assert seconds == 0.4


async def test_a_registrys_snapshot_is_whole() -> None:
    seconds, why = await met((0.1, WatchEvent((Reset((OLD,)),), Position("store", 7))), version=">=2")
    assert (seconds, bool(why)) == (0.1, True)


async def test_a_resolver_that_tells_of_others_and_no_more_is_given_up_with_what_it_told() -> None:
    seconds, why = await met((0.1, WatchEvent((Reset((OLD,)),), Position())), version=">=2")
    assert "1 registered: 1.0.0" in why
    assert seconds == 2.0, "as long as any first word of a resolver"
