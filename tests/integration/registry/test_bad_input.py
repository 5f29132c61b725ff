"""Whatever is wrong gets the right code and one clear line, and nothing is lost."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, duration_pb2

from atomesh.rpc.credentials import Credentials
from atomesh.v1 import agent_pb2, registry_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def refused(call: Any, code: grpc.StatusCode, *words: str) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    details = error.value.details() or ""
    assert error.value.code() is code, details
    assert "\n" not in details, "an error must be one line"
    assert len(details) < 500
    for word in words:
        assert word in details, f"{details!r} must say {word!r}"
    return details


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"ttl": 0}, "ttl"),
        ({"ttl": 365 * 86400}, "3600"),
        ({"agent": "Text"}, "agent"),
        ({"agent": ""}, "agent"),
        ({"agent": "a" * 65}, "agent"),
        ({"address": "nowhere"}, "address"),
        ({"address": "0.0.0.0:5000"}, "advertise"),
        ({"address": "127.0.0.1:0"}, "port 0"),
        ({"instance_id": "short"}, "instance_id"),
        ({"version": "one"}, "semver"),
        ({"slots": 100001}, "slots"),
        ({"metrics_address": "elsewhere"}, "address"),
        ({"labels": {"": "x"}}, "labels"),
        ({"labels": {"k" * 129: "x"}}, "labels"),
        ({"capabilities": [agent_pb2.Capability(name="x"), agent_pb2.Capability(name="x")]}, "twice"),
        ({"capabilities": [agent_pb2.Capability(name="x", score=2)]}, "score"),
        ({"capabilities": [agent_pb2.Capability(name=f"c{n}") for n in range(65)]}, "capabilities"),
        ({"contract": agent_pb2.Contract()}, "contract"),
        ({"contract": agent_pb2.Contract(input_type="a.B", output_type="a.C", descriptor_set=b"\xff\xff")}, "a.B"),
        ({"contract": agent_pb2.Contract(input_type="a.B", output_type="a.C", descriptor_set=b"\x0a\x00")}, "a.B"),
        ({"contract": agent_pb2.Contract(input_type="a b", output_type="a.C", descriptor_set=b"x")}, "input_type"),
    ],
)
async def test_a_wrong_registration_is_refused_and_changes_nothing(registry: Any, spec: Any, word: str) -> None:
    async with registry() as (server, caller):
        await refused(caller.register(**spec), INVALID, word)
        assert server.ledger.store.revision == 0


async def test_a_descriptor_set_above_1_mib_is_refused(registry: Any) -> None:
    comment = descriptor_pb2.SourceCodeInfo.Location(leading_comments="x" * (2 * 1024 * 1024))
    file = descriptor_pb2.FileDescriptorProto(
        name="big.proto", source_code_info=descriptor_pb2.SourceCodeInfo(location=[comment])
    )
    big = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    contract = agent_pb2.Contract(input_type="a.B", output_type="a.C", descriptor_set=big)
    async with registry() as (_, caller):
        await refused(caller.register(contract=contract), INVALID, "descriptor_set")


async def test_a_message_above_the_limit_is_refused_and_the_next_one_served(registry: Any) -> None:
    async with registry() as (_, caller):
        request = caller.registration(metadata={"k": "v" * (5 * 1024 * 1024)})
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await caller.stub.Register(request)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await caller.register()


async def test_bytes_that_are_no_message_are_refused_and_the_next_one_served(registry: Any) -> None:
    async with registry() as (server, caller), grpc.aio.insecure_channel(server.address) as channel:
        call: Any = channel.unary_unary("/atomesh.v1.RegistryService/Register")
        for garbage in (b"\xff" * 64, b"\x0a\x05\x0a\x03\xff\xfe\xfd"):
            with pytest.raises(grpc.aio.AioRpcError):
                await call(garbage)
        await caller.register()


async def test_an_incompatible_contract_is_refused_with_the_field(registry: Any) -> None:
    async with registry() as (_, caller):
        await caller.register()
        other = caller.registration(address="127.0.0.1:5002")
        files = descriptor_pb2.FileDescriptorSet.FromString(other.contract.descriptor_set)
        for file in files.file:
            for message in file.message_type:
                if message.name == "TextInput":
                    message.field[0].name = "renamed"
                    message.field[0].ClearField("json_name")
        other.contract.descriptor_set = files.SerializeToString()
        details = await refused(caller.stub.Register(other), grpc.StatusCode.FAILED_PRECONDITION, "renamed", "text.v2")
        assert "text-processor at 127.0.0.1:5002" in details


async def test_suspect_cannot_be_claimed(registry: Any) -> None:
    async with registry() as (_, caller):
        granted = await caller.register()
        for state in (0, 4, 99):
            value = agent_pb2.ServingState.ValueType(state)
            update = registry_pb2.UpdateRequest(lease_id=granted.lease_id, state=value)
            await refused(caller.stub.Update(update), INVALID, "state")
        update = registry_pb2.UpdateRequest(lease_id=granted.lease_id, slots=0)
        await refused(caller.stub.Update(update), INVALID, "slots")


async def test_a_strangers_lease_opens_nothing(registry: Any) -> None:
    async with registry() as (_, caller):
        await caller.register()
        hostile = ["0" * 32, "x", "ü" * 30]
        assert await caller.renew(*hostile) == [registry_pb2.RENEW_STATUS_UNKNOWN] * 3
        for lease in hostile:
            update = registry_pb2.UpdateRequest(lease_id=lease, slots=3)
            await refused(caller.stub.Update(update), grpc.StatusCode.NOT_FOUND, "register again")
            farewell = registry_pb2.DeregisterRequest(lease_id=lease)
            await refused(caller.stub.Deregister(farewell), grpc.StatusCode.NOT_FOUND)
        await refused(caller.renew("x" * 65), INVALID, "lease_id")
        await refused(caller.renew(), INVALID, "renewals")
        await refused(caller.renew(*["x"] * 1001), INVALID, "renewals")


async def test_no_answer_shows_a_lease_id(registry: Any) -> None:
    async with registry() as (_, caller):
        granted = await caller.register()
        watch = caller.watch()
        shown = f"{await caller.discover()}{await watch.read()}"
        watch.cancel()
    assert granted.lease_id not in shown


@pytest.mark.parametrize("version", [">=", "latest", ">=1.0.0,,", "~1.2", "1.2.3 2.0.0"])
async def test_a_version_range_that_is_none_is_refused(registry: Any, version: str) -> None:
    async with registry() as (_, caller):
        await refused(caller.discover(version=version), INVALID)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await caller.watch(version=version).read()
        assert error.value.code() is INVALID


async def test_a_contract_that_nobody_speaks_is_not_found(registry: Any) -> None:
    async with registry() as (_, caller):
        ask = caller.stub.GetContract
        await refused(ask(registry_pb2.GetContractRequest(agent="nobody")), grpc.StatusCode.NOT_FOUND, "nobody")
        await refused(ask(registry_pb2.GetContractRequest(hash="0" * 64)), grpc.StatusCode.NOT_FOUND)
        await refused(ask(registry_pb2.GetContractRequest(hash="xyz")), INVALID, "hash")
        await refused(ask(registry_pb2.GetContractRequest()), INVALID)


async def test_register_update_and_deregister_need_the_token_and_nothing_else_does(registry: Any) -> None:
    async with registry(credentials=Credentials(token="right")) as (_, caller):
        request = caller.registration()
        right = (("authorization", "Bearer right"),)
        granted = await caller.stub.Register(request, metadata=right)
        update = registry_pb2.UpdateRequest(lease_id=granted.lease_id, slots=3)
        farewell = registry_pb2.DeregisterRequest(lease_id=granted.lease_id)
        for metadata in ((), (("authorization", "Bearer wrong"),), (("authorization", "right"),)):
            for call, message in (
                (caller.stub.Register, request),
                (caller.stub.Update, update),
                (caller.stub.Deregister, farewell),
            ):
                await refused(call(message, metadata=metadata), grpc.StatusCode.UNAUTHENTICATED, "--token-file")
        assert await caller.renew(granted.lease_id) == [registry_pb2.RENEW_STATUS_RENEWED]
        assert len((await caller.discover()).endpoints) == 1
        await caller.stub.Deregister(farewell, metadata=right)


async def test_a_ttl_of_nanoseconds_is_no_way_around_the_limit(registry: Any) -> None:
    async with registry() as (_, caller):
        request = caller.registration()
        for ttl in (duration_pb2.Duration(nanos=1), duration_pb2.Duration(seconds=-1, nanos=-5)):
            request.ttl.CopyFrom(ttl)
            await refused(caller.stub.Register(request), INVALID, "ttl")
