"""Muxes that are renewed, drained and broken while everybody calls: what must not run twice does not, and nobody notices."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest

from atomesh.balancer import Client
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.v1 import agent_pb2, agent_pb2_grpc

pytestmark = pytest.mark.timeout(90)


def stream(client: Client, agent: str, address: str) -> Any:
    """The mux that the client has there; None where it has none."""
    subchannel = client._fleets[agent]._subchannels.get(address)
    return subchannel.stream if subchannel is not None else None


async def drain(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
        await stub.Drain(agent_pb2.DrainRequest())


def check_ledger(m: Any, load: Any) -> None:
    runs = Counter((m.state / "ledger").read_text().split())
    assert set(runs.values()) == {1}, f"ran twice: {[name for name, n in runs.items() if n > 1][:5]}"
    assert {call.name for call in load.answered} <= set(runs), "an answered call must have run"


async def test_no_call_fails_and_none_runs_twice_while_muxes_are_renewed_every_two_seconds(
    mesh: Callable[..., Any], traffic: Callable[..., Any]
) -> None:
    flags = ["mesh_agents:Task", "--max-connection-age", "2"]
    async with mesh("Ledger", flags=flags) as m, Client(m.registry.address) as client:
        seen: dict[str, list[Any]] = {member.address: [] for member in m.endpoints}
        slow = traffic(client, "task", callers=6, content="sleep 2.200{}", idempotent=False)
        async with traffic(client, "ledger") as load, slow:
            await load.more(100)
            end = SYSTEM_CLOCK.now() + 10
            while SYSTEM_CLOCK.now() < end:
                for address, streams in seen.items():
                    now = stream(client, "ledger", address)
                    assert now is not None, "the next one stands before the last one goes"
                    if now not in streams:
                        streams.append(now)
                await SYSTEM_CLOCK.sleep(0.01)
        assert load.failed == {}, f"{len(load.failed)} of {len(load.answered)} calls failed"
        assert slow.failed == {}, "nor those that take longer than a mux lives"
        assert min(map(len, seen.values())) >= 4, "each mux is two seconds old at most"
        assert all(old.ended.is_set() for streams in seen.values() for old in streams[:-2]), "old ones end"
        check_ledger(m, load)


async def test_a_drain_fails_no_call_and_after_its_frame_nothing_new_is_sent_there(
    mesh: Callable[..., Any], traffic: Callable[..., Any]
) -> None:
    async with mesh("Ledger") as m, Client(m.registry.address) as client:
        drained = m.endpoints[0]
        async with traffic(client, "ledger", callers=48) as load:
            await load.more(500)
            candidate = client._fleets["ledger"].balancer.candidates[drained.address]
            await drain(drained.address)
            async with asyncio.timeout(10):
                while not candidate.refusing:
                    await SYSTEM_CLOCK.sleep(0.001)
            told = SYSTEM_CLOCK.now()
            assert await drained.ended() == 0, "a drained agent exits with 0"
            await load.more(500)
        assert any(call.where == drained.address for call in load.answered), "it had its share before"
        late = [call for call in load.begun_in(told) if call.where == drained.address]
        assert late == [], "who has said that it drains is not picked"
        assert load.failed == {}, "what it refuses goes elsewhere, what runs there is finished"
        check_ledger(m, load)
