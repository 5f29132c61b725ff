"""Our client and our endpoint on a mux over real gRPC: what a unary call has outside, it has inside, and nothing stays."""

import asyncio
import gc
import random
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from atomesh.balancer import CallOptions, Client
from atomesh.core import Context, Contract, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Serving = Callable[..., AbstractAsyncContextManager[Any]]
Text = Callable[..., TextInput]
Until = Callable[..., Awaitable[None]]
ECHO = Contract("echo", TextInput, TextOutput)


async def warm(client: Client, text: Text, mux: bool) -> None:
    """Returns once calls go as they are meant to."""
    for _ in range(500):
        reply = await client.execute(ECHO, text())
        if (reply.answer.response is None) is mux:
            return
        await SYSTEM_CLOCK.sleep(0.005)
    raise AssertionError("no call went through a mux")


@pytest.mark.parametrize("mux", [True, False])
async def test_a_call_is_the_same_to_its_caller_and_its_agent_with_a_mux_or_without(
    serving: Serving, text: Text, mux: bool
) -> None:
    async with serving() as here, Client(endpoints=[here.address], mux=mux) as client:
        await warm(client, text, mux)
        context = Context(
            "request-1",
            timestamp=1_700_000_000.5,
            user_id="Zoë",
            session_id="session\n2",
            metadata={"Ключ": "värde"},
            traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        )
        reply = await client.execute(ECHO, text("hello"), CallOptions(context=context))
        assert reply.output == TextOutput(result="hello")
        seen = here.agent.seen[-1]
        assert (seen.request_id, seen.user_id, seen.session_id) == ("request-1", "Zoë", "session\n2")
        assert seen.metadata == {"Ключ": "värde"}
        assert seen.traceparent == context.traceparent
        info = reply.info
        assert (info.agent, info.instance_id, info.endpoint) == ("echo", here.server.instance_id, here.address)
        assert info.request_id == "request-1"
        assert abs(info.started_at.seconds - SYSTEM_CLOCK.wall()) < 60
        assert 0 < info.execution_time.ToMicroseconds() < 1_000_000
        with pytest.raises(errors.InvalidInput) as invalid:
            await client.call(ECHO, text(""))
        assert [violation.field for violation in invalid.value.violations] == ["content"]
        assert invalid.value.origin.endpoint == here.address
        begun = time.perf_counter()
        with pytest.raises(errors.DeadlineExceeded):
            await client.call(ECHO, text("hold"), timeout=0.3)
        assert time.perf_counter() - begun > 0.25
        deadline = here.agent.seen[-1].remaining() + (time.perf_counter() - begun)
        assert 0.2 < deadline < 0.6, "the deadline goes along"


@pytest.mark.parametrize("key", ["run-1/stage", "k" * 128, "ключ", "k" * 127 + "é"])
@pytest.mark.parametrize("mux", [True, False])
async def test_a_key_alone_arrives_with_a_mux_or_without(serving: Serving, text: Text, mux: bool, key: str) -> None:
    async with serving() as here, Client(endpoints=[here.address], mux=mux) as client:
        await warm(client, text, mux)
        if len(key.encode()) > 128:
            with pytest.raises(errors.InvalidArgument, match="idempotency_key"):
                await client.call(ECHO, text("hello"), context=Context("r", idempotency_key=key))
            return
        await client.call(ECHO, text("hello"), context=Context("r", idempotency_key=key, timestamp=1_700_000_000.5))
        seen = here.agent.seen[-1].context
        assert (seen.request_id, seen.idempotency_key, seen.timestamp) == ("r", key, 1_700_000_000.5)
        await client.call(ECHO, text("hello"), context=Context("r"))
        assert here.agent.seen[-1].context.idempotency_key == ""


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 300_000, 1_000_000, 3_900_000])
async def test_outputs_of_any_size_come_whole(serving: Serving, text: Text, size: int) -> None:
    async with serving() as here, Client(endpoints=[here.address]) as client:
        await warm(client, text, True)
        large, small = await asyncio.gather(
            client.call(ECHO, text(f"long {size}")), client.call(ECHO, text("small")), return_exceptions=True
        )
        assert isinstance(large, TextOutput)
        assert large.result == "o" * size
        assert isinstance(small, TextOutput)


