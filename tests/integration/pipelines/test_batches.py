"""Batches over real gRPC: agents that leave in the middle, many items in little memory."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.core import Contract, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.context import Context
from atomesh.pipelines.batch import (
    PAIRS,
    BatchSettings,
    BatchStatus,
    Ended,
    Outcome,
    open_batch,
    run_batch,
)
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

ECHO = Contract("echo", TextInput, TextOutput)


class Echo(Agent[TextInput, TextOutput]):
    """Answers with the content, after the seconds that it is given."""

    name = "echo"

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.seen: list[Context] = []
        self.running = 0

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        self.seen.append(context.context)
        self.running += 1
        try:
            await SYSTEM_CLOCK.sleep(self.seconds)
        finally:
            self.running -= 1
        return TextOutput(result=input.content)


class Quick(Echo):
    name = "quick"


class Slow(Echo):
    name = "slow"


class Mesh:
    """A registry and whatever a test starts around it."""

    def __init__(self, registry: RegistryServer, stack: contextlib.AsyncExitStack) -> None:
        self.address = registry.address
        self._stack = stack

    async def serve(self, agent: Agent[Any, Any], **options: Any) -> AgentServer:
        server = AgentServer(agent, registry=self.address, **options)
        await self._stack.enter_async_context(server)
        async with asyncio.timeout(5):
            await server.registered.wait()
        return server

    async def client(self) -> Client:
        return await self._stack.enter_async_context(Client(self.address))


@pytest.fixture
def mesh() -> Callable[[], Any]:
    @contextlib.asynccontextmanager
    async def running() -> AsyncIterator[Mesh]:
        async with contextlib.AsyncExitStack() as stack:
            yield Mesh(await stack.enter_async_context(RegistryServer(storage=MemoryStorage())), stack)

    return running


def texts(count: int) -> Iterator[TextInput]:
    return (TextInput(content=f"text {n}", operation="sentiment") for n in range(count))


async def test_each_input_has_its_own_output_and_every_figure_adds_up(mesh: Any) -> None:
    async with mesh() as m:
        agents = [Echo(seconds=0.002), Echo(seconds=0.002)]
        for agent in agents:
            await m.serve(agent, slots=4)
        result = await run_batch(await m.client(), ECHO, texts(500), BatchSettings(id="b1"))
        assert [output.result for output in result.outputs] == [f"text {n}" for n in range(500)]
        summary = result.summary
        assert summary.status is BatchStatus.SUCCESS
        assert sum(share.items for share in summary.by_endpoint.values()) == 500
        assert len(summary.by_endpoint) == 2
        assert 0 < summary.efficiency <= 1
        assert summary.slots_mean == pytest.approx(8, abs=1)
        keys = [context.idempotency_key for agent in agents for context in agent.seen]
        assert sorted(keys) == sorted(f"b1/{n}" for n in range(500)), "each was sent once, under its own key"


async def test_an_endpoint_that_is_cut_off_in_the_middle_loses_nothing_without_saying_so(mesh: Any) -> None:
    async with mesh() as m:
        agents = [Echo(seconds=0.005) for _ in range(3)]
        servers = [await m.serve(agent, slots=4, drain_grace=0.0) for agent in agents]
        items = []
        async with open_batch(await m.client(), ECHO, texts(1500)) as batch:
            async for item in batch:
                items.append(item)
                if len(items) == 300:
                    stopping = asyncio.create_task(servers[0].stop())
        await stopping
        assert sorted(item.index for item in items) == list(range(1500)), "every input has an outcome"
        lost = [item for item in items if item.outcome is not Outcome.SUCCESS]
        assert len(lost) <= 8, "only what ran there can be lost"
        keys = [context.idempotency_key for agent in agents for context in agent.seen]
        assert len(keys) == len(set(keys)), "nothing is done twice by an agent that must not"
        assert batch.summary().status in (BatchStatus.SUCCESS, BatchStatus.PARTIAL)


async def test_an_endpoint_that_joins_is_used_at_once(mesh: Any) -> None:
    async with mesh() as m:
        first, second = Echo(seconds=0.02), Echo(seconds=0.02)
        await m.serve(first, slots=2)
        count = 0
        async with open_batch(await m.client(), ECHO, texts(300)) as batch:
            async for _ in batch:
                count += 1
                if count == 20:
                    await m.serve(second, slots=8)
        assert len(second.seen) > 150, "most of what was left went where most slots are"
        assert batch.summary().concurrency_max >= 10


class Forgetful(Echo):
    """Keeps nothing of its calls."""

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        return TextOutput(result=input.content)


async def test_eight_thousand_items_take_no_more_memory_than_two_thousand(mesh: Any) -> None:
    async with mesh() as m:
        await m.serve(Forgetful(), slots=64)
        client = await m.client()
        settings = BatchSettings(keep=False)
        await run_batch(client, ECHO, texts(500), settings)  # whatever is made once
        peaks = []
        tracemalloc.start()
        for count in (2_000, 8_000):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            summary = (await run_batch(client, ECHO, texts(count), settings)).summary
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
            assert summary.succeeded == count
        tracemalloc.stop()
        assert peaks[1] < peaks[0] + 300_000, f"{peaks} bytes: 6,000 items more would be 1,200,000 at 200 each"


async def test_pairs_go_to_their_agents_side_by_side(mesh: Any) -> None:
    async with mesh() as m:
        quick, slow = Quick(0.001), Slow(0.05)
        for agent in (quick, slow):
            await m.serve(agent, slots=4)
        pairs = [("slow" if n % 10 == 0 else "quick", text) for n, text in enumerate(texts(400))]
        result = await run_batch(await m.client(), PAIRS, [*pairs, ("nobody", next(texts(1)))])
        assert (len(quick.seen), len(slow.seen)) == (360, 40)
        assert result.summary.by_error == {"UNKNOWN_AGENT": 1}
        assert result.summary.duration < 40 * 0.05 / 4 + 1.5, "the slow one's items did not wait for the quick one's"


async def test_a_wrong_type_is_an_items_error_and_an_unknown_agent_the_batchs(mesh: Any) -> None:
    async with mesh() as m:
        await m.serve(Echo())
        client = await m.client()
        result = await run_batch(client, "echo", [TextOutput(result="x"), next(texts(1))])
        assert [item.error_type for item in result.items] == ["WRONG_TYPE", ""]
        with pytest.raises(errors.UnknownAgent, match="no agent 'ecco' is registered"):
            await run_batch(client, "ecco", texts(1))


async def test_a_batch_that_is_left_cancels_what_runs_at_the_agents(
    mesh: Any, until: Callable[[Callable[[], bool]], Awaitable[None]], within: Any
) -> None:
    async with mesh() as m:
        agent = Echo(seconds=30)
        await m.serve(agent, slots=4, drain_grace=0.0)
        async with open_batch(await m.client(), ECHO, texts(100)) as batch:
            await until(lambda: agent.running == 4)
        async with within(0.1):
            await until(lambda: agent.running == 0)
        assert batch.summary().ended is Ended.STOPPED


async def test_a_batch_made_by_an_agent_travels_in_its_context(mesh: Any) -> None:
    async with mesh() as m:
        inner = Quick()
        await m.serve(inner, slots=4)
        client = await m.client()

        class Outer(Agent[TextInput, TextOutput]):
            name = "outer"

            async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
                result = await run_batch(client, "quick", texts(3))
                return TextOutput(result=str(len(result.outputs)))

        await m.serve(Outer(), slots=1)
        output = await client.call("outer", next(texts(1)), context=Context(user_id="ada"))
        assert output.result == "3"
        assert {context.user_id for context in inner.seen} == {"ada"}
        assert {context.via for context in inner.seen} == {("outer",)}


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    async def wait(condition: Callable[[], bool]) -> None:
        give_up = SYSTEM_CLOCK.now() + 5
        while not condition():
            assert SYSTEM_CLOCK.now() < give_up, "it did not come about within 5 s"
            await SYSTEM_CLOCK.sleep(0.002)

    return wait
