"""Endpoints come, drain, leave and return, and so does the registry, all of it under load: no call fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from atomesh.agents import AgentServer
from atomesh.balancer import Client
from atomesh.core import Contract, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.contract import pack
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from atomesh.v1 import agent_pb2, agent_pb2_grpc

Mesh = Callable[..., Any]
Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)


async def _short(*_: Any) -> None:
    await SYSTEM_CLOCK.sleep(0.002)


class Load:
    """Eight callers that do not stop; what they met."""

    def __init__(self, client: Client) -> None:
        self.done = 0
        self.failed: list[BaseException] = []
        self.since_mark: set[str] = set()
        self._client = client
        self._over = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        callers = [asyncio.create_task(self._call()) for _ in range(8)]
        try:
            yield self
        finally:
            self._over = True
            await asyncio.gather(*callers)

    async def more(self, calls: int) -> None:
        """Returns after so many more; `since_mark` has who answered them."""
        self.since_mark.clear()
        goal = self.done + calls
        async with asyncio.timeout(15):
            while self.done < goal:
                await SYSTEM_CLOCK.sleep(0.002)

    async def _call(self) -> None:
        while not self._over:
            try:
                reply = await self._client.execute(ECHO, TextInput(content="x", operation="sentiment"))
                self.since_mark.add(reply.info.instance_id)
            except Exception as error:  # noqa: BLE001 # whatever it is, the test names it
                self.failed.append(error)
            self.done += 1


@pytest.mark.parametrize("idempotent", [False, True], ids=["once only", "idempotent"])
@pytest.mark.parametrize("by", ["rpc", "method"])
async def test_a_drain_under_load_fails_no_call(mesh: Mesh, echo: Any, idempotent: bool, by: str) -> None:
    async with mesh() as m:
        agents = [echo(_short) for _ in range(3)]
        servers = [await m.serve(agent, slots=4, idempotent=idempotent) for agent in agents]
        async with Load(await m.client()).running() as load:
            await load.more(100)
            if by == "rpc":
                async with grpc.aio.insecure_channel(servers[0].address) as channel:
                    stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
                    await stub.Drain(agent_pb2.DrainRequest(), timeout=5)
                await asyncio.wait_for(servers[0].wait_drained(), 5)
            else:
                await asyncio.wait_for(servers[0].drain(), 5)
            await servers[0].stop()
            await load.more(100)
            assert servers[0].instance_id not in load.since_mark
        assert load.failed == []
        assert sum(len(agent.seen) for agent in agents) == load.done, "nothing is lost, nothing runs twice"


@pytest.mark.parametrize("idempotent", [False, True], ids=["once only", "idempotent"])
async def test_an_endpoint_that_restarts_on_its_port_is_used_again(mesh: Mesh, echo: Any, idempotent: bool) -> None:
    async with mesh() as m:
        first, _ = [await m.serve(echo(_short), slots=4, idempotent=idempotent) for _ in range(2)]
        async with Load(await m.client()).running() as load:
            for _ in range(2):
                await load.more(50)
                await first.drain()
                await first.stop()
                await load.more(20)
                again = await m.serve(echo(_short), slots=4, idempotent=idempotent, bind=first.address)
                assert again.address == first.address
                async with asyncio.timeout(5):
                    while again.instance_id not in load.since_mark:
                        await load.more(10)
                first = again
        assert load.failed == []


async def test_a_rolling_restart_of_a_lone_endpoint_costs_time_and_no_call(mesh: Mesh, echo: Any) -> None:
    async with mesh() as m:
        only = await m.serve(echo(_short))
        async with Load(await m.client()).running() as load:
            await load.more(50)
            await only.drain()
            await only.stop()
            await SYSTEM_CLOCK.sleep(0.5)
            await m.serve(echo(_short), bind=only.address)
            await load.more(50)
        assert load.failed == []


async def test_a_registry_that_comes_back_empty_costs_no_call_and_is_complete_within_a_renewal(
    mesh: Mesh, echo: Any, until: Any
) -> None:
    async with mesh() as m:
        servers = [await m.serve(echo(_short)) for _ in range(3)]
        async with Load(await m.client()).running() as load:
            await load.more(100)
            await m.restart_registry()
            begun = SYSTEM_CLOCK.now()
            await load.more(100)
            async with asyncio.timeout(5):
                while await m.registered() != {server.address for server in servers}:
                    await SYSTEM_CLOCK.sleep(0.02)
            # A renewal of these leases is due every 0.5 s; a registrar that found nobody asks again within 2 s.
            assert SYSTEM_CLOCK.now() - begun < 2.5
            await load.more(100)
            assert load.since_mark == {server.instance_id for server in servers}
        assert load.failed == []


async def test_calls_go_on_while_the_registry_is_away(mesh: Mesh, echo: Any) -> None:
    async with mesh() as m:
        servers = [await m.serve(echo(_short)) for _ in range(2)]
        async with Load(await m.client()).running() as load:
            await load.more(50)
            await m.registry.stop()
            await SYSTEM_CLOCK.sleep(2)  # longer than a lease: nobody is there to end it
            await load.more(100)
            assert load.since_mark == {server.instance_id for server in servers}
        assert load.failed == []


async def test_a_call_ends_well_at_an_endpoint_that_is_removed_meanwhile(
    mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        hold = holding()
        server = await m.serve(echo(hold))
        client = await m.client()
        calls = [asyncio.create_task(client.call(ECHO, text())) for _ in range(3)]
        for _ in calls:
            await hold.begun.acquire()
        assert server._registrar is not None
        await server._registrar.leave()  # the registry forgets it; the process goes on
        await until(lambda: not client._fleets["echo"].balancer.candidates)
        await SYSTEM_CLOCK.sleep(0.05)
        hold.let_go.set()
        assert [output.result for output in await asyncio.gather(*calls)] == ["hello"] * 3


async def test_an_endpoint_that_joins_under_load_gets_its_share(mesh: Mesh, echo: Any) -> None:
    async with mesh() as m:
        await m.serve(echo(_short), slots=4)
        async with Load(await m.client()).running() as load:
            await load.more(50)
            newcomer = echo(_short)
            await m.serve(newcomer, slots=4)
            await load.more(400)
        assert load.failed == []
        assert 100 < len(newcomer.seen) < 300


async def test_a_list_of_addresses_follows_a_restart_too(echo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a registry nobody is told of a drain: a call may arrive in the moment of the end, and is tried again."""
    monkeypatch.setattr("atomesh.balancer.resolver.POLL_SECONDS", 0.1)
    async with contextlib.AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(AgentServer(echo(_short), slots=4, idempotent=True)) for _ in range(2)
        ]
        client = await stack.enter_async_context(Client(endpoints=[one.address, two.address]))
        async with Load(client).running() as load:
            await load.more(50)
            await two.drain()
            await two.stop()
            await load.more(50)
            again = AgentServer(echo(_short), bind=two.address, idempotent=True)
            await stack.enter_async_context(again)
            async with asyncio.timeout(5):
                while again.instance_id not in load.since_mark:
                    await load.more(10)
        assert load.failed == []


