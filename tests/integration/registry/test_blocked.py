"""A registry whose own loop stands still: nobody loses a lease by it, and its log and metrics say so."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.registry import MemoryStorage, RegistrySettings
from atomesh.registry.operations import Batch
from atomesh.v1 import registry_pb2

TTL = 2  # seconds: less than the block
BLOCKED = 3.0


class Standing(MemoryStorage):
    """Storage that does its work in the loop, which none may."""

    async def commit(self, batch: Batch) -> None:
        if any(entry.endpoint.agent == "slow" for entry in batch.put):
            writes_in_the_loop()


def writes_in_the_loop() -> None:
    threading.Event().wait(BLOCKED)


async def test_a_registry_whose_loop_was_blocked_says_by_what_and_ends_no_lease_for_it(
    registry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings = RegistrySettings(min_ttl=1.0, tick=0.1)
    async with registry(storage=Standing(), settings=settings) as (server, caller):
        kept = await caller.register(ttl=TTL)
        await caller.register("slow", "127.0.0.1:5002", ttl=TTL)
        await SYSTEM_CLOCK.sleep(3 * settings.tick)  # leases have been judged since
        assert await caller.renew(kept.lease_id) == [registry_pb2.RENEW_STATUS_RENEWED]
        assert len((await caller.discover()).endpoints) == 2, (
            "a lease gets back the time in which nobody could renew it"
        )
        lag = server.collectors.get_sample_value("atomesh_event_loop_lag_seconds_sum")
    assert caplog.text.count("the event loop has been blocked") == 1
    assert "writes_in_the_loop" in caplog.text, "the log must name what blocked it"
    assert lag is not None
    assert lag > BLOCKED / 2
