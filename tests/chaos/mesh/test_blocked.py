"""4 s in which an agent's loop, its process or the registry stands still, at full slots: nothing expires, nothing is lost."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from atomesh.balancer import CallOptions, Client
from atomesh.core import Contract, Selector
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.endpoint import ALL_STATES, State
from atomesh.rpc import RegistryClient
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

pytestmark = pytest.mark.timeout(90)

CLERK = Contract("clerk", TextInput, TextOutput)
CALLERS = 40  # for 16 slots, so that each is taken again as soon as it is free
STILL = 4.0  # seconds; the blocking agent's figure is in mesh_agents.py
SILENT = 1.5  # seconds within which nothing new is sent to a process that hangs
BUSY = 1.0  # seconds by which this machine may be late

# A lease is renewed every third of it: by the end of 4 s in which nobody renews,
# the last renewal can be 4 s and a third of the lease ago. So 15 s are safe, which
# is the least by default, and 8 s are just so.
TTLS = pytest.mark.parametrize("ttl", [15, 8])


def clerks(mesh: Callable[..., Any], ttl: float) -> Any:
    """Two endpoints with leases of so many seconds."""
    return mesh("Clerk", endpoints=2, flags=["--ttl", str(ttl)], registry=["--min-ttl", "1"])


async def states(m: Any) -> dict[str, State]:
    """How the registry shows them, by address."""
    async with RegistryClient(m.registry.address) as registry:
        found = await registry.discover(Selector(agent="clerk", states=ALL_STATES))
    return {endpoint.address: endpoint.state for endpoint in found.endpoints}


async def as_they_were(m: Any, registered: float = 2) -> None:
    """Both serve, under the leases that they had."""
    assert await states(m) == {member.address: State.SERVING for member in m.endpoints}
    counted = await m.registry.metrics()
    assert counted["atomesh_registry_expirations_total"] == 0, "nothing may expire"
    assert counted["atomesh_registry_registrations_total"] == registered, "nor need anybody register again"


def each_once(m: Any, load: Any, *more: str) -> None:
    """Every call was answered, and executed once: clerks are not idempotent."""
    assert load.failed == {}, f"{len(load.failed)} calls failed"
    executed = Counter((m.state / "ledger").read_text().split())
    assert executed == Counter([*more, *(call.name for call in load.answered)])


def went_elsewhere(load: Any, still: str, since: float, until: float, before: float) -> None:
    """While one stood still the other had the calls; `before` are answers per second of both."""
    assert all(call.where != still for call in load.answered if since + BUSY <= call.ended < until), "it stands still"
    assert load.rate(since + SILENT, until) > before / 4, "one endpoint of two has half the slots"
    # Those that waited in the client at the end may go there as soon as it goes on.
    late = [call for call in load.begun_in(since + SILENT, until - BUSY) if call.where == still]
    assert not late, "nothing new may be sent to who is silent"


async def warm(load: Any) -> float:
    """Answers per second at full slots."""
    await load.more(200)
    since = SYSTEM_CLOCK.now()
    await SYSTEM_CLOCK.sleep(1)
    return float(load.rate(since, SYSTEM_CLOCK.now()))


@TTLS
async def test_an_agent_that_blocks_its_loop_loses_no_lease_and_no_call_and_the_log_says_what_it_was(
    mesh: Callable[..., Any], traffic: Callable[..., Any], ttl: float
) -> None:
    async with (
        clerks(mesh, ttl) as m,
        Client(m.registry.address) as client,
        traffic(client, "clerk", callers=CALLERS) as load,
    ):
        before = await warm(load)
        since = SYSTEM_CLOCK.now()
        reply = await client.execute(CLERK, TextInput(content="block", operation="summarize"), CallOptions(timeout=60))
        until = SYSTEM_CLOCK.now()
        assert until - since >= STILL
        await load.more(200)
        await as_they_were(m)
    # It was in the queue for a moment first: what is silent is so from when it began to block.
    went_elsewhere(load, reply.info.endpoint, until - STILL, until - BUSY, before)
    each_once(m, load, "block")
    (blocked,) = (member for member in m.endpoints if member.address == reply.info.endpoint)
    (other,) = (member for member in m.endpoints if member is not blocked)
    assert blocked.log.count("the event loop has been blocked") == 1, "once for each block"
    assert "the event loop goes on after" in blocked.log
    assert "reads_a_large_file_in_the_loop" in blocked.log, "the log must name what blocked it"
    assert "has been blocked" not in other.log + m.registry.log, "nobody else stood still"


@TTLS
async def test_an_agents_process_that_is_stopped_loses_no_lease_and_no_call(
    mesh: Callable[..., Any], traffic: Callable[..., Any], ttl: float
) -> None:
    async with (
        clerks(mesh, ttl) as m,
        Client(m.registry.address) as client,
        traffic(client, "clerk", callers=CALLERS) as load,
    ):
        before = await warm(load)
        since = SYSTEM_CLOCK.now()
        m.endpoints[0].signal(signal.SIGSTOP)
        await SYSTEM_CLOCK.sleep(STILL)
        until = SYSTEM_CLOCK.now()
        m.endpoints[0].signal(signal.SIGCONT)
        await load.more(200)
        await as_they_were(m)
    went_elsewhere(load, m.endpoints[0].address, since, until, before)
    each_once(m, load)
    assert "the process stood still for" in m.endpoints[0].log
    assert "has been blocked" not in m.endpoints[0].log, "no innocent function may be blamed"


@pytest.mark.parametrize("ttl", [15, 3])
async def test_while_the_registry_is_stopped_calls_go_on_and_no_lease_runs_out_however_short_it_is(
    mesh: Callable[..., Any], traffic: Callable[..., Any], ttl: float
) -> None:
    async with (
        clerks(mesh, ttl) as m,
        Client(m.registry.address) as client,
        traffic(client, "clerk", callers=CALLERS) as load,
    ):
        before = await warm(load)
        since = SYSTEM_CLOCK.now()
        m.registry.signal(signal.SIGSTOP)
        await SYSTEM_CLOCK.sleep(STILL)
        until = SYSTEM_CLOCK.now()
        m.registry.signal(signal.SIGCONT)
        await as_they_were(m)
        await load.more(200)
        await SYSTEM_CLOCK.sleep(ttl / 3)  # each has renewed since, or would be on its way out
        await as_they_were(m)
    assert load.rate(since, until) > before / 2, "calls need no registry"
    each_once(m, load)
    assert "the process stood still for" in m.registry.log


async def test_an_endpoint_whose_lease_runs_out_while_it_blocks_answers_what_it_has_and_comes_back(
    mesh: Callable[..., Any], traffic: Callable[..., Any]
) -> None:
    async with (
        clerks(mesh, ttl=2) as m,
        Client(m.registry.address) as client,
        traffic(client, "clerk", callers=CALLERS) as load,
    ):
        await warm(load)
        await client.execute(CLERK, TextInput(content="block", operation="summarize"), CallOptions(timeout=60))
        counted = await m.registry.metrics()
        assert counted["atomesh_registry_expirations_total"] == 1, "2 s are over, and nobody had renewed"
        give_up = SYSTEM_CLOCK.now() + 10
        while len(await states(m)) < 2:
            assert SYSTEM_CLOCK.now() < give_up, "it must register again by itself"
            await SYSTEM_CLOCK.sleep(0.05)
        back = SYSTEM_CLOCK.now()
        while {call.where for call in load.begun_in(back)} != {member.address for member in m.endpoints}:
            assert SYSTEM_CLOCK.now() < give_up, "and must be used again"
            await SYSTEM_CLOCK.sleep(0.05)
    each_once(m, load, "block")