class Stopping:
    """Offers no mux, and drops every other call, as gRPC does for a server that stops."""

    def __init__(self) -> None:
        self.calls = 0

    async def Describe(self, request: Any, context: Any) -> agent_pb2.DescribeResponse:  # noqa: N802 # gRPC's name
        said = agent_pb2.AgentDescription(name="echo", slots=4, contract=ECHO.descriptor.to_proto())
        return agent_pb2.DescribeResponse(agents=[said])

    async def Execute(self, request: Any, context: Any) -> agent_pb2.ExecuteResponse:  # noqa: N802 # gRPC's name
        self.calls += 1
        if self.calls % 2:
            await context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")
        return agent_pb2.ExecuteResponse(output=pack(TextOutput(result="here")))

    def service(self) -> grpc.GenericRpcHandler:
        """AgentService as it was before there were muxes."""
        execute: Any = grpc.unary_unary_rpc_method_handler(
            self.Execute, agent_pb2.ExecuteRequest.FromString, agent_pb2.ExecuteResponse.SerializeToString
        )
        describe: Any = grpc.unary_unary_rpc_method_handler(
            self.Describe, agent_pb2.DescribeRequest.FromString, agent_pb2.DescribeResponse.SerializeToString
        )
        methods = {"Execute": execute, "Describe": describe}
        return grpc.method_handlers_generic_handler("atomesh.v1.AgentService", methods)


async def test_a_call_that_a_stopping_server_dropped_counts_as_one_that_may_have_run(text: Text) -> None:
    server = grpc.aio.server()
    stopping = Stopping()
    server.add_generic_rpc_handlers((stopping.service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Client(endpoints=[f"127.0.0.1:{port}"]) as client:
        assert (await client.call(ECHO, text(), idempotent=True)).result == "here"
        assert stopping.calls == 2
        with pytest.raises(errors.ConnectionLost, match="dropped the call") as caught:
            await client.call(ECHO, text())
        assert caught.value.executed is None
        assert stopping.calls == 3
    await server.stop(None)
