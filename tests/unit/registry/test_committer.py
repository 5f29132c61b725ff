"""Group commit in virtual time, over a store that can be slow, full, or mad."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from atomesh.core.endpoint import State
from atomesh.core.errors import IncompatibleContract, RegistryUnavailable
from atomesh.core.selector import Selector
from atomesh.registry.committer import Committer
from atomesh.registry.errors import CommitFailed
from atomesh.registry.metrics import RegistryMetrics
from atomesh.registry.operations import Batch, Register, Stored

pytestmark = pytest.mark.virtual_time


class SlowStore:
    """Takes a second per commit, and fails as told."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.batches: list[Batch] = []
        self.failure: Exception | None = None

    async def load(self) -> Stored:
        return Stored("store-1")

    async def commit(self, batch: Batch) -> None:
        await self.clock.sleep(1)
        if self.failure is not None:
            raise self.failure
        self.batches.append(batch)

    async def close(self) -> None:
        pass


class Commits:
    def __init__(self, world: Any, clock: Any, limit: int = 100) -> None:
        self.store = SlowStore(clock)
        self.woken: list[Any] = []
        self.metrics = RegistryMetrics(CollectorRegistry())
        self.committer = Committer(
            world.ledger, self.store, clock=clock, metrics=self.metrics, limit=limit, wake=self.woken.extend
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Committer]:
        task = asyncio.create_task(self.committer.run())
        try:
            yield self.committer
        finally:
            self.committer.stop()
            await task


@pytest.fixture
def register(endpoint: Any, contract: Any) -> Any:
    def make(port: int, **more: Any) -> Register:
        chosen = more.pop("contract", None) or contract()
        return Register(endpoint(port=port, **more), chosen, f"lease-{port}", 15.0, 0.0)

    return make


async def test_what_comes_while_a_batch_commits_shares_the_next(world: Any, virtual_clock: Any, register: Any) -> None:
    commits = Commits(world, virtual_clock)
    async with commits.running() as committer, asyncio.TaskGroup() as group:
        first = group.create_task(committer.submit(register(1)))
        await virtual_clock.sleep(0.5)
        others = [group.create_task(committer.submit(register(port))) for port in range(2, 52)]
    assert first.result() == 1
    assert sorted(task.result() for task in others) == list(range(2, 52)), "each operation is a revision of its own"
    assert [len(batch.put) for batch in commits.store.batches] == [1, 50]
    assert virtual_clock.now() == pytest.approx(2.0)


async def test_nothing_is_visible_while_it_commits(world: Any, virtual_clock: Any, register: Any, folded: Any) -> None:
    watch = folded(world.ledger, Selector())
    watch.follow()
    commits = Commits(world, virtual_clock)
    async with commits.running() as committer:
        task = asyncio.create_task(committer.submit(register(1)))
        await virtual_clock.sleep(0.9)
        assert world.addresses() == []
        assert watch.follow() == []
        assert await task == 1
        assert commits.woken == [watch.watcher], "whom it concerns must be woken"
        assert len(watch.follow()) == 1


async def test_a_failed_commit_refuses_the_new_shows_nothing_and_the_registry_lives_on(
    world: Any, virtual_clock: Any, register: Any, folded: Any
) -> None:
    watch = folded(world.ledger, Selector())
    watch.follow()
    commits = Commits(world, virtual_clock)
    async with commits.running() as committer:
        commits.store.failure = CommitFailed("database or disk is full")
        answers = await asyncio.gather(*(committer.submit(register(port)) for port in (1, 2)), return_exceptions=True)
        refusals = [answer for answer in answers if isinstance(answer, RegistryUnavailable)]
        assert len(refusals) == 2
        assert "disk is full" in str(refusals[0])
        assert refusals[0].retry_after == 1.0
        assert watch.follow() == []
        assert world.ledger.store.revision == 0, "no revision may be used up by what never was"
        commits.store.failure = None
        assert await committer.submit(register(3)) == 1
        assert [step.revision for step in watch.follow()] == [1]
    assert world.addresses() == ["10.0.0.1:3"]


async def test_an_expiry_that_cannot_be_committed_is_tried_again(world: Any, virtual_clock: Any) -> None:
    world.register()
    commits = Commits(world, virtual_clock)
    world.now = virtual_clock.now() + 1000
    commits.committer._clock = _Shifted(virtual_clock, 1000.0)
    async with commits.running() as committer:
        commits.store.failure = CommitFailed("no")
        for _ in range(20):
            await virtual_clock.sleep(1)
            if world.ledger.tick(virtual_clock.now() + 1000):
                committer.wake()
        assert world.addresses() == ["10.0.0.1:1"]
        commits.store.failure = None
        committer.wake()
        await virtual_clock.sleep(2.5)
        assert world.addresses() == []


class _Shifted:
    def __init__(self, clock: Any, by: float) -> None:
        self.clock, self.by = clock, by

    def now(self) -> float:
        return float(self.clock.now() + self.by)

    def wall(self) -> float:
        return float(self.clock.wall() + self.by)

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)


