"""A registry with real gRPC on loopback, asked by generated stubs alone, as any language would."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest
from google.protobuf import duration_pb2

from atomesh.core.contract import describe
from atomesh.registry import MemoryStorage, RegistryServer, RegistrySettings
from atomesh.text.v1 import text_pb2
from atomesh.v1 import registry_pb2, registry_pb2_grpc

TEXT = describe(text_pb2.TextInput, text_pb2.TextOutput)


class Caller:
    """The generated stub, and the requests that tests make again and again."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub

    @staticmethod
    def registration(agent: str = "text-processor", address: str = "127.0.0.1:5001", **spec: Any) -> Any:
        ttl = spec.pop("ttl", None)
        contract = spec.pop("contract", TEXT.to_proto())
        spec.setdefault("instance_id", "instance-1")
        request = registry_pb2.RegisterRequest(
            spec=registry_pb2.EndpointSpec(agent=agent, address=address, **spec), contract=contract
        )
        if ttl is not None:
            request.ttl.CopyFrom(duration_pb2.Duration(seconds=ttl))
        return request

    async def register(self, agent: str = "text-processor", address: str = "127.0.0.1:5001", **spec: Any) -> Any:
        return await self.stub.Register(self.registration(agent, address, **spec))

    async def renew(self, *lease_ids: str) -> list[int]:
        request = registry_pb2.RenewRequest(renewals=[registry_pb2.Renewal(lease_id=lease) for lease in lease_ids])
        return list((await self.stub.Renew(request)).statuses)

    async def discover(self, **selector: Any) -> Any:
        return await self.stub.Discover(registry_pb2.DiscoverRequest(selector=registry_pb2.Selector(**selector)))

    def watch(self, resume_after: Any = None, **selector: Any) -> Any:
        request = registry_pb2.WatchRequest(selector=registry_pb2.Selector(**selector), resume_after=resume_after)
        return self.stub.Watch(request, timeout=20)


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[tuple[RegistryServer, Caller]]:
    options.setdefault("storage", MemoryStorage())
    options.setdefault("settings", RegistrySettings(min_ttl=1.0, tick=0.1))
    async with RegistryServer(**options) as server, grpc.aio.insecure_channel(server.address) as channel:
        yield server, Caller(registry_pb2_grpc.RegistryServiceStub(channel))


@pytest.fixture
def registry() -> Callable[..., Any]:
    """`async with registry(storage=..., settings=...) as (server, caller):`."""
    return running
