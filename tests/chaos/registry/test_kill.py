"""Real processes, SIGKILL and SIGSTOP: what was acknowledged is there, and nobody expires for the registry's absence."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from atomesh.core.contract import describe
from atomesh.core.endpoint import ALL_STATES, Endpoint
from atomesh.core.errors import AtomeshError
from atomesh.core.selector import Selector
from atomesh.core.updates import Reset, ResetReason
from atomesh.rpc import RegistryClient
from atomesh.text.v1 import text_pb2
from atomesh.v1 import registry_pb2

SCRIPT = Path(__file__).with_name("serve_registry.py")
TEXT = describe(text_pb2.TextInput, text_pb2.TextOutput)
EVERY = Selector(states=ALL_STATES)


def endpoint(port: int) -> Endpoint:
    return Endpoint("text-processor", f"127.0.0.1:{port}", f"instance-{port}")


async def register_until_it_dies(client: RegistryClient, ports: Any, acknowledged: dict[int, Any]) -> None:
    for port in ports:
        try:
            acknowledged[port] = await client.register(endpoint(port), TEXT, ttl=600)
        except AtomeshError:
            return


async def turn(seconds: float) -> None:
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, done.set_result, None)
    await done


async def test_every_acknowledged_registration_survives_kill_9_under_load(
    tmp_path: Path, registry_process: Any
) -> None:
    acknowledged: dict[int, Any] = {}
    async with registry_process(tmp_path / "registry.db") as registry:
        last_revision = 0
        for round_number in range(3):
            async with RegistryClient(registry.address) as client:
                first = 1000 + round_number * 10_000
                callers = [
                    asyncio.create_task(
                        register_until_it_dies(client, range(first + n * 500, first + n * 500 + 500), acknowledged)
                    )
                    for n in range(16)
                ]
                await turn(0.4 + 0.17 * round_number)
                assert not all(caller.done() for caller in callers), "the kill must come in the middle"
                await registry.end(signal.SIGKILL)
                await asyncio.gather(*callers)
            await registry.start()
            async with RegistryClient(registry.address) as client:
                found = await client.discover(EVERY)
                known = {found_endpoint.address: found_endpoint for found_endpoint in found.endpoints}
                for port, granted in acknowledged.items():
                    held = known.get(f"127.0.0.1:{port}")
                    assert held is not None, f"port {port} was acknowledged at {granted.position} and is lost"
                    assert held.revision == granted.position.revision
                    assert held.instance_id == f"instance-{port}"
                assert found.position.revision >= max(g.position.revision for g in acknowledged.values())
                assert found.position.revision > last_revision, "revisions must go on where they were"
                last_revision = found.position.revision
                leases = [(granted.lease_id, None) for granted in acknowledged.values()]
                for start in range(0, len(leases), 1000):
                    statuses = await client.renew(leases[start : start + 1000])
                    assert set(statuses) == {registry_pb2.RENEW_STATUS_RENEWED}, "leases must survive too"
        assert len(acknowledged) > 50, "the rounds must have had something to lose"


async def test_a_watch_resumes_over_kill_9_without_a_gap(tmp_path: Path, registry_process: Any) -> None:
    async with registry_process(tmp_path / "registry.db") as registry:
        async with RegistryClient(registry.address) as client:
            await client.register(endpoint(1), TEXT, ttl=600)
            async with contextlib.aclosing(client.watch_once(EVERY)) as events:
                first = await anext(events)
        assert isinstance(first.updates[0], Reset)
        await registry.end(signal.SIGKILL)
        await registry.start()
        async with RegistryClient(registry.address) as client:
            async with contextlib.aclosing(client.watch_once(EVERY, first.position)) as events:
                assert (await anext(events)).updates == (), "at the last revision, there is nothing to begin anew"
                await client.register(endpoint(2), TEXT, ttl=600)
                assert (await anext(events)).position.revision == first.position.revision + 1
            await registry.end(signal.SIGKILL)
        await registry.start()
        async with (
            RegistryClient(registry.address) as client,
            contextlib.aclosing(client.watch_once(EVERY, first.position)) as events,
        ):
            (reset,) = (await anext(events)).updates
            assert isinstance(reset, Reset)
            assert reset.reason is ResetReason.COMPACTED
            assert len(reset.endpoints) == 2


async def test_a_registry_stopped_for_longer_than_the_ttl_expires_nobody(tmp_path: Path, registry_process: Any) -> None:
    async with registry_process(tmp_path / "registry.db") as registry, RegistryClient(registry.address) as client:
        leases = [await client.register(endpoint(port), TEXT, ttl=2) for port in range(1, 6)]
        registry.send(signal.SIGSTOP)
        await turn(5)
        registry.send(signal.SIGCONT)
        assert len((await client.discover(EVERY)).endpoints) == 5, "5 s without a registry must not end leases of 2 s"
        statuses = await client.renew([(lease.lease_id, None) for lease in leases])
        assert set(statuses) == {registry_pb2.RENEW_STATUS_RENEWED}
        await turn(3.5)
        assert (await client.discover(EVERY)).endpoints == (), "and after it leases must run out as ever"


async def test_a_second_process_on_the_same_file_is_refused_in_one_line(tmp_path: Path, registry_process: Any) -> None:
    async with registry_process(tmp_path / "registry.db") as registry:
        second = await asyncio.create_subprocess_exec(
            sys.executable,
            str(SCRIPT),
            str(tmp_path / "registry.db"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await second.communicate()
        assert second.returncode != 0
        assert "open in another registry" in errors.decode().splitlines()[-1]
        async with RegistryClient(registry.address) as client:
            await client.register(endpoint(1), TEXT)


async def test_sigterm_ends_it_cleanly_under_watches(tmp_path: Path, registry_process: Any) -> None:
    async with (
        registry_process(tmp_path / "registry.db") as registry,
        RegistryClient(registry.address) as client,
        contextlib.aclosing(client.watch_once(EVERY)) as events,
        asyncio.timeout(15),
    ):
        await anext(events)
        assert await registry.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_torn_write_ahead_log_loses_no_commit_before_the_tear(
    tmp_path: Path, seed: int, registry_process: Any
) -> None:
    database = tmp_path / "registry.db"
    async with registry_process(database) as registry:
        async with RegistryClient(registry.address) as client:
            for port in range(1, 11):
                await client.register(endpoint(port), TEXT, ttl=600)
            size = _size(f"{database}-wal")
            await client.register(endpoint(11), TEXT, ttl=600)
        await registry.end(signal.SIGKILL)
        os.truncate(f"{database}-wal", size + 100 * seed)  # what a machine that lost power in mid-write leaves
        await registry.start()
        async with RegistryClient(registry.address) as client:
            found = {e.address for e in (await client.discover(EVERY)).endpoints}
            assert found == {f"127.0.0.1:{port}" for port in range(1, 11)}


def _size(path: str) -> int:
    return os.stat(path).st_size
