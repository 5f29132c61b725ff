"""Streams and processes that die: a killed caller frees the slot at once, a killed endpoint is told of or replaced."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from atomesh.agents import AgentServer, ExecutionContext, StreamingAgent
from atomesh.balancer import Client
from atomesh.core import StreamContract
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import ConnectionLost
from atomesh.text.v1.text_pb2 import Keyword, TextInput, TextOutput

READER = Path(__file__).with_name("read_stream.py")
COUNTER = StreamContract("counter", TextInput, TextOutput, chunk=Keyword)
HELLO = TextInput(content="hello", operation="sentiment")


class Counter(StreamingAgent[TextInput, Keyword, TextOutput]):
    """Counts for ever; waits before each chunk where it is told to."""

    name = "counter"
    slots = 1

    def __init__(self, pause: float = 0.0) -> None:
        self._pause = pause
        self.count = 0
        self.closed_at = 0.0

    async def stream(self, input: TextInput, context: ExecutionContext, /) -> AsyncIterator[Keyword | TextOutput]:
        try:
            while True:
                await SYSTEM_CLOCK.sleep(self._pause)
                self.count += 1
                yield Keyword(text="x" * 100, count=self.count)
        finally:
            self.closed_at = SYSTEM_CLOCK.now()


def busiest(mesh: Any, client: Client) -> Any:
    """The member with the most streams, and how many these are."""
    candidates = client._fleets["counter"].balancer.candidates
    return max(((m, candidates[m.address].in_flight) for m in mesh.endpoints), key=lambda found: found[1])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await SYSTEM_CLOCK.sleep(0.001)


@pytest.mark.parametrize("pause", [0.0, 0.02], ids=["held back by it", "between two chunks"])
async def test_a_caller_that_is_killed_frees_the_slot_within_100_ms(pause: float) -> None:
    agent = Counter(pause)
    async with AgentServer(agent) as server:
        admission = server.agents["counter"].admission
        for _ in range(3):
            reader = await asyncio.create_subprocess_exec(
                sys.executable, str(READER), server.address, "5", stdout=asyncio.subprocess.PIPE
            )
            try:
                assert reader.stdout is not None
                async with asyncio.timeout(20):
                    assert await reader.stdout.readline() == b"5\n"
                await SYSTEM_CLOCK.sleep(0.2)  # it reads no more: without a pause the agent stands still by now
                assert admission.in_flight == 1
            finally:
                killed = SYSTEM_CLOCK.now()
                reader.send_signal(signal.SIGKILL)
            await until(lambda: admission.in_flight == 0)
            assert SYSTEM_CLOCK.now() - killed < 0.1, "a consumer that goes away frees the slot within 100 ms"
            assert agent.closed_at > killed, "the author's finally must have run"
            await reader.communicate()


@pytest.mark.timeout(120)
async def test_an_endpoint_that_is_killed_ends_its_streams_and_no_others(mesh: Callable[..., Any]) -> None:
    async with mesh("Counter") as m, Client(m.registry.address) as client:
        begun = asyncio.Semaphore(0)

        async def consume() -> tuple[int, ConnectionLost | None]:
            """The chunks that came, and how it ended."""
            try:
                async with client.stream(COUNTER, HELLO, timeout=30) as stream:
                    async for chunk in stream:
                        assert chunk.count == stream.chunks, "no chunk is lost, and none comes twice"
                        if stream.chunks == 2:
                            begun.release()
            except ConnectionLost as error:
                return stream.chunks, error
            assert stream.output.result == "100"
            return stream.chunks, None

        consumers = [asyncio.create_task(consume()) for _ in range(12)]
        for _ in consumers:
            await begun.acquire()
        member, streams = busiest(m, client)
        await member.kill()
        ends = await asyncio.gather(*consumers)
        lost = [(chunks, error) for chunks, error in ends if error is not None]
        assert 1 <= len(lost) == streams, "a stream that has begun is nobody else's to finish"
        for chunks, error in lost:
            assert error is not None
            assert f"(after {chunks} chunks)" in error.message
        assert [chunks for chunks, error in ends if error is None] == [100] * (12 - len(lost))


@pytest.mark.timeout(120)
async def test_before_its_first_chunk_a_stream_that_may_run_twice_survives_a_kill(mesh: Callable[..., Any]) -> None:
    async with mesh("Counter") as m, Client(m.registry.address) as client:

        async def consume() -> tuple[int, int]:
            slow = TextInput(content="slow", operation="sentiment")
            async with client.stream(COUNTER, slow, idempotent=True, timeout=30) as stream:
                await stream.result()
            return stream.chunks, len(stream.attempts)

        consumers = [asyncio.create_task(consume()) for _ in range(6)]
        await SYSTEM_CLOCK.sleep(0.5)  # all have begun, and none has a chunk before a second has passed
        member, streams = busiest(m, client)
        await member.kill()
        ends = await asyncio.gather(*consumers)
        assert [chunks for chunks, _ in ends] == [100] * 6
        assert sum(attempts for _, attempts in ends) == streams >= 1, "each that was there goes on elsewhere"
