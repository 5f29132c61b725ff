"""Addresses that somebody else has now, while the registry is away and cannot say so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from atomesh.balancer import Client
from atomesh.balancer.candidate import SubchannelState
from atomesh.core.clock import SYSTEM_CLOCK

pytestmark = pytest.mark.timeout(90)


async def dialled(client: Client, address: str) -> None:
    """Returns when the client is connected to whoever is there, and has had time to call."""
    subchannel = client._fleets["task"]._subchannels[address]
    async with asyncio.timeout(10):
        while subchannel._connection is not SubchannelState.READY:
            await SYSTEM_CLOCK.sleep(0.01)
    await SYSTEM_CLOCK.sleep(0.5)


async def test_no_call_reaches_another_agent_or_another_instance_at_a_known_address_and_none_fails(
    mesh: Callable[..., Any], traffic: Callable[..., Any]
) -> None:
    async with mesh("Task") as m, Client(m.registry.address) as client:
        reused = m.endpoints[0]
        async with traffic(client, "task", callers=8) as load:
            await load.more(200)
            assert any(call.where == reused.address for call in load.answered)
            await m.registry.kill()
            await reused.kill()
            reused.verb = m.serving("Ledger")
            await reused.start()
            # Whoever dials it now finds somebody else; nothing may run there, not even what must not run twice.
            async with traffic(client, "task", callers=16, idempotent=False) as once:
                other_agent = SYSTEM_CLOCK.now()
                await dialled(client, reused.address)
            await reused.kill()
            reused.verb = m.serving("Task")
            await reused.start()
            async with traffic(client, "task", callers=16, idempotent=False) as again:
                await dialled(client, reused.address)
            assert once.failed == again.failed == {}, "WRONG_INSTANCE is an error for no caller"
            calls = load.begun_in(other_agent) + once.answered + again.answered
            assert not any(call.where == reused.address for call in calls), "the one that was meant is gone"
            assert not (m.state / "ledger").exists()
            await m.registry.start()
            back = len(load.answered)
            async with asyncio.timeout(20):  # a ttl, and what this machine needs
                while not any(call.where == reused.address for call in load.answered[back:]):
                    await SYSTEM_CLOCK.sleep(0.02)
        assert load.failed == {}, "once the registry is back the new one is used"
