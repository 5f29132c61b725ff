"""Agents as processes: SIGTERM loses nothing, a second signal forces, SIGKILL and SIGSTOP are survived."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.contract import pack
from atomesh.core.endpoint import ALL_STATES, State
from atomesh.core.selector import Selector
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.rpc import RegistryClient
from atomesh.text.v1.text_pb2 import TextInput
from atomesh.v1 import agent_pb2, agent_pb2_grpc

SCRIPT = Path(__file__).with_name("serve_agent.py")
EVERYBODY = Selector(agent="worker", states=ALL_STATES)


class Process:
    """One process of agents and a stub to it."""

    def __init__(self, process: asyncio.subprocess.Process, address: str, channel: grpc.aio.Channel) -> None:
        self.process = process
        self.address = address
        self.stub: Any = agent_pb2_grpc.AgentServiceStub(channel)

    async def call(self, content: str, agent: str = "worker", timeout: float = 20) -> grpc.StatusCode:
        request = agent_pb2.ExecuteRequest(agent=agent, input=pack(TextInput(content=content, operation="sentiment")))
        call = self.stub.Execute(request, timeout=timeout)
        code: grpc.StatusCode = await call.code()
        return code

    async def in_flight(self) -> int:
        health = await self.stub.Health(agent_pb2.HealthRequest())
        return sum(agent.load.in_flight for agent in health.agents)

    async def busy(self, calls: int) -> None:
        async with asyncio.timeout(10):
            while await self.in_flight() < calls:
                await SYSTEM_CLOCK.sleep(0.02)

    async def ended(self, seconds: float) -> int:
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def agent(registry: str = "-", grace: float = 25.0, bind: str = "127.0.0.1:0") -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", str(SCRIPT), registry, str(grace), bind, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    address = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Process(process, address, channel)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def registry() -> AsyncIterator[tuple[RegistryServer, RegistryClient]]:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(RegistryServer(storage=MemoryStorage()))
        yield server, await stack.enter_async_context(RegistryClient(server.address))


async def state(client: RegistryClient) -> list[State]:
    return [endpoint.state for endpoint in (await client.discover(EVERYBODY)).endpoints]


async def registered(client: RegistryClient) -> None:
    async with asyncio.timeout(10):
        while await state(client) != [State.SERVING]:
            await SYSTEM_CLOCK.sleep(0.02)


async def test_sigterm_finishes_what_runs_deregisters_and_exits_with_0() -> None:
    async with registry() as (server, client), agent(server.address) as process:
        await registered(client)
        calls = [asyncio.create_task(process.call("sleep 1.5")) for _ in range(4)]
        await process.busy(4)
        process.process.send_signal(signal.SIGTERM)
        assert await asyncio.gather(*calls) == [grpc.StatusCode.OK] * 4, "what runs must be finished"
        assert await process.ended(5) == 0
        assert await state(client) == []


async def test_sigterm_under_load_loses_no_call_of_a_caller_that_obeys_refusals() -> None:
    async with registry() as (server, client), agent(server.address) as old, agent(server.address) as new:
        async with asyncio.timeout(10):
            while len(await state(client)) < 2:
                await SYSTEM_CLOCK.sleep(0.02)
        ends: list[grpc.StatusCode] = []
        refused = 0

        async def calls() -> None:
            nonlocal refused
            for _ in range(60):
                end = await old.call("sleep 0.02")
                if end is not grpc.StatusCode.OK:  # draining or gone: elsewhere
                    refused += 1
                    end = await new.call("sleep 0.02")
                ends.append(end)

        callers = [asyncio.create_task(calls()) for _ in range(4)]
        await SYSTEM_CLOCK.sleep(0.4)
        old.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*callers)
        assert await old.ended(5) == 0
        assert refused > 0, "the drain must have begun in the middle of the load"
        assert ends == [grpc.StatusCode.OK] * 240


async def test_what_ignores_its_cancellation_does_not_hold_the_process_after_the_grace() -> None:
    async with agent(grace=0.5) as process:
        calls = [asyncio.create_task(process.call(*work)) for work in (("ignore 60",), ("60", "thread"))]
        await process.busy(2)
        process.process.send_signal(signal.SIGTERM)
        assert await process.ended(10) == 0, "neither stubborn work nor a hanging thread may keep it alive"
        assert grpc.StatusCode.OK not in await asyncio.gather(*calls)


async def test_a_second_signal_forces() -> None:
    async with agent() as process:
        call = asyncio.create_task(process.call("sleep 60"))
        await process.busy(1)
        process.process.send_signal(signal.SIGTERM)
        await SYSTEM_CLOCK.sleep(0.5)
        assert process.process.returncode is None, "the first one waits for what runs"
        process.process.send_signal(signal.SIGINT)
        assert await process.ended(5) == 1
        assert await call is grpc.StatusCode.UNAVAILABLE


async def test_a_drain_call_ends_the_process_too() -> None:
    async with agent() as process:
        await process.stub.Drain(agent_pb2.DrainRequest())
        assert await process.ended(5) == 0


async def test_a_process_stopped_for_a_while_keeps_its_lease_and_goes_on() -> None:
    async with registry() as (server, client), agent(server.address) as process:
        await registered(client)
        process.process.send_signal(signal.SIGSTOP)
        call = asyncio.create_task(process.call("hello"))
        await SYSTEM_CLOCK.sleep(4)
        assert await state(client) == [State.SERVING], "4 s of silence are within a lease of 15 s"
        process.process.send_signal(signal.SIGCONT)
        assert await call is grpc.StatusCode.OK
        process.process.send_signal(signal.SIGTERM)
        assert await process.ended(5) == 0


async def test_a_restart_at_the_same_address_does_not_wait_for_a_ttl() -> None:
    async with registry() as (server, client):
        async with agent(server.address) as process:
            await registered(client)
            (before,) = (await client.discover(EVERYBODY)).endpoints
            process.process.kill()
            await process.ended(5)
        assert await state(client) == [State.SERVING], "nobody has told the registry yet"
        async with agent(server.address, bind=before.address):
            after = before
            async with asyncio.timeout(5):
                while after.instance_id == before.instance_id:
                    await SYSTEM_CLOCK.sleep(0.05)
                    (after,) = (await client.discover(EVERYBODY)).endpoints
            assert after.address == before.address
