"""An agent with nothing of Atomesh but the protos does what docs/other-languages.md asks, and is one of the mesh."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2, descriptor_pb2
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2

from atomesh.balancer import Client
from atomesh.core import Contract
from atomesh.core.errors import AtomeshError, NoFreeSlot
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.v1 import agent_pb2, registry_pb2, registry_pb2_grpc

SHOUT = Contract("shouter", StringValue, StringValue)


class Foreign:
    """As another language would: no slot for the content `full`, told with or without an ErrorInfo."""

    def __init__(self, *, tells: bool = True) -> None:
        self.seen: list[agent_pb2.ExecuteRequest] = []
        self._tells = tells

    async def execute(self, request: agent_pb2.ExecuteRequest, context: Any) -> agent_pb2.ExecuteResponse:
        self.seen.append(request)
        asked = StringValue.FromString(request.input.value)
        if asked.value == "full":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no slot", self._details())
        output = any_pb2.Any()
        output.Pack(StringValue(value=asked.value.upper()))
        return agent_pb2.ExecuteResponse(output=output)

    def _details(self) -> tuple[tuple[str, bytes], ...]:
        if not self._tells:
            return ()
        info = error_details_pb2.ErrorInfo(domain="atomesh", reason="NO_FREE_SLOT", metadata={"executed": "false"})
        packed = any_pb2.Any()
        packed.Pack(info)
        status = status_pb2.Status(code=8, message="no slot", details=[packed])
        return (("grpc-status-details-bin", status.SerializeToString()),)


def registration(address: str) -> registry_pb2.RegisterRequest:
    files = descriptor_pb2.FileDescriptorSet()
    StringValue.DESCRIPTOR.file.CopyToProto(files.file.add())
    name = StringValue.DESCRIPTOR.full_name
    return registry_pb2.RegisterRequest(
        spec=registry_pb2.EndpointSpec(agent="shouter", address=address, instance_id="foreign-1"),
        contract=agent_pb2.Contract(input_type=name, output_type=name, descriptor_set=files.SerializeToString()),
    )


@asynccontextmanager
async def meshed(foreign: Foreign) -> AsyncIterator[tuple[Client, Any, str]]:
    """A client that finds the agent, the registry's stub, and the agent's lease."""
    server = grpc.aio.server()
    methods = {
        "Execute": grpc.unary_unary_rpc_method_handler(
            foreign.execute, agent_pb2.ExecuteRequest.FromString, agent_pb2.ExecuteResponse.SerializeToString
        )
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("atomesh.v1.AgentService", methods),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with (
            RegistryServer(bind="127.0.0.1:0", storage=MemoryStorage()) as registry,
            grpc.aio.insecure_channel(registry.address) as channel,
        ):
            stub = registry_pb2_grpc.RegistryServiceStub(channel)
            registered = await stub.Register(registration(address))
            async with Client(registry.address) as mesh:
                yield mesh, stub, registered.lease_id
    finally:
        await server.stop(None)


async def test_it_is_found_called_and_given_the_context() -> None:
    foreign = Foreign()
    async with meshed(foreign) as (mesh, _, _):
        assert (await mesh.call(SHOUT, StringValue(value="ada"))).value == "ADA"
    [request] = foreign.seen
    assert request.agent == "shouter"
    assert request.context.request_id
    assert request.no_wait, "a mesh client holds its calls itself"


async def test_a_refusal_counts_as_unexecuted_only_with_its_error_info() -> None:
    for tells in (True, False):
        foreign = Foreign(tells=tells)
        async with meshed(foreign) as (mesh, _, _):
            with pytest.raises(AtomeshError) as refused:
                await mesh.call(SHOUT, StringValue(value="full"), timeout=0.5)
        error = refused.value
        if tells:
            assert isinstance(error, NoFreeSlot) or error.executed is False, "it was never executed"
            assert len(foreign.seen) > 1, "a call that was refused unexecuted is tried again until its deadline"
        else:
            assert error.executed is None
            assert len(foreign.seen) == 1, "what may have run is not tried again"


async def test_its_lease_is_renewed_superseded_and_unknown_as_the_page_says() -> None:
    async with meshed(Foreign()) as (_, stub, lease):
        request = registration("127.0.0.1:1")
        first = (await stub.Register(request)).lease_id
        again = (await stub.Register(request)).lease_id
        request.spec.instance_id = "foreign-2"
        newer = (await stub.Register(request)).lease_id
        renewals = [registry_pb2.Renewal(lease_id=each) for each in (lease, first, again, newer, "0" * 32)]
        statuses = (await stub.Renew(registry_pb2.RenewRequest(renewals=renewals))).statuses
        await stub.Update(registry_pb2.UpdateRequest(lease_id=lease, state=agent_pb2.SERVING_STATE_DRAINING))
        assert [each.spec.instance_id for each in (await stub.Discover(registry_pb2.DiscoverRequest())).endpoints] == [
            "foreign-2"
        ]
    names = [registry_pb2.RenewStatus.Name(status).removeprefix("RENEW_STATUS_") for status in statuses]
    assert names == ["RENEWED", "UNKNOWN", "SUPERSEDED", "RENEWED", "UNKNOWN"]
