"""Peers that do not play by the rules: clients that want everything or read nothing, endpoints that lie."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atomesh.balancer import Client
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import AtomeshError
from atomesh.text.v1.text_pb2 import TextInput

pytestmark = pytest.mark.timeout(60)

BUSY = 1.5  # seconds by which this machine may be late


def resident(pid: int) -> float:
    """MiB of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


async def test_a_client_that_floods_demands_leaves_others_their_share(
    mesh: Callable[..., Any], traffic: Callable[..., Any], program: Callable[..., Any]
) -> None:
    async with mesh("Task", endpoints=1) as m, Client(m.registry.address) as client:
        async with traffic(client, "task", callers=8, content="sleep 0.0200{}") as load:
            await load.more(20)
            begun = SYSTEM_CLOCK.now()
            await load.more(100)
            alone = load.rate(begun, SYSTEM_CLOCK.now())
            shares = {}
            for kind in ("greedy", "idle"):
                async with program("mux_flood.py", m.endpoints[0].address, "task", kind, 1) as flood:
                    await flood.said()
                    flooded = SYSTEM_CLOCK.now()
                    await SYSTEM_CLOCK.sleep(1.5)
                    shares[kind] = load.rate(flooded, SYSTEM_CLOCK.now()) / alone
                await load.more(20)
        # A flood has as many places in the queue as a mux may have, others have as many as they want.
        assert shares["greedy"] > 0.15, f"who uses all that it demands has its share, and so have others: {shares}"
        assert shares["idle"] > 0.3, f"who uses nothing has less and less: {shares}"
        assert max(call.took for call in load.begun_in(begun)) < 1 + BUSY, "nobody waits for long"
        assert load.failed == {}


async def test_clients_that_send_and_do_not_read_cost_bounded_memory_and_hold_up_nobody(
    mesh: Callable[..., Any], traffic: Callable[..., Any], program: Callable[..., Any]
) -> None:
    async with mesh("Task", endpoints=1, flags=["--slots", "16"]) as m, Client(m.registry.address) as client:
        (endpoint,) = m.endpoints
        async with traffic(client, "task", callers=4) as load:
            await load.more(50)
            begun = SYSTEM_CLOCK.now()
            await load.more(200)
            alone = load.rate(begun, SYSTEM_CLOCK.now())
            before = resident(endpoint.pid)
            # 4,000 calls for 100 kB each: 400 MB, had it all been made and kept.
            async with program("mux_flood.py", endpoint.address, "task", "deaf", 4) as deaf:
                await deaf.said()
                most, until = before, SYSTEM_CLOCK.now() + 2.5
                while SYSTEM_CLOCK.now() < until:
                    most = max(most, resident(endpoint.pid))
                    await SYSTEM_CLOCK.sleep(0.05)
                meanwhile = load.rate(until - 1.5, until)
        assert most - before < 4 * 2 * 8 + 32, "8 MiB for each that does not read, and as much in gRPC's own buffers"
        assert meanwhile > alone / 3, f"others go on: {meanwhile:.0f} calls/s, {alone:.0f} without them"
        assert load.failed == {}


async def test_endpoints_that_lie_about_their_slots_or_never_grant_one_cost_no_call(
    mesh: Callable[..., Any], traffic: Callable[..., Any], program: Callable[..., Any]
) -> None:
    async with (
        mesh("Task", endpoints=2) as m,
        contextlib.AsyncExitStack() as stack,
        Client(m.registry.address) as client,
    ):
        liars = {
            kind: program("mux_liar.py", m.registry.address, kind) for kind in ("more", "fewer", "never", "promises")
        }
        for liar in liars.values():
            await stack.enter_async_context(liar)
        said = {kind: (await liar.said())["address"] for kind, liar in liars.items()}
        async with traffic(client, "task", callers=48) as load:
            await load.more(100)
            begun = SYSTEM_CLOCK.now()
            await SYSTEM_CLOCK.sleep(2)
        assert load.failed == {}, "somebody else has a slot"
        took = sorted(call.took for call in load.begun_in(begun))
        assert took[-1] < 1 + BUSY, "and no call is passed round for long"
        where = Counter(call.where for call in load.answered)
        assert where[said["never"]] == where[said["promises"]] == 0
        assert min(where[address] for address in (said["more"], said["fewer"], *(e.address for e in m.endpoints))) > 0


@pytest.mark.parametrize("kind", ["never", "promises"])
async def test_where_no_slot_is_ever_to_be_had_calls_end_at_their_deadline_unexecuted_and_do_not_go_round(
    mesh: Callable[..., Any], program: Callable[..., Any], kind: str
) -> None:
    async with mesh("Task", endpoints=0) as m, program("mux_liar.py", m.registry.address, kind) as liar:
        await liar.said()
        async with Client(m.registry.address) as client:

            async def call() -> AtomeshError | None:
                try:
                    await client.call("task", TextInput(content="hello", operation="summarize"), timeout=1.5)
                except AtomeshError as error:
                    return error
                return None

            begun = SYSTEM_CLOCK.now()
            ends = await asyncio.gather(*(call() for _ in range(20)))
            assert SYSTEM_CLOCK.now() - begun < 1.5 + BUSY, "a call never hangs past its deadline"
            assert all(end is not None and end.executed is False for end in ends), ends
            tries = max(len(end.attempts) for end in ends if end is not None)
            assert tries < 30, f"one call was tried {tries} times: who breaks its word is asked less and less"
