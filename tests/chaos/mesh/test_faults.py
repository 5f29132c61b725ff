"""What the mesh promises, under SIGKILL, SIGSTOP, rolling restarts and a registry that is away."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from atomesh.balancer import Client
from atomesh.core import AtomeshError, Contract, Selector
from atomesh.core.errors import ConnectionLost
from atomesh.rpc import RegistryClient
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

ECHO = Contract("echo", TextInput, TextOutput)
LEDGER = Contract("ledger", TextInput, TextOutput)
CONCURRENCY = 32

pytestmark = pytest.mark.timeout(120)


class Load:
    """Calls that go on until `calls` are made and `faults` are over: what became of each."""

    def __init__(self, client: Client, contract: Contract[TextInput, TextOutput], calls: int) -> None:
        self.done = 0
        self.failed: dict[str, AtomeshError] = {}
        self.answered: set[str] = set()
        self._client = client
        self._contract = contract
        self._calls = calls
        self._begun = 0
        self._faults_over = False

    async def run(self, faults: Awaitable[None]) -> None:
        async def until_over() -> None:
            await faults
            self._faults_over = True

        async with asyncio.TaskGroup() as group:
            group.create_task(until_over())
            for _ in range(CONCURRENCY):
                group.create_task(self._loop())

    async def reached(self, share: float) -> None:
        """Returns once this share of the calls has ended."""
        while self.done < share * self._calls:  # noqa: ASYNC110 # an event per share would say no more
            await asyncio.sleep(0.005)  # noqa: TID251 # real processes live in real time

    async def _loop(self) -> None:
        while self._begun < self._calls or not self._faults_over:
            self._begun += 1
            name = f"call-{self._begun}"
            try:
                output = await self._client.call(self._contract, TextInput(content=name, operation="summarize"))
                assert output.result == name, "an answer must be the answer to its own call"
                self.answered.add(name)
            except AtomeshError as error:
                self.failed[name] = error
            self.done += 1


async def registered(address: str, agent: str, count: int) -> None:
    """Returns once so many endpoints of the agent serve."""
    async with RegistryClient(address) as registry, asyncio.timeout(30):
        while len((await registry.discover(Selector(agent=agent))).endpoints) != count:  # noqa: ASYNC110 # another process: it is asked
            await asyncio.sleep(0.05)  # noqa: TID251 # real processes live in real time


async def test_no_idempotent_call_fails_while_one_is_killed_and_all_are_restarted(mesh: Callable[..., Any]) -> None:
    async with mesh("Echo") as m, Client(m.registry.address) as client:
        await registered(m.registry.address, "echo", 3)
        load = Load(client, ECHO, 10_000)

        async def faults() -> None:
            await load.reached(0.1)
            await m.endpoints[0].kill()
            await load.reached(0.2)
            await m.endpoints[0].start()
            for at, endpoint in zip((0.4, 0.6, 0.8), m.endpoints, strict=True):
                await load.reached(at)
                assert await endpoint.terminate() == 0, "a drained agent must exit with 0"
                await endpoint.start()
            await load.reached(1.0)

        await load.run(faults())
        assert load.done >= 10_000
        assert load.failed == {}, f"{len(load.failed)} calls failed"


async def test_a_call_that_must_not_run_twice_never_does(mesh: Callable[..., Any]) -> None:
    async with mesh("Ledger") as m, Client(m.registry.address) as client:
        await registered(m.registry.address, "ledger", 3)
        load = Load(client, LEDGER, 5_000)

        async def faults() -> None:
            for at, endpoint in zip((0.1, 0.4, 0.7), m.endpoints, strict=True):
                await load.reached(at)
                await endpoint.kill()
                await load.reached(at + 0.1)
                await endpoint.start()
            await load.reached(0.95)
            await m.endpoints[1].terminate()

        await load.run(faults())
        runs = Counter((m.state / "ledger").read_text().split())
        assert max(runs.values()) == 1, f"ran twice: {[name for name, n in runs.items() if n > 1][:5]}"
        assert load.answered <= set(runs), "an answered call must have run"
        assert all(isinstance(error, ConnectionLost) for error in load.failed.values()), (
            "only what was cut off may fail"
        )
        ran = sum(name in runs for name in load.failed)
        assert ran <= 3 * 2 * 8, "what the killed endpoints had in their slots, or on its way back, has run for nothing"
        # Work of 2 ms is short beside the round trip, so calls bind early: some wait at the endpoint, at most twice its
        # slots (balancer/binding.py), and whoever sent them cannot know that they have not run.
        assert len(load.failed) <= 3 * (8 + 2 * 8), "and at most what they had there fails"


async def test_calls_go_on_while_the_registry_is_away_and_it_is_complete_soon_after(mesh: Callable[..., Any]) -> None:
    async with mesh("Echo") as m, Client(m.registry.address) as client:
        await registered(m.registry.address, "echo", 3)
        load = Load(client, ECHO, 6_000)

        async def faults() -> None:
            await load.reached(0.1)
            await m.registry.kill()
            await load.reached(0.5)
            await m.endpoints[2].kill()
            await load.reached(0.9)
            await m.registry.start()
            await m.endpoints[2].start()
            async with asyncio.timeout(15):  # one ttl
                await registered(m.registry.address, "echo", 3)

        await load.run(faults())
        assert load.failed == {}, f"{len(load.failed)} calls failed"


async def test_a_frozen_endpoint_costs_time_but_no_idempotent_call(mesh: Callable[..., Any]) -> None:
    async with mesh("Echo") as m, Client(m.registry.address) as client:
        await registered(m.registry.address, "echo", 3)
        load = Load(client, ECHO, 3_000)

        async def faults() -> None:
            await load.reached(0.3)
            m.endpoints[0].signal(signal.SIGSTOP)
            await load.reached(1.0)

        await load.run(faults())
        assert load.failed == {}, f"{len(load.failed)} calls failed"
        m.endpoints[0].signal(signal.SIGCONT)