async def test_a_store_that_goes_mad_refuses_its_batch_and_no_more(
    world: Any, virtual_clock: Any, register: Any
) -> None:
    commits = Commits(world, virtual_clock)
    async with commits.running() as committer:
        commits.store.failure = ValueError("a bug")
        with pytest.raises(RegistryUnavailable, match="log has the reason"):
            await committer.submit(register(1))
        commits.store.failure = None
        assert await committer.submit(register(2)) == 1


async def test_a_registry_that_cannot_show_what_is_durable_refuses_all_until_it_is_restarted(
    world: Any, virtual_clock: Any, register: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = Commits(world, virtual_clock)
    monkeypatch.setattr(world.ledger, "apply", lambda staged, now: 1 / 0)
    task = asyncio.create_task(commits.committer.run())
    for port in (1, 2):
        async with asyncio.timeout(5):
            with pytest.raises(RegistryUnavailable, match=r"restarted|stopping"):
                await commits.committer.submit(register(port))
    with pytest.raises(ZeroDivisionError):
        await task


async def test_a_refused_operation_does_not_wait_for_the_others_of_its_batch_to_fail(
    world: Any, virtual_clock: Any, register: Any, contract: Any
) -> None:
    commits = Commits(world, virtual_clock)
    async with commits.running() as committer:
        good, bad = await asyncio.gather(
            committer.submit(register(1)),
            committer.submit(register(2, contract=contract("other.v1"))),
            return_exceptions=True,
        )
    assert good == 1
    assert isinstance(bad, IncompatibleContract)


async def test_too_many_waiting_operations_are_refused_at_once(world: Any, virtual_clock: Any, register: Any) -> None:
    commits = Commits(world, virtual_clock, limit=3)
    async with commits.running() as committer:
        tasks = [asyncio.create_task(committer.submit(register(port))) for port in range(1, 6)]
        await virtual_clock.sleep(0)
        await virtual_clock.sleep(0)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(answer, RegistryUnavailable) for answer in answers) == 2


async def test_whoever_gives_up_before_its_turn_is_not_registered(
    world: Any, virtual_clock: Any, register: Any
) -> None:
    commits = Commits(world, virtual_clock)
    async with commits.running() as committer:
        first = asyncio.create_task(committer.submit(register(1)))
        await virtual_clock.sleep(0.5)
        gone = asyncio.create_task(committer.submit(register(2)))
        await virtual_clock.sleep(0.1)
        gone.cancel()
        await first
    assert world.addresses() == ["10.0.0.1:1"]


async def test_what_waits_when_it_stops_is_committed_and_what_comes_later_refused(
    world: Any, virtual_clock: Any, register: Any
) -> None:
    commits = Commits(world, virtual_clock)
    async with commits.running() as committer:
        first = asyncio.create_task(committer.submit(register(1)))
        await virtual_clock.sleep(0.5)
    assert await first == 1
    with pytest.raises(RegistryUnavailable, match="stopping"):
        await committer.submit(register(2))


async def test_self_preservation_is_said(world: Any, virtual_clock: Any, caplog: pytest.LogCaptureFixture) -> None:
    for port in range(1, 31):
        world.register(port=port)
    commits = Commits(world, virtual_clock)
    commits.committer._clock = _Shifted(virtual_clock, 1000.0)
    async with commits.running() as committer:
        for _ in range(20):
            await virtual_clock.sleep(1)
            if world.ledger.tick(virtual_clock.now() + 1000):
                committer.wake()
    assert world.ledger.counts()[State.SUSPECT] == 30
    assert "30 leases ran out at once and are SUSPECT" in caplog.text
    assert world.ledger.self_preservation
    assert commits.metrics.collectors.get_sample_value("atomesh_registry_suspicions_total") == 30


async def test_who_renews_while_doubt_is_committed_is_doubted_no_longer_than_another_commit(
    new_world: Any, virtual_clock: Any
) -> None:
    world = new_world(preservation_minimum=2)
    leases = [world.register(port=port) for port in (1, 2)]
    commits = Commits(world, virtual_clock)
    async with commits.running() as committer:
        await virtual_clock.sleep(world.now - virtual_clock.now())  # the world's time begins at 1,000 s
        while not world.ledger.tick(virtual_clock.now()):
            await virtual_clock.sleep(1.0)
        committer.wake()
        await virtual_clock.sleep(0.5)
        world.ledger.renew(leases[0], None, virtual_clock.now(), 0.0)
        await virtual_clock.sleep(1.0)
        assert [entry.endpoint.state for entry in world.ledger.store.all()] == [State.SUSPECT] * 2
        await virtual_clock.sleep(1.0)
        assert {entry.endpoint.state for entry in world.ledger.store.all()} == {State.SERVING, State.SUSPECT}, (
            "a renewal must end the doubt with the next commit, and not with the next tick"
        )
