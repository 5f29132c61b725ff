"""Batches over the real mesh on a network in memory, in virtual time: so what the fleet does is exact.

Agents, clients and their muxes are the real ones; each endpoint is a host of
its own, with round trips of its own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import DoubleValue, StringValue

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.pipelines.batch import (
    BatchSettings,
    BatchSummary,
    MeshExecutor,
    Outcome,
    open_batch,
)
from atomesh.testing import VirtualClock
from atomesh.testing.memory import Host, LinkProfile, MemoryNetwork, run_hosts

LONG = BatchSettings(timeout=1e5, item_timeout=1e4)


class Digger(Agent[DoubleValue, StringValue]):
    """Works for as many seconds as it is told."""

    name = "digger"

    def __init__(self, site: Site) -> None:
        self._site = site

    async def execute(self, input: DoubleValue, context: ExecutionContext, /) -> StringValue:
        self._site.begun.append(context.context.idempotency_key)
        self._site.running += 1
        try:
            await self._site.clock.sleep(input.value)
        finally:
            self._site.running -= 1
        self._site.busy += input.value
        self._site.done.append(context.context.idempotency_key)
        return StringValue(value=self._site.host.name)


class Site:
    """One endpoint."""

    def __init__(self, host: Host, clock: VirtualClock) -> None:
        self.host = host
        self.clock = clock
        self.running = 0
        self.busy = 0.0
        self.begun: list[str] = []
        self.done: list[str] = []


class Ground:
    """Endpoints and a client."""

    def __init__(self, slots: Sequence[int], round_trip: float, seed: int = 1) -> None:
        self.clock = VirtualClock(loop=asyncio.get_running_loop())
        self.network = MemoryNetwork(random.Random(seed), profile=LinkProfile(latency=round_trip / 2))
        self.here = self.network.host("client")
        self.slots = slots
        self.sites = [Site(self.network.host(f"site-{n}"), self.clock) for n in range(len(slots))]

    async def batch(
        self,
        inputs: Iterable[DoubleValue],
        settings: BatchSettings,
        meanwhile: Callable[[Ground, int], None] = lambda *_: None,
    ) -> tuple[BatchSummary, list[Any]]:
        """Runs one; `meanwhile` sees how many items have ended."""
        servers = []
        for site, slots in zip(self.sites, self.slots, strict=True):
            server = AgentServer(
                Digger(site), bind=f"{site.host.ip}:0", slots=slots, network=site.host, clock=self.clock,
                rng=random.Random(1), drain_grace=1.0,
            )  # fmt: skip
            await site.host.spawn(server.start(), f"start {site.host.name}")
            servers.append(server)
        items = []
        try:
            addresses = [server.address for server in servers]
            async with Client(endpoints=addresses, network=self.here, clock=self.clock, rng=random.Random(2)) as mesh:
                async with open_batch(MeshExecutor(mesh, self.clock), "digger", inputs, settings) as batch:
                    async for item in batch:
                        items.append(item)
                        meanwhile(self, len(items))
                summary = batch.summary()
        finally:
            for server, site in zip(servers, self.sites, strict=True):
                await site.host.spawn(server.stop(), f"stop {site.host.name}")
        return summary, items


def run(
    slots: Sequence[int],
    round_trip: float,
    inputs: Iterable[DoubleValue],
    meanwhile: Callable[[Ground, int], None] = lambda *_: None,
) -> tuple[Ground, BatchSummary, list[Any]]:
    """One batch in a world of its own."""

    async def world() -> tuple[Ground, BatchSummary, list[Any]]:
        ground = Ground(slots, round_trip)
        return (ground, *await ground.batch(inputs, LONG, meanwhile))

    return run_hosts(world())


def thousandfold(count: int) -> Iterable[DoubleValue]:
    rng = random.Random(7)
    return (DoubleValue(value=10 ** rng.uniform(-2, 1)) for _ in range(count))


@pytest.mark.parametrize("round_trip", [0.0, 0.002, 0.02])
def test_costs_that_differ_a_thousandfold_keep_the_fleet_at_95_percent_of_its_slots(round_trip: float) -> None:
    ground, summary, items = run([4, 8, 2, 2], round_trip, thousandfold(3000))
    assert summary.succeeded == 3000
    seen = sum(site.busy for site in ground.sites) / (16 * summary.duration)
    assert seen > 0.95, f"the endpoints were busy for {seen:.1%} of their slot time"
    assert summary.efficiency == pytest.approx(seen, abs=0.01), "and that is what the batch says"
    keys = [key for site in ground.sites for key in site.begun]
    assert len(keys) == len(set(keys)) == 3000, "nothing runs twice"
    waits = sum(item.queue_wait for item in items) / len(items)
    assert waits < 1.0, "few wait in the client"


@pytest.mark.parametrize("round_trips", [2, 4, 10, 30])
def test_work_that_is_short_beside_its_way_keeps_the_fleet_busy_too(round_trips: int) -> None:
    """The window has room for what is on its way, and the client binds early: see `balancer.binding`."""

    _, summary, _ = run([8, 8], 0.001, [DoubleValue(value=0.001 * round_trips)] * 5_000)
    assert summary.efficiency > 0.95, f"{summary.efficiency:.1%}"


def test_an_endpoint_that_is_killed_loses_only_what_it_ran_and_nothing_runs_twice() -> None:
    def kill(ground: Ground, ended: int) -> None:
        if ended == 500 and ground.sites[0].host.alive:
            ground.network.kill(ground.sites[0].host)

    ground, summary, items = run([4, 4, 4], 0.002, [DoubleValue(value=0.05)] * 2000, kill)
    assert sorted(item.index for item in items) == list(range(2000)), "every item has an outcome"
    lost = [item for item in items if item.outcome is not Outcome.SUCCESS]
    assert 1 <= len(lost) <= 8, "what ran in its four slots, and what was on its way there or back"
    assert all(item.may_have_run for item in lost), "nobody knows how far those came"
    keys = [key for site in ground.sites for key in site.begun]
    assert len(keys) == len(set(keys)), "an agent that must not run twice does not"
    assert summary.slots_mean < 12


def test_what_runs_is_cancelled_where_the_batch_is_left() -> None:
    async def left() -> None:
        ground = Ground([4, 4], 0.002)
        task = asyncio.create_task(ground.batch([DoubleValue(value=60.0)] * 100, LONG))
        await ground.clock.sleep(5)
        assert [site.running for site in ground.sites] == [4, 4]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ground.clock.sleep(0.1)
        assert [site.running for site in ground.sites] == [0, 0], "within 100 ms"

    run_hosts(left())
