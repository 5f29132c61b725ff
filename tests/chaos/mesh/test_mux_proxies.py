"""Muxes through something in between: connections that lie dead without being closed, and that are cut every two seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Self

import pytest

from atomesh.balancer import Client
from atomesh.core import Contract
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import ConnectionLost
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

pytestmark = pytest.mark.timeout(90)

TASK = Contract("task", TextInput, TextOutput)
KEEPALIVE = 15.0  # seconds within which a dead connection is noticed
SILENT = 1.5  # and within which nothing new is sent on it
BUSY = 2.0  # seconds by which this machine may be late


class Proxy:
    """Passes connections on to a port; stops passing bytes on, or cuts connections that reach an age, when told to."""

    def __init__(self, max_age: float | None = None) -> None:
        self.port = 0
        """Where to pass connections on to."""
        self.deaf = False
        """Nothing of the caller is passed on."""
        self.mute = False
        """Nothing of the endpoint is passed on."""
        self.connections = 0
        self._max_age = max_age
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError):
            there, onwards = await asyncio.open_connection("127.0.0.1", self.port)
            self._writers.add(onwards)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._max_age):
                    await asyncio.gather(
                        self._pass_on(reader, onwards, lambda: self.deaf),
                        self._pass_on(there, writer, lambda: self.mute),
                    )
            onwards.transport.abort()
            self._writers.discard(onwards)
        writer.transport.abort()
        self._writers.discard(writer)
        self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, not_now: Any) -> None:
        while data := await reader.read(65_536):
            if not not_now():
                writer.write(data)
                await writer.drain()
        raise ConnectionResetError("one side is closed, and so is the other")


async def ended(client: Client, idempotent: bool) -> tuple[float, BaseException | None]:
    """How long a call of one second took, and how it failed."""
    begun = SYSTEM_CLOCK.now()
    error: BaseException | None = None
    try:
        await client.call(TASK, TextInput(content="sleep 1", operation="summarize"), timeout=120, idempotent=idempotent)
    except ConnectionLost as lost:
        error = lost
    return SYSTEM_CLOCK.now() - begun, error


async def test_a_connection_that_is_dead_without_being_closed_costs_what_is_in_flight_seconds_and_the_rest_nothing(
    mesh: Callable[..., Any], traffic: Callable[..., Any]
) -> None:
    async with Proxy() as both, Proxy() as up, Proxy() as down:
        proxies = (both, up, down)
        behind = [proxy.address for proxy in proxies]
        async with mesh("Task", endpoints=4, behind=behind) as m, Client(m.registry.address) as client:
            for proxy, member in zip(proxies, m.endpoints, strict=False):
                proxy.port = member.port
            async with traffic(client, "task", callers=4) as load:
                await load.more(100)
            candidates = client._fleets["task"].balancer.candidates
            # 16 slots for 14 calls of one second, four by four: each endpoint has some of either kind.
            kinds = [number // 4 % 2 == 0 for number in range(14)]
            calls = [asyncio.create_task(ended(client, idempotent)) for idempotent in kinds]
            await SYSTEM_CLOCK.sleep(0.3)
            assert min(candidates[address].in_flight for address in behind) > 0, "each has calls in flight"
            both.deaf = both.mute = up.deaf = down.mute = True
            died = SYSTEM_CLOCK.now()
            async with traffic(client, "task", callers=4) as load:
                while not all(candidates[address].silent for address in behind):
                    assert SYSTEM_CLOCK.now() < died + SILENT + BUSY, "a mux that is dead must be found silent"
                    await SYSTEM_CLOCK.sleep(0.01)
                silent = SYSTEM_CLOCK.now()
                outcomes = await asyncio.gather(*calls)
            late = load.begun_in(silent)
            assert len(late) > 100
            assert {call.where for call in late} == {m.endpoints[3].address}, "new calls go elsewhere at once"
            assert max(took for took, _ in outcomes) < 0.3 + KEEPALIVE + 2 + BUSY, "no call may hang to its deadline"
            failed = [idempotent for idempotent, (_, error) in zip(kinds, outcomes, strict=True) if error]
            assert True not in failed, "what may run twice is answered elsewhere"
            assert False in failed, "what may not is told that its connection was lost"
            assert load.failed == {}
            both.deaf = both.mute = up.deaf = down.mute = False


async def test_calls_that_may_run_twice_survive_a_proxy_that_cuts_every_connection_after_two_seconds(
    mesh: Callable[..., Any], traffic: Callable[..., Any]
) -> None:
    async with Proxy(max_age=2.0) as first, Proxy(max_age=2.0) as last:
        behind = [first.address, last.address]
        flags = ["--slots", "16"]
        async with mesh("Task", endpoints=2, flags=flags, behind=behind) as m, Client(m.registry.address) as client:
            first.port, last.port = (member.port for member in m.endpoints)
            large = traffic(client, "task", callers=4, content="long 300000")  # which comes in parts
            async with traffic(client, "task", callers=20) as load, large:
                await load.more(10)
                begun = SYSTEM_CLOCK.now()
                await SYSTEM_CLOCK.sleep(5)
            assert load.failed == large.failed == {}, f"{len(load.failed)} of {len(load.answered)} calls failed"
            assert len(large.answered) > 10
            assert min(first.connections, last.connections) >= 3, "it is connected to again within seconds"
            rates = [load.rate(begun + second, begun + second + 1) for second in range(5)]
            assert min(rates) > 0, f"no second may be without an answer: {rates}"
