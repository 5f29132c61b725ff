"""Watches over real streams: none leaks, none blocks, each ends promptly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from atomesh.registry import RegistrySettings, SQLiteStorage
from atomesh.v1 import registry_pb2


async def settled(condition: Any) -> None:
    """Waits up to 5 s for a condition."""
    async with asyncio.timeout(5):
        while not condition():
            await turn()


async def turn() -> None:
    """A moment of real time."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, done.set_result, None)
    await done


async def test_a_watcher_that_leaves_is_forgotten(registry: Any) -> None:
    async with registry() as (server, caller):
        watches = [caller.watch(agent="a") for _ in range(20)]
        for watch in watches:
            await watch.read()
        assert len(server.ledger.hub) == 20
        assert server.collectors.get_sample_value("atomesh_registry_watchers") == 20
        for watch in watches:
            watch.cancel()
        await settled(lambda: len(server.ledger.hub) == 0)
        assert server.collectors.get_sample_value("atomesh_registry_watchers") == 0


async def test_a_client_whose_connection_breaks_is_forgotten(registry: Any) -> None:
    async with registry() as (server, _):
        async with registry(bind="127.0.0.1:0") as (other, caller):
            assert other is not server
            await caller.watch().read()
            assert len(other.ledger.hub) == 1
        assert len(other.ledger.hub) == 0


async def test_a_registry_that_stops_ends_its_watches_at_once(registry: Any) -> None:
    async with registry() as (server, caller):
        watches = [caller.watch() for _ in range(5)]
        for watch in watches:
            await watch.read()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await server.stop()
        assert loop.time() - begun < 0.9, "idle watches must not hold up the end"
        assert len(server.ledger.hub) == 0
        for watch in watches:
            watch.cancel()


async def test_a_watcher_that_never_reads_blocks_nobody_and_begins_anew(registry: Any) -> None:
    settings = RegistrySettings(min_ttl=1, history_changes=50, watch_queue=50)
    async with registry(settings=settings) as (server, caller):
        asleep, awake = caller.watch(), caller.watch()
        await awake.read()
        big = {f"key-{number}": "v" * 1000 for number in range(60)}
        granted = await caller.register(metadata=big)
        await awake.read()
        for slots in range(2, 202):
            await caller.stub.Update(registry_pb2.UpdateRequest(lease_id=granted.lease_id, slots=slots))
            step = await awake.read()
            assert step.changes.changes[0].changed.spec.slots == slots, "a slow neighbour must cost a watcher nothing"
        reasons, slots = [], 0
        while slots < 201:
            step = await asleep.read()
            reasons += [step.reset.reason] if step.HasField("reset") else []
            told = [*step.reset.endpoints, *(change.changed or change.added for change in step.changes.changes)]
            slots = max([slots, *(endpoint.spec.slots for endpoint in told)])
        assert registry_pb2.Reset.REASON_SLOW_WATCHER in reasons
        assert server.collectors.get_sample_value("atomesh_registry_slow_watchers_total") >= 1
        asleep.cancel()
        awake.cancel()


async def test_an_idle_watcher_gets_bookmarks_and_can_resume_from_them(registry: Any) -> None:
    settings = RegistrySettings(min_ttl=1, bookmark_interval=0.1, history_changes=3)
    async with registry(settings=settings) as (_, caller):
        watch = caller.watch(agent="quiet")
        await watch.read()
        for port in range(1, 9):
            await caller.register(address=f"127.0.0.1:{port}")
        while not (step := await watch.read()).HasField("bookmark") or step.position.revision < 8:
            pass
        watch.cancel()
        again = caller.watch(agent="quiet", resume_after=step.position)
        first = await again.read()
        assert first.HasField("bookmark"), "a watch that missed nothing must say so, and not begin anew"
        again.cancel()


async def test_a_watch_resumes_across_a_restart_of_the_registry(registry: Any, tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    async with registry(storage=SQLiteStorage(path)) as (_, caller):
        granted = await caller.register()
        position = granted.position
        older = registry_pb2.Position(store_id=position.store_id, revision=0)
    async with registry(storage=SQLiteStorage(path)) as (_, caller):
        resumed, late = caller.watch(resume_after=position), caller.watch(resume_after=older)
        assert (await resumed.read()).HasField("bookmark")
        assert (await late.read()).reset.reason == registry_pb2.Reset.REASON_COMPACTED
        assert await caller.renew(granted.lease_id) == [registry_pb2.RENEW_STATUS_RENEWED]
        await caller.register(address="127.0.0.1:5002")
        step = await resumed.read()
        assert step.position.revision == position.revision + 1
        resumed.cancel()
        late.cancel()


async def test_another_store_is_a_foreign_position(registry: Any) -> None:
    async with registry() as (_, caller):
        position = (await caller.register()).position
    async with registry() as (_, caller):
        watch = caller.watch(resume_after=position)
        assert (await watch.read()).reset.reason == registry_pb2.Reset.REASON_FOREIGN_POSITION
        watch.cancel()


async def test_many_watchers_all_see_everything_in_order(registry: Any) -> None:
    async with registry() as (_, caller):
        watches = [caller.watch() for _ in range(30)]
        for watch in watches:
            await watch.read()
        await asyncio.gather(*(caller.register(address=f"127.0.0.1:{port}") for port in range(1, 101)))
        for watch in watches:
            revisions: list[int] = []
            while len(revisions) < 100:
                step = await watch.read()
                told = [each.revision for each in step.backlog.revisions]
                assert not told or told[-1] == step.position.revision, "the position is that of the last one told"
                revisions += told or [step.position.revision]
            assert revisions == list(range(1, 101))
            watch.cancel()


async def test_a_watcher_that_never_reads_does_not_hold_up_the_end(registry: Any) -> None:
    async with registry() as (server, caller):
        asleep = caller.watch()
        granted = await caller.register(metadata={f"key-{number}": "v" * 1000 for number in range(60)})
        for slots in range(2, 152):
            await caller.stub.Update(registry_pb2.UpdateRequest(lease_id=granted.lease_id, slots=slots))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await server.stop()
        assert loop.time() - begun < 3, "a stream that cannot be written must be cut off after the grace"
        assert len(server.ledger.hub) == 0
        asleep.cancel()


async def test_watches_that_come_and_go_by_the_hundred_leave_nothing(registry: Any) -> None:
    async with registry() as (server, caller):
        for _ in range(5):
            watches = [caller.watch(agent=f"agent-{number}") for number in range(40)]
            await caller.register("agent-7")
            for number, watch in enumerate(watches):
                if number % 2:
                    await watch.read()
                watch.cancel()
        await settled(lambda: len(server.ledger.hub) == 0)
        assert server.ledger.hub._groups == {}
