"""The seven methods over a real connection."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from atomesh.v1 import agent_pb2, registry_pb2


async def test_what_is_registered_is_discovered_with_what_was_said_of_it(registry: Any) -> None:
    async with registry() as (_, caller):
        granted = await caller.register(
            version="1.2.3",
            slots=4,
            zone="a",
            labels={"team": "x"},
            metadata={"pid": "7"},
            capabilities=[agent_pb2.Capability(name="reporting", score=0.5)],
        )
        answer = await caller.discover(agent="text-processor")
    assert len(granted.lease_id) == 32, "a lease id must be 128 bits in hex"
    assert granted.ttl.seconds == 15, "a ttl that is not given must be the default"
    (endpoint,) = answer.endpoints
    assert endpoint.spec.version == "1.2.3"
    assert endpoint.spec.metadata == {"pid": "7"}
    assert endpoint.state == agent_pb2.SERVING_STATE_SERVING
    assert endpoint.input_type == "atomesh.text.v1.TextInput"
    assert endpoint.registered_at.seconds > 0
    assert endpoint.revision == granted.position.revision == answer.position.revision == 1


async def test_a_watch_shows_a_snapshot_then_each_change_once_and_in_order(registry: Any) -> None:
    async with registry() as (_, caller):
        first = await caller.register(address="127.0.0.1:5001")
        watch = caller.watch(agent="text-processor")
        reset = await watch.read()
        await caller.register(address="127.0.0.1:5002", instance_id="instance-2")
        await caller.stub.Update(
            registry_pb2.UpdateRequest(lease_id=first.lease_id, state=agent_pb2.SERVING_STATE_DRAINING)
        )
        steps = [await watch.read() for _ in range(2)]
        watch.cancel()
    assert [e.spec.address for e in reset.reset.endpoints] == ["127.0.0.1:5001"]
    assert steps[0].changes.changes[0].added.spec.address == "127.0.0.1:5002"
    removed = steps[1].changes.changes[0].removed
    assert removed.address == "127.0.0.1:5001", "whoever drains must leave a watch of those that serve"
    assert [step.position.revision for step in (reset, *steps)] == [1, 2, 3]


async def test_a_lease_that_nobody_renews_runs_out(registry: Any) -> None:
    async with registry() as (_, caller):
        granted = await caller.register(ttl=1)
        watch = caller.watch()
        await watch.read()
        gone = await watch.read()
        assert gone.changes.changes[0].removed.reason == registry_pb2.Removed.REASON_EXPIRED
        assert await caller.renew(granted.lease_id) == [registry_pb2.RENEW_STATUS_UNKNOWN]
        watch.cancel()


async def test_a_foreign_lease_is_unknown_to_update_and_deregister(registry: Any) -> None:
    async with registry() as (_, caller):
        for call, request in (
            (caller.stub.Update, registry_pb2.UpdateRequest(lease_id="0" * 32, slots=2)),
            (caller.stub.Deregister, registry_pb2.DeregisterRequest(lease_id="0" * 32)),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(request)
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
