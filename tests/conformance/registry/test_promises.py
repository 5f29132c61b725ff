"""What a registry promises, step by step, over every storage and real gRPC."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from atomesh.registry import RegistrySettings
from atomesh.testing.history import STATES, Caller, Place, Wanted, WatchTold
from atomesh.testing.registry_world.contracts import BROKEN, PLAIN, WIDER, Contract
from atomesh.v1 import registry_pb2

WHOLE = Wanted(states=STATES)


def spec(port: int, instance: str = "instance-1", **more: Any) -> registry_pb2.EndpointSpec:
    return registry_pb2.EndpointSpec(agent="alpha", address=f"10.0.0.1:{port}", instance_id=instance, **more)


async def come(caller: Caller, port: int, instance: str = "instance-1", contract: Contract = PLAIN) -> Any:
    """The call and the lease's id."""
    return await caller.register(spec(port, instance), contract.proto, contract.hash)


async def heard(caller: Caller, after: Place | None = None, count: int = 1, wanted: Wanted = WHOLE) -> list[WatchTold]:
    """The first messages of a watch."""
    told: list[WatchTold] = []
    async with asyncio.timeout(20), contextlib.aclosing(caller.watch(wanted, after)) as watch:
        async for each in watch:
            told.append(each)
            if len(told) == count:
                break
    return told


async def test_who_writes_reads_what_was_written(registry: Any) -> None:
    async with registry() as place:
        caller = place.caller("owner")
        call, lease = await come(caller, 1)
        found = await caller.discover(WHOLE)
        assert [each.address for each in found.shown] == ["10.0.0.1:1"]
        assert found.place.revision >= call.place.revision
        assert (await caller.update(lease, state="DRAINING")).done
        assert [each.state for each in (await caller.discover(WHOLE)).shown] == ["DRAINING"]
        assert (await caller.discover(Wanted())).shown == (), "an endpoint that drains must not be found as serving"
        assert (await caller.deregister(lease)).done
        assert (await caller.discover(WHOLE)).shown == ()


async def test_a_watch_is_resumed_where_it_broke(registry: Any) -> None:
    async with registry() as place:
        owner, watcher = place.caller("owner"), place.caller("watcher")
        await come(owner, 1)
        (first,) = await heard(watcher)
        assert first.reason == "FIRST"
        for port in (2, 3):
            await come(owner, port)
        told = await heard(watcher, first.place, 2)
        assert [each.place.revision for each in told] == [first.place.revision + 1, first.place.revision + 2]
        (idle,) = await heard(watcher, told[-1].place)
        assert idle.kind == "bookmark", "a watch that missed nothing must be told so at once"


async def test_what_cannot_be_resumed_is_said(registry: Any) -> None:
    async with registry(RegistrySettings(history_changes=3, watch_queue=3, probe_interval=0.0)) as place:
        owner, watcher = place.caller("owner"), place.caller("watcher")
        (first,) = await heard(watcher)
        for port in range(1, 6):
            await come(owner, port)
        (late,) = await heard(watcher, first.place)
        assert late.reason == "COMPACTED"
        assert len(late.shown) == 5
        for foreign in (Place("f" * 32, 1), Place(late.place.store, late.place.revision + 1)):
            (told,) = await heard(watcher, foreign)
            assert told.reason == "FOREIGN_POSITION"


async def test_the_newest_instance_wins_and_the_old_one_hears_so(registry: Any) -> None:
    async with registry() as place:
        owner = place.caller("owner")
        _, old = await come(owner, 1, "instance-1")
        _, new = await come(owner, 1, "instance-2")
        assert (await owner.renew([old, new, "f" * 32])).statuses == ("SUPERSEDED", "RENEWED", "UNKNOWN")
        assert (await owner.update(old, slots=7)).outcome == "SUPERSEDED"
        assert (await owner.deregister("f" * 32)).outcome == "UNKNOWN_LEASE"
        _, again = await come(owner, 1, "instance-2")
        assert (await owner.renew([new, again])).statuses == ("UNKNOWN", "RENEWED")


async def test_contracts_of_one_agent_go_together(registry: Any) -> None:
    async with registry() as place:
        owner = place.caller("owner")
        await come(owner, 1)
        assert (await come(owner, 2, contract=WIDER))[0].done
        assert (await come(owner, 3, contract=BROKEN))[0].outcome == "INCOMPATIBLE_CONTRACT"
        assert (await owner.get_contract(contract_hash=WIDER.hash)).answered == WIDER.hash
        assert (await owner.get_contract(contract_hash=BROKEN.hash)).outcome == "NOT_FOUND"


async def test_a_lease_that_nobody_renews_ends(registry: Any) -> None:
    async with registry() as place:
        owner, watcher = place.caller("owner"), place.caller("watcher")
        await come(owner, 1)
        async with asyncio.timeout(20), contextlib.aclosing(watcher.watch(WHOLE)) as watch:
            async for told in watch:
                if any(change.reason == "EXPIRED" for change in told.changes):
                    break
        assert (await owner.discover(WHOLE)).shown == ()


async def test_a_commit_that_fails_leaves_no_trace(registry: Any) -> None:
    async with registry() as place:
        owner, watcher = place.caller("owner"), place.caller("watcher")
        _, lease = await come(owner, 1)
        (first,) = await heard(watcher)
        with place.full():
            assert (await come(owner, 2))[0].outcome == "REGISTRY_UNAVAILABLE"
            assert (await owner.update(lease, slots=9)).outcome == "REGISTRY_UNAVAILABLE"
            assert (await owner.deregister(lease)).outcome == "REGISTRY_UNAVAILABLE"
            assert (await owner.renew([lease])).statuses == ("RENEWED",), "renewals need no disk"
            assert [each.slots for each in (await owner.discover(WHOLE)).shown] == [1]
        call, _ = await come(owner, 3)
        assert call.place.revision == first.place.revision + 1, "what failed must not have used up a revision"
        (told,) = await heard(watcher, first.place)
        assert [change.key[1] for change in told.changes] == ["10.0.0.1:3"]


async def test_a_restart_keeps_what_the_store_keeps(registry: Any) -> None:
    async with registry() as place:
        owner, watcher = place.caller("owner"), place.caller("watcher")
        _, old = await come(owner, 1, "instance-1")
        _, lease = await come(owner, 1, "instance-2")
        _, gone = await come(owner, 2)
        await owner.deregister(gone)
        (before,) = await heard(watcher)
        await place.restart()
        kept = place.kind.kept
        statuses = (await place.caller("owner again").renew([lease, old, gone])).statuses
        assert statuses == (("RENEWED", "SUPERSEDED", "UNKNOWN") if kept else ("UNKNOWN",) * 3)
        again = place.caller("watcher again")
        (told,) = await heard(again, before.place)
        if kept:
            assert told.kind == "bookmark", "the last position must be resumed over a restart"
            assert [each.instance for each in (await again.discover(WHOLE)).shown] == ["instance-2"]
        else:
            assert told.reason == "FOREIGN_POSITION"
            assert told.shown == ()
