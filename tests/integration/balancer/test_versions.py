"""Calls for a version range, through a real registry and from a list of addresses; what else is asked of an agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.exposition import generate_latest

from atomesh.agents import AgentFailed, AgentServer, ExecutionContext
from atomesh.balancer import CallOptions, Capacity, Circuit, Client, ClientMetrics
from atomesh.balancer import fleets as fleets_module
from atomesh.core import Contract, Recent, Selector, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.contract import describe
from atomesh.rpc import RegistryClient
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Mesh = Callable[..., Any]
Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)


def of_version(echo: Any, number: str) -> Any:
    return type("Echo", (echo,), {"version": number})


async def asked(client: Client, text: Text, version: str, times: int = 12) -> set[str]:
    options = CallOptions(version=version)
    return {(await client.execute(ECHO, text(), options)).info.version for _ in range(times)}


async def test_only_versions_in_the_range_are_asked(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        for number in ("1.0.0", "1.4.0", "2.0.0"):
            await m.serve(of_version(echo, number)())
        client = await m.client(policy="round_robin")
        assert await asked(client, text, ">=2") == {"2.0.0"}
        assert await asked(client, text, "1.4.0") == {"1.4.0"}
        assert await asked(client, text, ">=1,<2") <= {"1.0.0", "1.4.0"}
        assert (await client.call(ECHO, text("yes"), version=">=2")).result == "yes"


async def test_a_full_release_is_waited_for_while_others_have_slots(
    mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        hold = holding()
        await m.serve(of_version(echo, "2.0.0")(hold), slots=1)
        other = await m.serve(of_version(echo, "1.0.0")(), slots=8)
        metrics = ClientMetrics()
        client = await m.client(metrics=metrics)
        calls = [asyncio.create_task(client.execute(ECHO, text(), CallOptions(version=">=2"))) for _ in range(3)]
        await until(lambda: client.capacity("echo", ">=2").waiting == 2)
        assert client.capacity("echo", ">=2") == Capacity(endpoints=1, slots=1, free=0, in_flight=1, waiting=2)
        assert await client.call(ECHO, text(), version="<2")
        waiting = metrics.registry.get_sample_value("atomesh_client_waiting", {"agent": "echo"})
        assert waiting == 2, "the gauge is of all ranges of the agent, whichever was asked for last"
        hold.let_go.set()
        assert {reply.info.version for reply in await asyncio.gather(*calls)} == {"2.0.0"}
        assert other.agents["echo"].admission.executions == 1


async def test_a_range_that_nobody_serves_is_an_error_at_once_and_leaves_no_watch(
    mesh: Mesh, echo: Any, text: Text, at_once: Any, until: Any
) -> None:
    async with mesh() as m:
        for _ in range(3):
            await m.serve(echo())
        client = await m.client()
        await client.call(ECHO, text())
        tasks = len(asyncio.all_tasks())
        async with asyncio.timeout(1):
            with pytest.raises(errors.NoEndpoint) as caught:
                await client.call(ECHO, text(), version=">=2")
        assert caught.value.message.startswith("no endpoint serves echo >=2 (3 registered: 1.0.0); start one with")
        ends = await at_once(client.call(ECHO, text(), version=f">={n}") for n in range(2, 40))
        assert all(isinstance(end, errors.NoEndpoint) for end in ends)
        assert set(client._fleets) == {"echo"}
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        with pytest.raises(errors.UnknownAgent):
            await client.call("nobody", text(), version=">=2")
        with pytest.raises(errors.InvalidArgument, match="version range"):
            await client.call(ECHO, text(), version="newest of them")


async def test_versions_of_listed_addresses_are_all_heard_before_the_range_is_judged(echo: Any, text: Text) -> None:
    async with (
        AgentServer(of_version(echo, "1.0.0")()) as first,
        AgentServer(of_version(echo, "2.0.0")()) as second,
        Client(endpoints=[first.address, second.address]) as client,
    ):
        for wanted in ("2.0.0", "1.0.0"):
            assert await asked(client, text, wanted, times=1) == {wanted}
        with pytest.raises(errors.NoEndpoint, match=r"2 registered: 1\.0\.0, 2\.0\.0"):
            await client.call(ECHO, text(), version=">=3")


async def test_streams_take_a_range_too(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        await m.serve(of_version(echo, "1.0.0")())
        await m.serve(of_version(echo, "2.0.0")())
        client = await m.client()
        for wanted in ("1.0.0", "1.0.0", "2.0.0", "2.0.0"):
            async with client.stream(ECHO, text(), version=wanted) as stream:
                await stream.result()
            assert stream.info.version == wanted


async def test_calls_count_under_the_agent_whatever_the_range(mesh: Mesh, echo: Any, text: Text) -> None:
    async with mesh() as m:
        server = await m.serve(echo())
        metrics = ClientMetrics()
        client = await m.client(metrics=metrics)
        for version in ("", ">=1", "1.0.0"):
            await client.call(ECHO, text(), version=version)
        value = metrics.registry.get_sample_value
        assert value("atomesh_client_calls_total", {"agent": "echo", "reason": "OK"}) == 3
        labels = {"agent": "echo", "endpoint": server.address}
        assert value("atomesh_client_attempts_total", {**labels, "reason": "OK"}) == 3
        assert value("atomesh_client_slots", labels) == server.agents["echo"].admission.slots
        assert b">=1" not in generate_latest(metrics.registry)


async def test_ranges_that_are_not_in_use_end_when_there_are_too_many(
    mesh: Mesh, echo: Any, text: Text, monkeypatch: pytest.MonkeyPatch, holding: Any, until: Any
) -> None:
    monkeypatch.setattr(fleets_module, "MAX_RANGES", 3)
    async with mesh() as m:
        hold = holding()
        await m.serve(echo(hold), slots=20)
        client = await m.client()
        held = asyncio.create_task(client.call(ECHO, text(), version=">=0.1"))
        await hold.begun.acquire()
        hold.work = None
        for n in range(2, 10):
            await client.meet("echo", f">=0.{n}")
        assert set(client._fleets) == {("echo", f">=0.{n}") for n in (1, 8, 9)}, "one with a call in flight stays"
        hold.let_go.set()
        assert await held


async def test_an_agent_is_met_without_a_call(mesh: Mesh, echo: Any) -> None:
    async with mesh() as m:
        client = await m.client()
        assert client.endpoints("echo") == ()
        assert client.capacity("echo") == Capacity()
        assert client.circuit("echo") is Circuit.CLOSED
        with pytest.raises(errors.UnknownAgent):
            await client.meet("echo")
        servers = [await m.serve(of_version(echo, number)()) for number in ("1.0.0", "2.0.0")]
        await client.meet("echo")
        assert {endpoint.address for endpoint in client.endpoints("echo")} == {server.address for server in servers}
        assert [endpoint.version for endpoint in client.endpoints("echo", ">=2")] == ["2.0.0"]
        with pytest.raises(errors.NoEndpoint, match="no endpoint serves echo >=3"):
            await client.meet("echo", ">=3")
        await m.stop_registry()
        stranger = Client(m.address)
        with pytest.raises(errors.DeadlineExceeded):
            await stranger.meet("echo", timeout=0.05)
        await stranger.close()


async def test_who_waits_for_a_change_of_capacity_is_woken_by_endpoints_and_not_by_calls(
    mesh: Mesh, echo: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        await m.serve(echo(), slots=2)
        client = await m.client()
        await client.call(ECHO, text())
        await until(lambda: client.capacity("echo").free == 2)
        seen = client.capacity("echo")
        change = asyncio.create_task(client.capacity_changed("echo", since=seen))
        for _ in range(20):
            await client.call(ECHO, text())
        assert not change.done()
        second = await m.serve(echo(), slots=3)
        async with asyncio.timeout(2):
            await change
        assert client.capacity("echo").slots == 5
        async with asyncio.timeout(1):
            await client.capacity_changed("echo", since=seen)  # it has changed since
        change = asyncio.create_task(client.capacity_changed("echo"))
        await second.stop()
        async with asyncio.timeout(2):
            await change
        change = asyncio.create_task(client.capacity_changed("echo"))
        await SYSTEM_CLOCK.sleep(0.01)
        await client.close()
        with pytest.raises(errors.Cancelled, match="closed"):
            await change


async def test_what_an_endpoint_did_of_late_is_reckoned_from_its_renewals(mesh: Mesh, echo: Any, text: Text) -> None:
    async def work(input: TextInput, context: ExecutionContext) -> None:
        await SYSTEM_CLOCK.sleep(0.02)
        if input.content == "bad":
            raise AgentFailed("no")

    async with mesh() as m, RegistryClient(m.address) as registry:
        await m.serve(echo(work), slots=4)
        client = await m.client()

        async def recent() -> Recent | None:
            return (await registry.discover(Selector(agent="echo"))).endpoints[0].recent

        async with asyncio.timeout(10):
            while (found := await recent()) is None or found.execution is None:
                ends = await asyncio.gather(
                    *(client.call(ECHO, text(content)) for content in ("good", "good", "good", "bad")),
                    return_exceptions=True,
                )
                assert sum(isinstance(end, AgentFailed) for end in ends) == 1
        assert 0.015 < found.execution < 0.2
        assert found.error_rate == pytest.approx(0.25, abs=0.1)
        assert 5 < found.executions_per_second < 250


async def test_an_agents_contract_is_told_as_data_and_asked_for_once(mesh: Mesh, echo: Any) -> None:
    async with mesh() as m:
        await m.serve(echo())
        client = await m.client()
        told = await client.describe("echo")
        assert told.hash == describe(TextInput, TextOutput).hash
        assert (told.input_type, told.output_type) == ("atomesh.text.v1.TextInput", "atomesh.text.v1.TextOutput")
        await m.stop_registry()
        assert await client.describe("echo") is told
        assert (await client.contract("echo")).input_type == told.input_type
