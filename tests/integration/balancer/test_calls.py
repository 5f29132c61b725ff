"""Calls that go well: by name, by contract, with what is known of them; policies and lists of addresses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import POLICIES, CallOptions, Client, StaticResolver
from atomesh.core import Contract, errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.contract import known_class, load_contract
from atomesh.registry import SQLiteStorage
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Mesh = Callable[..., Any]
Text = Callable[..., TextInput]
ECHO = Contract("echo", TextInput, TextOutput)


def unseen_contract() -> Contract[Any, Any]:
    """One that this process has in no generated module: caller and agent have its descriptors alone."""
    file = descriptor_pb2.FileDescriptorProto(name="unseen/v1/unseen.proto", package="unseen.v1", syntax="proto3")
    for name in ("Question", "Answer"):
        field = file.message_type.add(name=name).field.add(name="text", number=1)
        field.type, field.label = field.TYPE_STRING, field.LABEL_OPTIONAL
    files = descriptor_pb2.FileDescriptorSet(file=[file])
    return load_contract("unseen.v1.Question", "unseen.v1.Answer", files.SerializeToString())


def unseen_agent() -> Agent[Any, Any]:
    contract = unseen_contract()
    question, answer = contract.input, contract.output

    class Unseen(Agent[question, answer]):  # type: ignore[valid-type] # classes that exist at run time alone
        name = "unseen"

        async def execute(self, input: Any, context: ExecutionContext, /) -> Any:
            return answer(text=input.text.upper())

    return Unseen()


async def test_a_call_by_name_gives_the_class_that_this_process_imported(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        await m.serve()
        output = await (await m.client()).call("echo", text("hi"))
        assert type(output) is TextOutput
        assert output.result == "hi"


async def test_a_call_by_contract_needs_no_registry_for_its_types(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        await m.serve()
        output: TextOutput = await (await m.client()).call(ECHO, text("hi"))
        assert output.result == "hi"


async def test_the_registry_may_keep_its_store_on_disk(mesh: Mesh, text: Text, tmp_path: Path) -> None:
    async with mesh(SQLiteStorage(tmp_path / "registry.db")) as m:
        await m.serve()
        assert (await (await m.client()).call("echo", text("hi"))).result == "hi"


async def test_a_caller_without_the_contract_gets_a_class_made_from_its_descriptors(mesh: Mesh) -> None:
    assert known_class("unseen.v1.Answer") is None, "or this test tests nothing"
    async with mesh() as m:
        await m.serve(unseen_agent())
        client = await m.client()
        told = await client.contract("unseen")
        assert (told.agent, told.input_type, told.output_type) == ("unseen", "unseen.v1.Question", "unseen.v1.Answer")
        assert (await client.call("unseen", told.input(text="hi"))).text == "HI"
        assert (await client.call(told, told.input(text="hi"))).text == "HI"


async def test_what_cannot_be_read_is_not_asked_for(mesh: Mesh) -> None:
    async with mesh() as m:
        agent: Any = unseen_agent()
        runs = 0
        execute = agent.execute

        async def counted(input: Any, context: ExecutionContext) -> Any:
            nonlocal runs
            runs += 1
            return await execute(input, context)

        agent.execute = counted
        await m.serve(agent)
        client = await m.client()
        question = unseen_contract().input(text="hi")
        with pytest.raises(errors.WrongType):  # so the watch has told of the agent, and nobody asked for its contract
            await client.call("unseen", TextInput())
        await m.registry.stop()
        with pytest.raises(errors.RegistryUnavailable) as caught:
            await client.call("unseen", question)
        assert caught.value.executed is False
        assert runs == 0, "an output whose contract cannot be had must not be worked for"


async def test_the_reply_tells_where_and_how_it_ran(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        server = await m.serve(slots=3)
        client = await m.client()
        await client.call(ECHO, text())  # connected
        reply = await client.execute(ECHO, text("hi"))
        assert reply.output.result == "hi"
        assert (reply.info.agent, reply.info.endpoint) == ("echo", server.address)
        assert reply.info.instance_id == server.instance_id
        assert reply.info.load.slots == 3
        assert reply.attempts == ()
        assert reply.queue_wait == 0


async def test_the_reply_tells_of_attempts_that_failed_before(mesh: Mesh, echo: Any, text: Text) -> None:
    async def work(_: TextInput, context: ExecutionContext) -> None:
        if len(agent.seen) == 1:
            raise errors.AgentFailed("not now", reason="BUSY", retryable=True)

    async with mesh() as m:
        agent = echo(work)
        server = await m.serve(agent, idempotent=True)
        reply = await (await m.client()).execute(ECHO, text())
        (attempt,) = reply.attempts
        assert (attempt.endpoint, attempt.reason, attempt.executed) == (server.address, "BUSY", True)
        assert 0 < attempt.seconds < 1


async def test_the_reply_tells_how_long_the_call_waited_for_a_slot(
    mesh: Mesh, echo: Any, holding: Any, text: Text, until: Any
) -> None:
    async with mesh() as m:
        hold = holding()
        await m.serve(echo(hold), slots=1)
        client = await m.client()
        first = asyncio.create_task(client.execute(ECHO, text()))
        await hold.begun.acquire()
        second = asyncio.create_task(client.execute(ECHO, text()))
        await SYSTEM_CLOCK.sleep(0.1)
        hold.let_go.set()
        assert (await first).queue_wait < 0.05
        assert (await second).queue_wait > 0.09


@pytest.mark.parametrize("policy", POLICIES)
async def test_every_policy_reaches_every_endpoint(mesh: Mesh, text: Text, at_once: Any, policy: str) -> None:
    async with mesh() as m:
        servers = [await m.serve() for _ in range(3)]
        client = await m.client(policy=policy)
        await _reached(client, 3, text())
        if policy == "peak_ewma":  # one after the other, all calls may go to whichever is a little faster
            replies = await at_once(client.execute(ECHO, text()) for _ in range(30))
        else:
            replies = [await client.execute(ECHO, text()) for _ in range(30)]
        counts = Counter(reply.info.endpoint for reply in replies)
        if policy in ("random", "p2c", "peak_ewma"):
            assert counts.keys() == {server.address for server in servers}, "whoever draws must draw each of them"
        elif (
            policy == "late_binding"
        ):  # it finds that the way is long beside an echo, binds early, and turns begin anew
            assert set(counts.values()) <= {8, 9, 10, 11, 12}, "idle equals must take turns"
        else:
            assert counts == {server.address: 10 for server in servers}, "idle equals must take turns"


async def test_a_call_may_have_a_policy_of_its_own(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        await m.serve(slots=1)
        await m.serve(slots=9)
        client = await m.client(policy="least_connections")
        await _reached(client, 2, text())
        for policy in POLICIES:
            reply = await client.execute(ECHO, text(), CallOptions(policy=policy))
            assert reply.output.result == "hello"
            assert (await client.call(ECHO, text(), policy=policy)).result == "hello"


async def test_an_unknown_policy_is_refused_by_name(mesh: Mesh, text: Text) -> None:
    async with mesh() as m:
        server = await m.serve()
        client = await m.client()
        with pytest.raises(errors.InvalidArgument, match=r"'round_robbin'.*did you mean round_robin"):
            await client.call(ECHO, text(), policy="round_robbin")
        with pytest.raises(errors.InvalidArgument, match=r"'fastest'.*weighted_least_outstanding"):
            Client(m.address, policy="fastest")
        assert server.agents["echo"].admission.executions == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _reached(client: Client, endpoints: int, message: TextInput) -> None:
    """Returns once the client is connected to so many."""
    seen: set[str] = set()
    async with asyncio.timeout(5):
        while len(seen) < endpoints:
            seen.add((await client.execute(ECHO, message)).info.endpoint)


async def test_a_list_of_addresses_serves_as_resolver(text: Text, echo: Any) -> None:
    async with (
        AgentServer(echo()) as one,
        AgentServer([echo(), unseen_agent()]) as two,
        Client(endpoints=[one.address, two.address]) as client,
    ):
        await _reached(client, 2, text())
        told = await client.contract("unseen")
        assert (await client.call("unseen", told.input(text="hi"))).text == "HI"
        with pytest.raises(errors.UnknownAgent):
            await client.call("nobody", text())


async def test_a_resolver_may_be_given_ready_made(text: Text, echo: Any) -> None:
    async with AgentServer(echo()) as server, Client(StaticResolver([server.address])) as client:
        assert (await client.call(ECHO, text("hi"))).result == "hi"


async def test_a_dead_address_in_the_list_costs_nothing(text: Text, echo: Any) -> None:
    dead = f"127.0.0.1:{_free_port()}"
    async with AgentServer(echo()) as server, Client(endpoints=[dead, server.address]) as client:
        begun = SYSTEM_CLOCK.now()
        assert (await client.call(ECHO, text("hi"))).result == "hi"
        assert SYSTEM_CLOCK.now() - begun < 1.0


async def test_an_address_that_never_answers_does_not_hold_the_others(text: Text, echo: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # the kernel accepts, and nobody ever speaks
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with AgentServer(echo()) as server, Client(endpoints=[address, server.address]) as client:
            begun = SYSTEM_CLOCK.now()
            assert (await client.call(ECHO, text("hi"))).result == "hi"
            assert SYSTEM_CLOCK.now() - begun < 1.0
            with pytest.raises(errors.UnknownAgent):
                await client.call("nobody", text())


async def test_an_address_that_comes_later_is_found(text: Text, echo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atomesh.balancer.resolver.POLL_SECONDS", 0.1)
    later = f"127.0.0.1:{_free_port()}"
    async with AgentServer(echo()) as server, Client(endpoints=[server.address, later]) as client:
        assert (await client.call(ECHO, text("hi"))).result == "hi"
        async with AgentServer(echo(), bind=later):
            await _reached(client, 2, text())


async def test_an_agent_that_nobody_served_yet_is_found_once_somebody_does(text: Text, echo: Any, mesh: Mesh) -> None:
    later = f"127.0.0.1:{_free_port()}"
    async with mesh() as m, Client(endpoints=[later]) as by_list:
        by_name = await m.client()
        for client in (by_list, by_name):
            with pytest.raises(errors.UnknownAgent):
                await client.call(ECHO, text())
        await m.serve(bind=later)
        assert (await by_name.call(ECHO, text("hi"))).result == "hi"
        async with asyncio.timeout(3):  # gRPC dials a refused address again within 2 s
            while True:
                with contextlib.suppress(errors.UnknownAgent):
                    assert (await by_list.call(ECHO, text("hi"))).result == "hi"
                    break
                await SYSTEM_CLOCK.sleep(0.02)


async def test_a_bad_address_in_the_list_opens_nothing() -> None:
    for wrong in ("127.0.0.1:0", "nowhere", "10.1.2.3:80"):
        with pytest.raises(errors.InvalidArgument, match=wrong.replace(".", r"\.")):
            Client(endpoints=["127.0.0.1:7500", wrong])
