"""Registration, renewal and the way out, against a real registry: nobody loses a call."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.endpoint import ALL_STATES, Endpoint, State
from atomesh.core.errors import ConnectionLost, Draining, Unauthenticated
from atomesh.core.selector import Selector
from atomesh.registry import MemoryStorage, RegistryServer, RegistrySettings, SQLiteStorage
from atomesh.rpc import Credentials, RegistryClient
from atomesh.text.v1 import text_pb2_grpc
from atomesh.text.v1.text_pb2 import Summary, TextInput, TextOutput
from atomesh.v1 import agent_pb2

Serving = Callable[..., Any]
EVERYBODY = Selector(states=ALL_STATES)


@contextlib.asynccontextmanager
async def registry(**options: Any) -> AsyncIterator[tuple[RegistryServer, RegistryClient]]:
    options.setdefault("storage", MemoryStorage())
    options.setdefault("settings", RegistrySettings(min_ttl=1.0, tick=0.1))
    async with RegistryServer(**options) as server, RegistryClient(server.address) as client:
        yield server, client


async def endpoints(client: RegistryClient) -> list[Endpoint]:
    return list((await client.discover(EVERYBODY)).endpoints)


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if (await found if asyncio.iscoroutine(found) else found) is True:
                return
            await SYSTEM_CLOCK.sleep(0.02)


class Gate:
    """Work that goes on until it is let go."""

    def __init__(self) -> None:
        self.running = 0
        self.let_go = asyncio.Event()

    async def __call__(self, *_: Any) -> None:
        self.running += 1
        await self.let_go.wait()


async def test_an_agent_registers_what_it_is_and_leaves_when_stopped(serving: Serving) -> None:
    async with registry() as (server, client):
        async with serving(registry=server.address, zone="north", http_bind="127.0.0.1:0") as (agent, _):
            await asyncio.wait_for(agent.registered.wait(), 5)
            (endpoint,) = await endpoints(client)
            assert (endpoint.agent, endpoint.address, endpoint.zone) == ("echo", agent.address, "north")
            assert (endpoint.instance_id, endpoint.state) == (agent.instance_id, State.SERVING)
            assert endpoint.metrics_address == agent.http_address
            assert {"pid", "host", "python", "atomesh"} <= set(endpoint.metadata)
        assert await endpoints(client) == []


async def test_it_renews_and_tells_its_load(serving: Serving) -> None:
    async with registry() as (server, client), serving(registry=server.address, ttl=1.0) as (agent, caller):
        await asyncio.wait_for(agent.registered.wait(), 5)
        await caller.execute()

        async def told() -> bool:
            (endpoint,) = await endpoints(client)
            return endpoint.load is not None and endpoint.load.executions == 1

        await until(told)
        await SYSTEM_CLOCK.sleep(1.5)
        assert len(await endpoints(client)) == 1, "a lease of 1 s must have been renewed"


async def test_it_serves_without_a_registry_and_registers_when_there_is_one(serving: Serving) -> None:
    async with registry() as (server, _):
        address = server.address
    async with serving(registry=address) as (agent, caller):
        assert await caller.execute() == "hello"
        assert not agent.registered.is_set()
        async with registry(bind=address) as (_, client):
            await asyncio.wait_for(agent.registered.wait(), 10)
            assert len(await endpoints(client)) == 1


async def test_it_registers_again_after_a_registry_that_forgot_everything(serving: Serving) -> None:
    async with registry() as (server, _):
        address = server.address
        agent = await contextlib.AsyncExitStack().__aenter__()
        running, caller = await agent.enter_async_context(serving(registry=address, ttl=1.0))
        await asyncio.wait_for(running.registered.wait(), 5)
    assert await caller.execute() == "hello"
    async with agent, registry(bind=address) as (_, client):

        async def back() -> bool:
            return [endpoint.address for endpoint in await endpoints(client)] == [running.address]

        await until(back)


async def test_a_restored_lease_is_renewed_after_a_restart_of_a_durable_registry(
    serving: Serving, tmp_path: Any
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with registry(storage=SQLiteStorage(tmp_path / "registry.db")) as (server, client):
            address = server.address
            agent, _ = await stack.enter_async_context(serving(registry=address, ttl=1.0))
            await asyncio.wait_for(agent.registered.wait(), 5)
            (before,) = await endpoints(client)
        async with registry(storage=SQLiteStorage(tmp_path / "registry.db"), bind=address) as (_, client):
            await SYSTEM_CLOCK.sleep(2.5)
            (after,) = await endpoints(client)
            assert after.registered_at == before.registered_at, "the same lease, not a new one"


async def test_one_agent_that_the_registry_refuses_keeps_no_other_out(serving: Serving, echo: Any) -> None:
    class Other(Agent[TextInput, Summary]):
        name = "clash"

        async def execute(self, input: TextInput, context: ExecutionContext, /) -> Summary:
            return Summary()

    class Clash(Agent[TextInput, TextOutput]):
        name = "clash"

        async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
            return TextOutput()

    async with registry() as (server, client), serving(Other(), registry=server.address) as (first, _):
        await asyncio.wait_for(first.registered.wait(), 5)
        async with serving([Clash(), echo()], registry=server.address, ttl=1.0) as (second, _):

            async def names() -> bool:
                return sorted(endpoint.agent for endpoint in await endpoints(client)) == ["clash", "echo"]

            await until(names)
            await SYSTEM_CLOCK.sleep(1.5)
            assert await names(), "the other agent's lease must be renewed although one is refused"
            assert not second.registered.is_set()


async def test_a_drain_finishes_what_runs_and_refuses_what_is_new_unexecuted(serving: Serving, echo: Any) -> None:
    gate = Gate()
    async with registry() as (server, client), serving(echo(gate), registry=server.address) as (agent, caller):
        await asyncio.wait_for(agent.registered.wait(), 5)
        running = [asyncio.create_task(caller.execute(str(n))) for n in range(3)]
        await until(lambda: gate.running == 3)
        drain = asyncio.create_task(agent.drain())

        await until(lambda: agent.agents["echo"].admission.draining)
        (endpoint,) = await endpoints(client)
        assert endpoint.state is State.DRAINING, "the registry hears of it before anybody is refused"
        error = await caller.error(caller.execute())
        assert isinstance(error, Draining)
        assert error.executed is False
        assert not drain.done()
        gate.let_go.set()
        assert await asyncio.gather(*running) == ["0", "1", "2"], "what runs is finished"
        await asyncio.wait_for(drain, 5)
        assert await endpoints(client) == [], "a drained endpoint has left"
        await asyncio.wait_for(agent.wait_drained(), 1)


async def test_calls_are_taken_until_the_watch_has_carried_the_state(serving: Serving) -> None:
    async with registry() as (server, client), serving(registry=server.address) as (agent, caller):
        await asyncio.wait_for(agent.registered.wait(), 5)
        seen = asyncio.Event()

        async def watches() -> None:
            async with contextlib.aclosing(client.watch_once(EVERYBODY)) as events:
                async for event in events:
                    for update in event.updates:
                        endpoint = getattr(update, "endpoint", None)
                        if endpoint is not None and endpoint.state is State.DRAINING:
                            seen.set()

        async def picks() -> int:
            calls = 0
            while not seen.is_set():
                await caller.execute()
                calls += 1
            return calls

        watching, picking = asyncio.create_task(watches()), asyncio.create_task(picks())
        await SYSTEM_CLOCK.sleep(0.1)
        await agent.drain()
        assert await picking > 0, "a caller that follows the watch must see no refusal at all"
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_what_has_not_ended_after_the_grace_is_cut_off_and_told_so(serving: Serving, echo: Any) -> None:
    gate = Gate()
    async with serving(echo(gate)) as (agent, caller):
        running = asyncio.create_task(caller.error(caller.execute()))
        await until(lambda: gate.running == 1)
        begun = SYSTEM_CLOCK.now()
        await agent.drain(grace=0.3)
        assert SYSTEM_CLOCK.now() - begun < 3
        error = await running
        assert isinstance(error, ConnectionLost)
        assert error.executed is True, "it has run: only an idempotent call may be tried again"
        assert "cut off by a drain after 0.3 s" in error.message


async def test_health_says_not_serving_as_soon_as_it_drains(serving: Serving, echo: Any) -> None:
    gate = Gate()
    async with serving(echo(gate)) as (agent, caller):
        stub: Any = health_pb2_grpc.HealthStub(caller.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="echo"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        running = asyncio.create_task(caller.execute())
        await until(lambda: gate.running == 1)
        drain = asyncio.create_task(agent.drain())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        (health,) = (await caller.stub.Health(agent_pb2.HealthRequest())).agents
        assert health.state == agent_pb2.SERVING_STATE_DRAINING
        gate.let_go.set()
        await asyncio.gather(running, drain)
        watch.cancel()


async def test_one_of_two_agents_drains_and_the_other_goes_on(serving: Serving, echo: Any) -> None:
    class Other(echo):  # type: ignore[misc] # a class from a fixture
        name = "other"

    async with registry() as (server, client), serving([echo(), Other()], registry=server.address) as (agent, caller):
        await asyncio.wait_for(agent.registered.wait(), 5)
        await caller.stub.Drain(agent_pb2.DrainRequest(agent="other"))

        async def left() -> bool:
            return [endpoint.agent for endpoint in await endpoints(client)] == ["echo"]

        await until(left)
        assert await caller.execute("on", agent="echo") == "on"
        assert isinstance(await caller.error(caller.execute(agent="other")), Draining)
        assert agent.state("echo") is State.SERVING
        response = await caller.stub.Drain(agent_pb2.DrainRequest())
        assert response.in_flight == 0
        await asyncio.wait_for(agent.wait_drained(), 5)


async def test_drain_needs_the_token_where_there_is_one(serving: Serving) -> None:
    async with serving(credentials=Credentials(token="s3cret")) as (agent, caller):
        error = await caller.error(caller.stub.Drain(agent_pb2.DrainRequest()))
        assert isinstance(error, Unauthenticated)
        wrong = (("authorization", "Bearer no"),)
        assert isinstance(
            await caller.error(caller.stub.Drain(agent_pb2.DrainRequest(), metadata=wrong)), Unauthenticated
        )
        assert await caller.execute() == "hello", "calls need no token"
        await caller.stub.Drain(agent_pb2.DrainRequest(), metadata=(("authorization", "Bearer s3cret"),))
        await asyncio.wait_for(agent.wait_drained(), 5)


async def test_a_newer_instance_at_the_same_address_takes_over_and_the_old_one_drains(serving: Serving) -> None:
    async with registry() as (server, client), serving(registry=server.address, ttl=1.0) as (old, _):
        await asyncio.wait_for(old.registered.wait(), 5)
        async with serving(registry=server.address, advertise=old.address) as (new, _):
            await asyncio.wait_for(new.registered.wait(), 5)
            await asyncio.wait_for(old.wait_drained(), 5)
            (endpoint,) = await endpoints(client)
            assert endpoint.instance_id == new.instance_id, "the old one must not push the new one out"


async def test_a_drain_without_a_registry_does_not_wait_for_one(serving: Serving) -> None:
    async with registry() as (server, _):
        address = server.address
    async with serving(registry=address) as (agent, _):
        begun = SYSTEM_CLOCK.now()
        await agent.drain()
        assert SYSTEM_CLOCK.now() - begun < 1


@pytest.mark.parametrize("blocked", [1.5])
async def test_a_blocked_loop_is_logged_with_the_stack_that_blocked_it(
    serving: Serving, echo: Any, caplog: pytest.LogCaptureFixture, blocked: float
) -> None:
    async def blocks_the_loop(*_: Any) -> None:
        threading.Event().wait(blocked)

    async with serving(echo(blocks_the_loop)) as (agent, caller):
        await SYSTEM_CLOCK.sleep(0.3)
        await caller.execute()
        await SYSTEM_CLOCK.sleep(0.3)
        lag = agent.metrics.get_sample_value("atomesh_event_loop_lag_seconds_sum")
    assert "blocks_the_loop" in caplog.text
    assert caplog.text.count("the event loop has been blocked") == 1, "once for each block"
    assert lag is not None
    assert lag > 1.0


async def test_a_loop_blocked_for_4_s_under_load_loses_no_lease_and_no_call(serving: Serving, echo: Any) -> None:
    async def work(input: TextInput, _: Any) -> None:
        if input.content == "block":
            threading.Event().wait(4)

    async with registry() as (server, client), serving(echo(work), registry=server.address, ttl=15.0) as (agent, _):
        await asyncio.wait_for(agent.registered.wait(), 5)
        async with grpc.aio.insecure_channel(agent.address) as channel:
            stub: Any = text_pb2_grpc.TextProcessorServiceStub(channel)
            calls = [stub.Execute(TextInput(content=text, operation="sentiment")) for text in ["a", "block", *"bcdef"]]
            ends = await asyncio.gather(*calls, return_exceptions=True)
        assert not [end for end in ends if isinstance(end, BaseException)]
        (endpoint,) = await endpoints(client)
        assert endpoint.state is State.SERVING


async def test_an_agent_server_made_and_stopped_without_a_start_leaves_nothing(echo: Any) -> None:
    await AgentServer(echo()).stop()
