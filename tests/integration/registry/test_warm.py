"""A registry that was restarted holds its answers until it knows what is there, and then tells all of it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.selector import Selector
from atomesh.core.updates import Reset
from atomesh.registry import RegistrySettings, SQLiteStorage
from atomesh.registry.wire import PART_BYTES
from atomesh.rpc import RegistryClient
from atomesh.v1 import registry_pb2

PATIENT = RegistrySettings(min_ttl=1.0, tick=0.1, warm_within=60)


def addresses(answer: Any) -> list[str]:
    return [endpoint.spec.address for endpoint in answer.endpoints]


async def left_behind(registry: Any, path: Path, *ports: int) -> list[str]:
    """The leases of a registry that has stopped since."""
    async with registry(storage=SQLiteStorage(path)) as (_, caller):
        return [(await caller.register(address=f"127.0.0.1:{port}", ttl=600)).lease_id for port in ports]


async def test_who_asks_waits_until_everybody_was_heard_of(registry: Any, tmp_path: Path) -> None:
    leases = await left_behind(registry, tmp_path / "r.db", 5001, 5002)
    async with registry(storage=SQLiteStorage(tmp_path / "r.db"), settings=PATIENT) as (
        server,
        caller,
    ):
        discovered = asyncio.create_task(caller.discover())
        watch = caller.watch()
        read = asyncio.create_task(watch.read())
        assert not server.warm
        await caller.register(address="127.0.0.1:5003")
        assert await caller.renew(leases[0]) == [registry_pb2.RENEW_STATUS_RENEWED]
        assert server.collectors.get_sample_value("atomesh_registry_warm") == 0
        done, _ = await asyncio.wait([discovered, read], timeout=0.3)
        assert not done, "one of the two may be gone"
        assert await caller.renew(leases[1]) == [registry_pb2.RENEW_STATUS_RENEWED]
        ports = ["127.0.0.1:5001", "127.0.0.1:5002", "127.0.0.1:5003"]
        assert addresses(await discovered) == ports
        assert addresses((await read).reset) == ports
        assert server.warm
        assert server.collectors.get_sample_value("atomesh_registry_warm") == 1
        watch.cancel()


async def test_where_nobody_comes_back_it_waits_no_longer_than_it_must(registry: Any, tmp_path: Path) -> None:
    await left_behind(registry, tmp_path / "r.db", 5001)
    settings = replace(PATIENT, warm_within=0.5)
    async with registry(storage=SQLiteStorage(tmp_path / "r.db"), settings=settings) as (server, caller):
        began = SYSTEM_CLOCK.now()
        assert addresses(await caller.discover()) == ["127.0.0.1:5001"], "its lease has not run out"
        assert SYSTEM_CLOCK.now() - began > 0.2
        assert server.warm


async def test_one_that_left_and_one_that_was_replaced_have_been_heard_of_too(registry: Any, tmp_path: Path) -> None:
    leases = await left_behind(registry, tmp_path / "r.db", 5001, 5002)
    async with registry(storage=SQLiteStorage(tmp_path / "r.db"), settings=PATIENT) as (_, caller):
        await caller.stub.Deregister(registry_pb2.DeregisterRequest(lease_id=leases[0]))
        await caller.register(address="127.0.0.1:5002", instance_id="instance-2")
        assert addresses(await caller.discover()) == ["127.0.0.1:5002"]


async def test_who_waits_for_a_registry_that_stops_hears_so_at_once(registry: Any, tmp_path: Path) -> None:
    await left_behind(registry, tmp_path / "r.db", 5001)
    async with registry(storage=SQLiteStorage(tmp_path / "r.db"), settings=PATIENT) as (server, caller):
        waiting = asyncio.create_task(caller.discover())
        await asyncio.wait([waiting], timeout=0.2)
        async with asyncio.timeout(5):
            await server.stop()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await waiting
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_new_registry_and_one_that_forgets_are_warm_at_once(registry: Any, tmp_path: Path) -> None:
    for storage in (None, SQLiteStorage(tmp_path / "r.db")):
        async with registry(settings=PATIENT, **({"storage": storage} if storage else {})) as (server, caller):
            assert server.warm
            assert addresses(await caller.discover()) == []


async def test_a_fleet_that_no_message_holds_is_watched_in_parts(registry: Any) -> None:
    metadata = {f"note-{number}": "x" * 1000 for number in range(60)}
    async with registry() as (server, caller):
        for port in range(5001, 5101):
            await caller.register(address=f"127.0.0.1:{port}", metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.discover()
        assert "narrow the selector" in (refused.value.details() or "")
        watch = caller.watch()
        parts = [await watch.read()]
        while parts[-1].reset.more:
            parts.append(await watch.read())
        watch.cancel()
        assert len(parts) > 4
        assert max(part.ByteSize() for part in parts) < 1.2 * PART_BYTES
        assert all(part.position.store_id == "" for part in parts[:-1]), "nobody can resume after half a snapshot"
        assert parts[-1].position.revision == 100
        seen = [endpoint.spec.address for part in parts for endpoint in part.reset.endpoints]
        assert seen == [f"127.0.0.1:{port}" for port in range(5001, 5101)]

        async with RegistryClient(server.address) as client:
            async with contextlib.aclosing(client.watch_once(Selector())) as events:
                event = await anext(events)
            (reset,) = event.updates
            assert isinstance(reset, Reset)
            assert len(reset.endpoints) == 100
            assert event.position.revision == 100