async def test_an_output_over_the_limit_ends_its_call_alone(serving: Serving, text: Text) -> None:
    async with serving() as here, Client(endpoints=[here.address]) as client:
        await warm(client, text, True)
        large, small = await asyncio.gather(
            client.call(ECHO, text("long 5000000")), client.call(ECHO, text("sleep 0.1")), return_exceptions=True
        )
        assert isinstance(large, errors.MessageTooLarge)
        assert isinstance(small, TextOutput), small


async def test_a_caller_that_goes_away_frees_the_slot_within_100_ms(
    serving: Serving, text: Text, until: Until, within: Any
) -> None:
    async with serving(slots=1) as here, Client(endpoints=[here.address]) as client:
        await warm(client, text, True)
        call = asyncio.create_task(client.call(ECHO, text("hold")))
        await here.agent.begun.acquire()
        call.cancel()
        async with within(0.1):
            await until(lambda: here.admission.taken == 0, 5)
        assert here.agent.cancelled == 1


async def test_a_cancel_reaches_the_endpoint_on_a_stream_that_has_a_successor(
    serving: Serving, text: Text, until: Until, within: Any
) -> None:
    async with serving(slots=2, max_connection_age=1) as here, Client(endpoints=[here.address]) as client:
        await warm(client, text, True)
        call = asyncio.create_task(client.call(ECHO, text("hold")))
        await here.agent.begun.acquire()
        await SYSTEM_CLOCK.sleep(1.3)
        assert (await client.call(ECHO, text())).result == "hello"
        assert here.admission.taken == 1
        call.cancel()
        async with within(0.1):
            await until(lambda: here.admission.taken == 0, 5)


@pytest.mark.parametrize("seed", range(3))
async def test_calls_cancelled_and_out_of_time_at_any_moment_leave_no_slot_behind(
    serving: Serving, text: Text, until: Until, seed: int
) -> None:
    rng = random.Random(seed)
    async with (
        serving(slots=2) as here,
        serving(slots=3) as there,
        Client(endpoints=[here.address, there.address]) as client,
    ):
        await warm(client, text, True)
        ends: list[Any] = []

        async def one() -> None:
            what = rng.choice(["hello", f"sleep {rng.random() * 0.005}", "long 100000", "hold"])
            timeout = rng.random() * 0.02 if what == "hold" or rng.random() < 0.3 else 20.0
            call = asyncio.create_task(client.call(ECHO, text(what), timeout=timeout + 0.001))
            if rng.random() < 0.4:
                await SYSTEM_CLOCK.sleep(rng.random() * 0.01)
                call.cancel()
            ends.extend(await asyncio.gather(call, return_exceptions=True))

        async def load() -> None:
            for _ in range(40):
                await one()

        await asyncio.wait_for(asyncio.gather(*(load() for _ in range(20))), 30)
        assert len(ends) == 800
        for end in ends:
            late = (errors.DeadlineExceeded, errors.Shed, asyncio.CancelledError)
            assert isinstance(end, (TextOutput, *late)), repr(end)
        for place in (here, there):
            await until(lambda place=place: place.admission.taken == 0, 2)
            await until(lambda place=place: place.admission.wanted == 0, 2)
        for _ in range(20):
            assert (await client.call(ECHO, text(), timeout=0.5)).result == "hello"


async def test_many_calls_with_cancels_leave_no_memory_behind(serving: Serving, text: Text) -> None:
    async with serving(slots=16) as here, Client(endpoints=[here.address]) as client:
        await warm(client, text, True)

        async def burst(calls: int) -> None:
            async def worker(count: int) -> None:
                for n in range(count):
                    call = asyncio.create_task(client.call(ECHO, text("long 1000")))
                    if n % 20 == 0:
                        await asyncio.sleep(0)  # noqa: TID251 # one turn of the loop, no time
                        call.cancel()
                    await asyncio.gather(call, return_exceptions=True)

            await asyncio.gather(*(worker(calls // 20) for _ in range(20)))
            here.agent.seen.clear()
            gc.collect()

        await burst(1000)
        tracemalloc.start()
        try:
            await burst(1000)
            before, _ = tracemalloc.get_traced_memory()
            await burst(4000)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 300_000, f"4,000 calls have left {after - before} bytes"
