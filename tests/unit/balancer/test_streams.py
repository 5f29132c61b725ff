"""Streams in virtual time, on a network in memory: wherever they are cut off, every slot comes back."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import pytest
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from atomesh.agents import AgentServer, ExecutionContext, StreamingAgent
from atomesh.balancer import Client
from atomesh.core import SYSTEM_CLOCK, StreamContract
from atomesh.core.errors import AtomeshError, ConnectionLost
from atomesh.testing import VirtualClock
from atomesh.testing.memory import Host, MemoryNetwork

COUNTER = StreamContract("counter", Int32Value, Int32Value, chunk=StringValue)

pytestmark = pytest.mark.virtual_time


class Counter(StreamingAgent[Int32Value, StringValue, Int32Value]):
    """So many chunks, a millisecond each."""

    name = "counter"
    slots = 1

    def __init__(self) -> None:
        self.running = 0
        self.begun = 0

    async def stream(self, input: Int32Value, context: ExecutionContext, /) -> AsyncIterator[StringValue | Int32Value]:
        self.running += 1
        self.begun += 1
        assert self.running == 1, "never more than its slots"
        try:
            for number in range(input.value):
                await SYSTEM_CLOCK.sleep(0.001)
                yield StringValue(value=str(number))
            yield Int32Value(value=input.value)
        finally:
            try:
                await SYSTEM_CLOCK.sleep(0.0005)  # cleaning up takes a while, and may be cancelled in its turn
            finally:
                self.running -= 1


class Mesh:
    """One endpoint, and clients of it."""

    def __init__(self, network: MemoryNetwork, agent: Counter, server: AgentServer, host: Host) -> None:
        self.network = network
        self.agent = agent
        self.server = server
        self.host = host
        self.stack = contextlib.AsyncExitStack()

    async def client(self, name: str) -> Client:
        host = self.network.host(name)
        made = Client(
            endpoints=[self.server.address], clock=VirtualClock(), rng=random.Random(name), network=host, timeout=5
        )
        return await self.stack.enter_async_context(made)

    @property
    def taken(self) -> int:
        return self.server.agents["counter"].admission.in_flight


@contextlib.asynccontextmanager
async def mesh(seed: int = 1) -> AsyncIterator[Mesh]:
    network = MemoryNetwork(random.Random(seed))
    host = network.host("agent")
    agent = Counter()
    server = AgentServer(
        agent,
        bind=f"{host.ip}:7500",
        clock=VirtualClock(loop=asyncio.get_running_loop()),
        rng=random.Random(seed),
        network=host,
        http_bind=None,
    )
    async with server:
        made = Mesh(network, agent, server, host)
        async with made.stack:
            yield made


def in_flight(client: Client) -> int:
    return sum(candidate.in_flight for candidate in client._fleets["counter"].balancer.candidates.values())


async def read(client: Client, count: int) -> list[int]:
    async with client.stream(COUNTER, Int32Value(value=count)) as stream:
        found = [int(chunk.value) async for chunk in stream]
    assert stream.output == Int32Value(value=count)
    return found


async def test_a_stream_runs_in_memory_as_over_sockets() -> None:
    async with mesh() as m:
        assert await read(await m.client("one"), 100) == list(range(100))


@pytest.mark.parametrize("rival", [False, True], ids=["alone", "beside another client"])
async def test_cancelled_at_every_step_it_leaves_no_slot_taken(rival: bool) -> None:
    async with mesh() as m:
        client, other = await m.client("one"), await m.client("two")
        await read(client, 1)
        await read(other, 1)
        for step in range(100):
            consumers = [asyncio.create_task(read(client, 5))]
            if rival:
                consumers.insert(0, asyncio.create_task(read(other, 3)))
            await SYSTEM_CLOCK.sleep(step * 0.000_15)
            consumers[-1].cancel()
            ended = await asyncio.gather(*consumers, return_exceptions=True)
            assert isinstance(ended[-1], asyncio.CancelledError | list)
            assert in_flight(client) == 0, "a pick is done as soon as its caller is gone"
            await SYSTEM_CLOCK.sleep(0.5)
            assert (m.agent.running, m.taken) == (0, 0), f"a slot was leaked at step {step}"
            if rival:
                assert ended[0] == [0, 1, 2], "another's leaving is nobody's loss"
        assert await read(client, 3) == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
async def test_many_readers_that_come_and_go_leave_everything_balanced(seed: int) -> None:
    rng = random.Random(seed)
    async with mesh(seed) as m:
        clients = [await m.client(name) for name in ("one", "two", "three")]
        ends: list[str] = []

        async def reader() -> None:
            await SYSTEM_CLOCK.sleep(rng.random())
            client, count, leave_after = rng.choice(clients), rng.randint(0, 9), rng.randint(1, 12)
            try:
                async with client.stream(COUNTER, Int32Value(value=count), timeout=rng.choice((0.05, 5))) as stream:
                    async for chunk in stream:
                        assert chunk.value == str(stream.chunks - 1), "in order, none lost, none twice"
                        if stream.chunks == leave_after:
                            break
                    else:
                        assert stream.output.value == count == stream.chunks
                ends.append("OK")
            except AtomeshError as error:
                ends.append(str(error.reason))

        await asyncio.gather(*(reader() for _ in range(150)))
        await SYSTEM_CLOCK.sleep(1)
        assert len(ends) == 150
        assert set(ends) <= {"OK", "DEADLINE_EXCEEDED"}
        assert ends.count("OK") > 30
        assert (m.agent.running, m.taken) == (0, 0)
        assert [in_flight(client) for client in clients] == [0, 0, 0]


async def test_a_connection_that_is_cut_ends_the_stream_at_both_ends() -> None:
    async with mesh() as m:
        client = await m.client("one")
        async with client.stream(COUNTER, Int32Value(value=1000)) as stream:
            await anext(stream)
            m.network.cut("agent", "one")
            with pytest.raises(ConnectionLost, match="after 1 chunk"):
                await stream.result()
        await SYSTEM_CLOCK.sleep(0.1)
        assert (m.agent.running, m.taken, m.agent.begun) == (0, 0, 1)
        assert await read(client, 2) == [0, 1], "the client connects again by itself"
