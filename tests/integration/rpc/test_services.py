"""Health and reflection, as stock tools ask them."""

from __future__ import annotations

import asyncio
import gc
import subprocess
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from atomesh.rpc.channel import from_rpc_error
from atomesh.rpc.services import HealthService, add_reflection
from atomesh.v1 import agent_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Nothing:
    """A servicer of which only the names are asked."""

    def __getattr__(self, name: str) -> Any:
        async def method(request: Any, context: Any) -> None:
            raise AssertionError("not called here")

        return method


def _stub(running: Any) -> Any:
    return health_pb2_grpc.HealthStub(running.channel)


def _request(service: str = "") -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


async def test_check_and_list_tell_each_service(serve: Any) -> None:
    async with serve() as running:
        # Added late on purpose: a handler may come after the start.
        health = HealthService(running.server)
        assert (await _stub(running).Check(_request())).status == NOT_SERVING, "until somebody says otherwise"
        health.set({"": True, "text-processor": True, "other": False})
        assert (await _stub(running).Check(_request("text-processor"))).status == SERVING
        assert (await _stub(running).Check(_request("other"))).status == NOT_SERVING
        listed = await _stub(running).List(health_pb2.HealthListRequest())
        assert {name: answer.status for name, answer in listed.statuses.items()} == {
            "": SERVING,
            "text-processor": SERVING,
            "other": NOT_SERVING,
        }


async def test_a_service_that_is_not_there_is_not_found(serve: Any) -> None:
    async with serve() as running:
        HealthService(running.server)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await _stub(running).Check(_request("no\nsuch" + "x" * 1000))
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    error = from_rpc_error(failed.value)
    assert len(error.message) < 200
    assert error.message.isprintable()


async def test_a_watch_tells_each_change_and_a_service_that_comes_later(serve: Any) -> None:
    async with serve() as running:
        health = HealthService(running.server)
        call = _stub(running).Watch(_request("late"))
        seen = [(await call.read()).status]
        for serving in (False, True, False):
            health.set({"late": serving})
            seen.append((await call.read()).status)
        assert seen == [UNKNOWN, NOT_SERVING, SERVING, NOT_SERVING]
        health.set({"late": False, "other": True})
        health.set({"late": True})
        assert (await call.read()).status == SERVING, "what did not change is not told"
        call.cancel()


async def test_a_watcher_that_leaves_is_forgotten_and_one_that_does_not_read_holds_nobody(serve: Any) -> None:
    async with serve() as running:
        health = HealthService(running.server)
        silent, reading = _stub(running).Watch(_request()), _stub(running).Watch(_request())
        await silent.read()
        await reading.read()
        for number in range(1_000):
            health.set({"": number % 2 == 0})
        health.set({"": True})
        assert (await reading.read()).status == SERVING
        assert len(health._watchers) == 2
        silent.cancel()
        reading.cancel()
        async with asyncio.timeout(5):
            while health._watchers:  # noqa: ASYNC110 # nobody tells
                await asyncio.sleep(0.005)  # noqa: TID251 # a real server ends in real time
        gc.collect()


async def test_a_server_that_stops_says_so_and_waits_for_no_watcher(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as running:
        HealthService(running.server).set({"": True, "a": True})
        calls = [_stub(running).Watch(_request(service)) for service in ("", "a", "unknown")]
        assert [(await call.read()).status for call in calls] == [SERVING, SERVING, UNKNOWN]
        async with asyncio.timeout(5):
            await running.server.stop(60)
        told = [await call.read() for call in calls[:2]]
        ends = [await call.read() for call in calls]
    assert [answer.status for answer in told] == [NOT_SERVING] * 2
    assert ends == [grpc.aio.EOF] * 3, "a stop must not cut a watcher off without a word"
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services_and_finds_their_files(serve: Any, version: str) -> None:
    def add(_: Any, server: Any) -> None:
        HealthService(server)
        server.add(agent_pb2_grpc.add_AgentServiceServicer_to_server, Nothing())
        add_reflection(server)

    async with serve(add=add) as running:
        ask = running.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="atomesh.v1.AgentService"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="atomesh.v1.AgentService.Execute"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="atomesh.v1.AgentService.Nope"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.Symbol"),
        ]
        listed, *found, no_method, missing = [answer async for answer in ask(iter(requests))]
    names = {service.name for service in listed.list_services_response.service}
    assert names == {
        "grpc.health.v1.Health",
        "atomesh.v1.AgentService",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for answer in found:
        raw = answer.file_descriptor_response.file_descriptor_proto
        files = [descriptor_pb2.FileDescriptorProto.FromString(one) for one in raw]
        assert "atomesh/v1/agent.proto" in {file.name for file in files}
    for answer in (no_method, missing):
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.needs_tool("grpcurl")
async def test_grpcurl_lists_describes_and_checks(serve: Any) -> None:
    def add(_: Any, server: Any) -> None:
        HealthService(server).set({"": True})
        server.add(agent_pb2_grpc.add_AgentServiceServicer_to_server, Nothing())
        add_reflection(server)

    def grpcurl(*arguments: str) -> str:
        ran = subprocess.run(
            ["grpcurl", "-plaintext", *arguments], check=False, capture_output=True, text=True, timeout=30
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    async with serve(add=add) as running:
        address = running.server.address
        assert "atomesh.v1.AgentService" in await asyncio.to_thread(grpcurl, address, "list")
        described = await asyncio.to_thread(grpcurl, address, "describe", "atomesh.v1.ExecuteRequest")
        assert "google.protobuf.Any input" in described
        assert "SERVING" in await asyncio.to_thread(grpcurl, address, "grpc.health.v1.Health/Check")
