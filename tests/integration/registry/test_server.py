"""A registry as a whole: its doors, its storage failing under it, its neighbours."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from atomesh.core.contract import describe
from atomesh.core.errors import Conflict, InvalidArgument
from atomesh.registry import CommitFailed, MemoryStorage, RegistryServer, RegistrySettings, SQLiteStorage
from atomesh.registry.operations import Batch
from atomesh.testing import ManualClock
from atomesh.text.v1 import text_pb2
from atomesh.v1 import agent_pb2, registry_pb2


class FailingStorage(SQLiteStorage):
    """A disk that is full when told."""

    full = False

    async def commit(self, batch: Batch) -> None:
        if self.full:
            raise CommitFailed("database or disk is full")
        await super().commit(batch)


class SlowStorage(SQLiteStorage):
    """A disk that takes 20 ms for an fsync."""

    async def commit(self, batch: Batch) -> None:
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.02, done.set_result, None)
        await done
        await super().commit(batch)


async def test_a_commit_that_fails_is_refused_unseen_and_the_registry_lives_on(registry: Any, tmp_path: Path) -> None:
    storage = FailingStorage(tmp_path / "registry.db")
    async with registry(storage=storage) as (_, caller):
        kept = await caller.register()
        watch = caller.watch()
        await watch.read()
        storage.full = True
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await caller.register(address="127.0.0.1:5002")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "disk is full" in (refused.value.details() or "")
        trailers = dict(refused.value.trailing_metadata() or ())
        assert trailers["grpc-retry-pushback-ms"] == "1000"
        assert len((await caller.discover()).endpoints) == 1, "reads must go on"
        assert await caller.renew(kept.lease_id) == [1], "renewals need no disk"
        storage.full = False
        again = await caller.register(address="127.0.0.1:5003")
        step = await watch.read()
        assert step.position.revision == again.position.revision == 2, "no revision may vanish or be skipped"
        assert step.changes.changes[0].added.spec.address == "127.0.0.1:5003"
        watch.cancel()
    async with registry(storage=SQLiteStorage(tmp_path / "registry.db")) as (_, caller):
        answer = await caller.discover()
        assert [e.spec.address for e in answer.endpoints] == ["127.0.0.1:5001", "127.0.0.1:5003"]
        resumed = caller.watch(resume_after=step.position)
        assert (await resumed.read()).HasField("bookmark")
        resumed.cancel()


async def test_a_port_in_use_is_one_line_and_leaves_nothing_open(registry: Any, tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    async with registry(http_bind="127.0.0.1:0") as (server, _):
        for binds in ({"bind": server.address}, {"http_bind": server.http_address}):
            with pytest.raises(Conflict, match="choose another"):
                await RegistryServer(storage=SQLiteStorage(path), **binds).start()
    async with registry(storage=SQLiteStorage(path)) as (_, caller):
        await caller.discover()


async def test_off_loopback_it_wants_tls_or_insecure() -> None:
    with pytest.raises(InvalidArgument, match="--insecure"):
        RegistryServer(storage=MemoryStorage(), bind="0.0.0.0:0")


async def test_it_stops_twice_and_without_ever_having_started() -> None:
    server = RegistryServer(storage=MemoryStorage())
    await server.stop()
    async with RegistryServer(storage=MemoryStorage()) as server:
        await server.stop()


async def test_registrations_at_once_share_commits(registry: Any, tmp_path: Path) -> None:
    async with registry(storage=SlowStorage(tmp_path / "registry.db")) as (server, caller):
        answers = await asyncio.gather(*(caller.register(address=f"127.0.0.1:{port}") for port in range(1, 201)))
        assert len({answer.lease_id for answer in answers}) == 200
        assert sorted(answer.position.revision for answer in answers) == list(range(1, 201))
        commits = server.collectors.get_sample_value("atomesh_registry_commits_total", {"result": "committed"})
        assert commits < 50, "200 registrations at once must share their fsyncs"


async def test_the_contract_is_there_in_full_for_as_long_as_it_is_spoken(registry: Any) -> None:
    async with registry() as (_, caller):
        granted = await caller.register()
        (endpoint,) = (await caller.discover()).endpoints
        by_agent = await caller.stub.GetContract(registry_pb2.GetContractRequest(agent="text-processor"))
        by_hash = await caller.stub.GetContract(registry_pb2.GetContractRequest(hash=endpoint.contract_hash))
        assert by_agent == by_hash
        assert by_agent.contract.input_type == "atomesh.text.v1.TextInput"
        await caller.stub.Deregister(registry_pb2.DeregisterRequest(lease_id=granted.lease_id))
        with pytest.raises(grpc.aio.AioRpcError):
            await caller.stub.GetContract(registry_pb2.GetContractRequest(hash=endpoint.contract_hash))


async def test_a_contract_is_registered_and_told_with_the_type_of_its_chunks(registry: Any) -> None:
    chunks = describe(text_pb2.TextInput, text_pb2.TextOutput, text_pb2.Keyword)
    async with registry() as (_, caller):
        await caller.register(contract=chunks.to_proto())
        told = await caller.stub.GetContract(registry_pb2.GetContractRequest(agent="text-processor"))
        assert (told.contract, told.hash) == (chunks.to_proto(), chunks.hash)
        await caller.register(address="127.0.0.1:5002", instance_id="instance-2")  # as before there were chunks: fine
        other = describe(text_pb2.TextInput, text_pb2.TextOutput, text_pb2.TextOptions).to_proto()
        with pytest.raises(grpc.aio.AioRpcError, match=r"chunk type is atomesh\.text\.v1\.TextOptions"):
            await caller.register(address="127.0.0.1:5003", instance_id="instance-3", contract=other)


async def test_a_wall_clock_that_jumps_expires_nobody(registry: Any) -> None:
    clock = ManualClock(now=500.0)
    async with registry(clock=clock, settings=RegistrySettings()) as (_, caller):
        granted = await caller.register()
        for wall in (0.0, 5e9, 1e9):
            clock.set_wall(wall)
            clock.advance(1)
            await asyncio.wait([asyncio.ensure_future(caller.discover())])
        assert await caller.renew(granted.lease_id) == [registry_pb2.RENEW_STATUS_RENEWED]
        assert len((await caller.discover()).endpoints) == 1


async def test_a_fleet_cut_off_at_once_is_suspect_and_the_registry_says_so(registry: Any) -> None:
    clock = ManualClock()
    async with registry(clock=clock, settings=RegistrySettings()) as (server, caller):
        leases = [(await caller.register(address=f"127.0.0.1:{port}")).lease_id for port in range(1, 26)]
        watch = caller.watch(states=[agent_pb2.SERVING_STATE_SUSPECT])
        await watch.read()
        for _ in range(16):
            clock.advance(1)
            await caller.discover()
        assert len((await watch.read()).changes.changes) == 25, "they must become SUSPECT in one step"
        answer = await caller.discover()
        assert answer.self_preservation
        assert not answer.endpoints, "SUSPECT is not SERVING: whoever wants it must ask for it"
        assert await caller.renew(*leases) == [registry_pb2.RENEW_STATUS_RENEWED] * 25
        assert len((await watch.read()).changes.changes) == 25, "they must serve again as soon as they are heard"
        assert not (await caller.discover()).self_preservation
        assert server.collectors.get_sample_value("atomesh_registry_self_preservation") == 0
        watch.cancel()


async def test_health_and_reflection_are_there(registry: Any) -> None:
    async with registry() as (server, _), grpc.aio.insecure_channel(server.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "atomesh.v1.RegistryService"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        )
        services = {s.name for s in (await asked.read()).list_services_response.service}
        asked.cancel()
        assert {
            "atomesh.v1.RegistryService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
        } <= services


@pytest.fixture
def http() -> Any:
    """`status, content type, text = await http(address, path)`."""

    def ask(url: str) -> tuple[int, str, str]:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.headers["content-type"], answer.read().decode()

    async def get(address: str, path: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(ask, f"http://{address}{path}")

    return get


async def test_prometheus_finds_every_process_and_the_registry_where_it_asked(registry: Any, http: Any) -> None:
    async with registry(http_bind="127.0.0.1:0") as (server, caller):
        await caller.register("a", metrics_address="127.0.0.1:9100", zone="z")
        await caller.register("b", metrics_address="127.0.0.1:9100")
        await caller.register("c", address="127.0.0.1:5002", metrics_address="127.0.0.1:9200")
        _, content_type, text = await http(server.http_address, "/prometheus/targets")
        health, _, _ = await http(server.http_address, "/healthz")
    assert content_type.startswith("application/json"), "Prometheus refuses any other"
    groups = json.loads(text)
    assert [group["targets"] for group in groups] == [[server.http_address], ["127.0.0.1:9100"], ["127.0.0.1:9200"]]
    assert groups[1]["labels"]["__meta_atomesh_agent"] == "a,b"
    assert health == 200


async def test_metrics_tell_what_happened(registry: Any, http: Any) -> None:
    async with registry(http_bind="127.0.0.1:0") as (server, caller):
        granted = await caller.register()
        await caller.renew(granted.lease_id, "0" * 32)
        _, _, text = await http(server.http_address, "/metrics")
    for line in (
        'atomesh_registry_leases{state="serving"} 1.0',
        'atomesh_registry_registrations_total{result="registered"} 1.0',
        'atomesh_registry_renewals_total{result="renewed"} 1.0',
        'atomesh_registry_renewals_total{result="unknown"} 1.0',
        "atomesh_registry_revision 1.0",
        'grpc_method="Register"',
    ):
        assert line in text, line


def complaints(metrics: str) -> str:
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics, capture_output=True, text=True, check=False
    )
    return checked.stdout + checked.stderr


@pytest.mark.needs_tool("promtool")
async def test_promtool_finds_nothing_to_complain_of(registry: Any, http: Any) -> None:
    async with registry(http_bind="127.0.0.1:0") as (server, caller):
        await caller.register()
        _, _, text = await http(server.http_address, "/metrics")
    assert complaints(text) == ""


def renewal_of(lease_id: str, load: agent_pb2.Load) -> registry_pb2.Renewal:
    return registry_pb2.Renewal(lease_id=lease_id, load=load)


async def test_load_and_last_renewal_are_shown_to_who_asks(registry: Any) -> None:
    async with registry() as (_, caller):
        granted = await caller.register()
        load = agent_pb2.Load(slots=4, in_flight=3, executions=70)
        await caller.stub.Renew(registry_pb2.RenewRequest(renewals=[renewal_of(granted.lease_id, load)]))
        answer = await caller.discover()
        assert answer.endpoints[0].load.executions == 70
        assert answer.position.revision == granted.position.revision, "a renewal must make no revision"
        assert not answer.endpoints[0].HasField("recent"), "one load tells nothing of late"
        load.executions, load.failures = 80, 5
        load.busy.FromSeconds(2)
        await caller.stub.Renew(registry_pb2.RenewRequest(renewals=[renewal_of(granted.lease_id, load)]))
        answer = await caller.discover()
        recent = answer.endpoints[0].recent
        assert recent.execution.ToMilliseconds() == 200
        assert recent.error_rate == pytest.approx(0.5)
        assert recent.executions_per_second > 0
        assert answer.position.revision == granted.position.revision
