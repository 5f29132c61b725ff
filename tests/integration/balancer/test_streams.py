"""Client.stream over a real mesh: picked for like a call, failed over until the first chunk, ended when left."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from atomesh.agents import Agent, AgentFailed, ExecutionContext, StreamingAgent
from atomesh.balancer import BlockingClient, Client, ClientMetrics
from atomesh.core import Context, Contract, StreamContract
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.contract import pack
from atomesh.core.errors import (
    AgentCrashed,
    Cancelled,
    ConnectionLost,
    DeadlineExceeded,
    InvalidArgument,
    InvalidInput,
    InvalidOutput,
    UnknownAgent,
    WrongType,
)
from atomesh.text.v1.text_pb2 import Keyword, TextInput, TextOptions, TextOutput
from atomesh.v1 import agent_pb2

MakeMesh = Callable[..., Any]
Until = Callable[..., Any]
Text = Callable[..., TextInput]
Work = Callable[[TextInput, ExecutionContext], AsyncGenerator[Keyword | TextOutput, None]]

TALK = StreamContract("talker", TextInput, TextOutput, chunk=Keyword)
AT_ONCE = 0.1  # seconds; the slot of a caller that is gone


class Talker(StreamingAgent[TextInput, Keyword, TextOutput]):
    """`COUNT SIZE`: so many chunks of so many letters, then the output. Or the work that the test gives it."""

    name = "talker"
    slots = 1

    def __init__(self, work: Work | None = None) -> None:
        self._work = work
        self.seen: list[ExecutionContext] = []
        self.made = 0
        self.running = 0

    async def stream(self, input: TextInput, context: ExecutionContext, /) -> AsyncIterator[Keyword | TextOutput]:
        self.seen.append(context)
        self.running += 1
        try:
            async with contextlib.aclosing((self._work or self._talk)(input, context)) as items:
                async for item in items:
                    yield item
        finally:
            self.running -= 1

    async def _talk(self, input: TextInput, *_: Any) -> AsyncGenerator[Keyword | TextOutput, None]:
        count, size = (*input.content.split(), "1")[:2]
        for number in range(int(count)):
            self.made += 1
            yield Keyword(text=str(number).ljust(int(size), "."), count=number)
        yield TextOutput(result=f"{count} chunks")


async def endless(*_: Any) -> AsyncGenerator[Keyword | TextOutput, None]:
    while True:
        yield Keyword()
        await SYSTEM_CLOCK.sleep(0.005)


def in_flight(mesh: Client, agent: str = "talker") -> int:
    return sum(candidate.in_flight for candidate in mesh._fleets[agent].balancer.candidates.values())


def at_of(stream: Any) -> str:
    """Where a stream that has begun comes from."""
    address: str = stream._attempt.pick.endpoint.address
    return address


async def read(stream: Any) -> list[int]:
    return [chunk.count async for chunk in stream]


async def test_chunks_come_in_order_and_then_the_output(mesh: MakeMesh, text: Text) -> None:
    async with mesh() as m:
        server = await m.serve(Talker())
        client = await m.client()
        async with client.stream(TALK, text("300")) as stream:
            assert await read(stream) == list(range(300))
            assert stream.output == TextOutput(result="300 chunks")
            assert await stream.result() == stream.output
            assert await read(stream) == [], "what has ended goes on being over"
            info = stream.info
        assert (info.agent, info.endpoint, info.instance_id) == ("talker", server.address, server.instance_id)
        assert (stream.chunks, stream.attempts) == (300, ())
        assert in_flight(client) == 0


@pytest.mark.parametrize("target", ["talker", Contract("talker", TextInput, TextOutput)], ids=["name", "contract"])
async def test_who_names_no_chunks_gets_those_of_the_registrys_contract(
    mesh: MakeMesh, text: Text, target: Any
) -> None:
    async with mesh() as m:
        await m.serve(Talker())
        client = await m.client()
        async with client.stream(target, text("2")) as stream:
            chunks = [chunk async for chunk in stream]
            assert all(isinstance(chunk, Keyword) for chunk in chunks)
            assert (len(chunks), stream.output) == (2, TextOutput(result="2 chunks"))


async def test_types_that_this_process_does_not_know_are_made_from_the_contract(mesh: MakeMesh, text: Text) -> None:
    async with mesh() as m:
        server = await m.serve(Talker())
        client = await m.client(endpoints=[server.address])
        told = await client.contract("talker")
        assert told.chunk is not None
        assert told.chunk.DESCRIPTOR.full_name == "atomesh.text.v1.Keyword"
        assert told.chunk is not Keyword, "made from descriptors, in a pool of its own"
        async with client.stream(told, told.input(content="2", operation="sentiment")) as stream:
            assert [type(chunk) async for chunk in stream] == [told.chunk] * 2
            assert type(stream.output) is told.output


async def test_result_alone_reads_to_the_end(mesh: MakeMesh, text: Text) -> None:
    async with mesh() as m:
        await m.serve(Talker())
        client = await m.client()
        async with client.stream(TALK, text("50")) as stream:
            assert await stream.result() == TextOutput(result="50 chunks")
        assert await client.call(TALK, text("50")) == TextOutput(result="50 chunks"), "a call of it is a call"


@pytest.mark.parametrize("sync", [False, True])
async def test_an_agent_without_chunks_gives_none(mesh: MakeMesh, text: Text, sync: bool) -> None:
    class Sync(Agent[TextInput, TextOutput]):
        name = "echo"

        def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
            return TextOutput(result=input.content)

    async with mesh() as m:
        await m.serve(Sync() if sync else None)
        client = await m.client()
        async with client.stream("echo", text("hello")) as stream:
            assert await read(stream) == []
            assert stream.output.result == "hello"


@pytest.mark.parametrize(("size", "most"), [(1, 1_000), (1_000, 60), (60_000, 4), (1_000_000, 4)])
async def test_a_slow_reader_holds_its_agent_back(mesh: MakeMesh, text: Text, size: int, most: int) -> None:
    agent = Talker()
    async with mesh() as m:
        await m.serve(agent)
        client = await m.client()
        async with client.stream(TALK, text(f"100000 {size}")) as stream:
            for read_so_far in range(1, 4):
                await anext(stream)
                before = -1
                while agent.made != before:
                    before = agent.made
                    await SYSTEM_CLOCK.sleep(0.1)
                assert before <= read_so_far + most, "an agent must not work far ahead of its caller"


@pytest.mark.parametrize("leaves", ["breaks", "raises", "is cancelled", "closes", "closes its client"])
async def test_a_caller_that_leaves_frees_the_slot_at_once(
    mesh: MakeMesh, text: Text, until: Until, leaves: str
) -> None:
    agent = Talker(endless)
    async with mesh() as m:
        await m.serve(agent)
        client = await m.client()

        async def consume() -> None:
            async with client.stream(TALK, text()) as stream:
                async for _ in stream:
                    if leaves == "breaks" and stream.chunks == 3:
                        break
                    if leaves == "raises" and stream.chunks == 3:
                        raise ZeroDivisionError
                    if leaves == "closes" and stream.chunks == 3:
                        await stream.aclose()
                        with pytest.raises(Cancelled, match=r"closed before its end \(after 3 chunks\)"):
                            await anext(stream)
                        return

        consumer = asyncio.create_task(consume())
        await until(lambda: agent.running)
        if leaves == "is cancelled":
            consumer.cancel()
        if leaves == "closes its client":
            await client.close()
        ended = (await asyncio.gather(consumer, return_exceptions=True))[0]
        begun = SYSTEM_CLOCK.now()
        await until(lambda: not agent.running)
        assert SYSTEM_CLOCK.now() - begun < AT_ONCE
        kinds = {"raises": ZeroDivisionError, "is cancelled": asyncio.CancelledError}
        if leaves == "closes its client":
            assert isinstance(ended, ConnectionLost)
            return
        assert isinstance(ended, kinds.get(leaves, type(None)))
        assert in_flight(client) == 0
        async with client.stream(TALK, text(), timeout=2) as stream:
            await anext(stream)  # the slot is good for another


async def test_a_stream_holds_its_slot_and_others_wait_for_it(mesh: MakeMesh, text: Text, until: Until) -> None:
    agent = Talker()
    async with mesh() as m:
        await m.serve(agent)
        client = await m.client()
        async with client.stream(TALK, text("100000 1000")) as stream:
            await anext(stream)
            waiting = asyncio.create_task(client.execute(TALK, text("2")))
            await SYSTEM_CLOCK.sleep(0.2)
            assert not waiting.done()
            assert in_flight(client) == 1
        reply = await waiting
        assert reply.output == TextOutput(result="2 chunks")
        assert reply.queue_wait > 0.15
        assert len(agent.seen) == 2


async def test_streams_wait_in_the_clients_queue_like_calls(mesh: MakeMesh, text: Text) -> None:
    agent = Talker()
    async with mesh() as m:
        await m.serve(agent, slots=2)
        client = await m.client()
        most = 0

        async def one() -> list[int]:
            nonlocal most
            async with client.stream(TALK, text("20")) as stream:
                found = []
                async for chunk in stream:
                    most = max(most, agent.running)
                    found.append(chunk.count)
                return found

        assert await asyncio.gather(*(one() for _ in range(20))) == [list(range(20))] * 20
        assert most <= 2
        assert in_flight(client) == 0


async def test_a_refusal_is_tried_elsewhere_before_the_first_chunk(mesh: MakeMesh, text: Text) -> None:
    async with mesh() as m:
        full = Talker(endless)
        server = await m.serve(full)
        other, client = await m.client(), await m.client()
        async with other.stream(TALK, text()) as taken:
            await anext(taken)  # another client's: this one has not heard of it
            await m.serve(Talker())
            for _ in range(5):
                async with client.stream(TALK, text("3"), policy="round_robin") as stream:
                    assert await read(stream) == [0, 1, 2]
                    assert stream.info.endpoint != server.address
        assert len(full.seen) == 1


async def fails_at_once(*_: Any) -> AsyncGenerator[Keyword | TextOutput, None]:
    raise AgentFailed("not now", reason="NOT_NOW", retryable=True)
    yield TextOutput()


async def fails_after_two(*_: Any) -> AsyncGenerator[Keyword | TextOutput, None]:
    yield Keyword()
    yield Keyword()
    raise AgentFailed("not now", reason="NOT_NOW", retryable=True)


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_failure_before_the_first_chunk_is_retried_where_that_is_harmless(
    mesh: MakeMesh, text: Text, idempotent: bool
) -> None:
    once = [fails_at_once]

    async def flaky(*given: Any) -> AsyncGenerator[Keyword | TextOutput, None]:
        async for item in once.pop()(*given) if once else Talker()._talk(*given):
            yield item

    agent = Talker(flaky)
    async with mesh() as m:
        await m.serve(agent)
        client = await m.client()
        async with client.stream(TALK, text("3"), idempotent=idempotent) as stream:
            if idempotent:
                assert await read(stream) == [0, 1, 2]
                assert [attempt.reason for attempt in stream.attempts] == ["NOT_NOW"]
            else:
                with pytest.raises(AgentFailed, match=r"not now$"):
                    await read(stream)
        assert len(agent.seen) == 1 + idempotent
        assert in_flight(client) == 0


async def test_an_error_after_chunks_is_final_and_says_how_many_came(mesh: MakeMesh, text: Text) -> None:
    agent = Talker(fails_after_two)
    async with mesh() as m:
        server = await m.serve(agent)
        client = await m.client()
        async with client.stream(TALK, text(), idempotent=True) as stream:
            found = [await anext(stream), await anext(stream)]
            with pytest.raises(AgentFailed, match=r"not now \(after 2 chunks\)$") as caught:
                await anext(stream)
            with pytest.raises(AgentFailed):
                await stream.result()
            with pytest.raises(AgentFailed):
                _ = stream.output
        error = caught.value
        assert (len(found), error.reason, error.executed, len(agent.seen)) == (2, "NOT_NOW", True, 1)
        assert error.origin.endpoint == server.address
        assert [attempt.endpoint for attempt in error.attempts] == [server.address]
        assert in_flight(client) == 0


async def test_an_endpoint_that_dies_in_the_middle_is_an_error_and_at_the_beginning_is_not(
    mesh: MakeMesh, text: Text
) -> None:
    async with mesh() as m:
        agents = [Talker(endless), Talker(endless)]
        servers = {server.address: server for server in [await m.serve(agent) for agent in agents]}
        client = await m.client()
        async with client.stream(TALK, text(), idempotent=True) as stream:
            await anext(stream)
            (busy,) = [agent for agent in agents if agent.running]
            at = at_of(stream)
            stopping = asyncio.create_task(servers[at].stop())
            with pytest.raises(ConnectionLost, match=r"cut off, the endpoint was stopped \(after \d+ chunks?\)"):
                await read(stream)
            await stopping
        assert not busy.running
        async with client.stream(TALK, text(), idempotent=True) as stream:
            await anext(stream)
            assert at_of(stream) != at


async def test_the_deadline_ends_a_stream_in_the_middle(mesh: MakeMesh, text: Text, until: Until) -> None:
    agent = Talker(endless)
    async with mesh() as m:
        await m.serve(agent)
        client = await m.client()
        async with client.stream(TALK, text(), timeout=0.3) as stream:
            with pytest.raises(DeadlineExceeded, match=r"\(after \d+ chunks\)"):
                await read(stream)
        assert stream.chunks > 5
        await until(lambda: not agent.running)
        async with client.stream(TALK, text()) as taken:
            await anext(taken)
            async with client.stream(TALK, text(), timeout=0.2) as stream:
                with pytest.raises(DeadlineExceeded, match="no endpoint of talker had a slot free in time"):
                    await anext(stream)


async def test_context_travels_and_a_stream_in_an_agent_is_its_child(mesh: MakeMesh, text: Text) -> None:
    inner = Talker()
    async with mesh() as m:
        await m.serve(inner)
        client = await m.client()

        async def relay(input: TextInput, _: ExecutionContext) -> AsyncGenerator[Keyword | TextOutput, None]:
            async with client.stream(TALK, input) as stream:
                async for chunk in stream:
                    yield chunk
            yield stream.output

        class Relay(Talker):
            name = "relay"

        outer = Relay(relay)
        await m.serve(outer)
        context = Context(user_id="Zoë", session_id="s-1", metadata={"a": "b"})
        async with client.stream("relay", text("3"), context=context, timeout=5) as stream:
            assert await read(stream) == [0, 1, 2]
        (above,), (below,) = outer.seen, inner.seen
        assert below.via == ("relay",)
        assert (below.request_id, below.user_id, below.session_id) == (above.request_id, "Zoë", "s-1")
        assert below.deadline <= above.deadline + 0.05


async def test_leaving_a_stream_ends_those_behind_it(mesh: MakeMesh, text: Text, until: Until) -> None:
    inner = Talker(endless)
    async with mesh() as m:
        await m.serve(inner)
        client = await m.client()

        async def relay(input: TextInput, _: ExecutionContext) -> AsyncGenerator[Keyword | TextOutput, None]:
            async with client.stream(TALK, input) as stream:
                async for chunk in stream:
                    yield chunk

        class Relay(Talker):
            name = "relay"

        await m.serve(Relay(relay))
        async with client.stream("relay", text()) as stream:
            await anext(stream)
            assert inner.running
        begun = SYSTEM_CLOCK.now()
        await until(lambda: not inner.running)
        assert SYSTEM_CLOCK.now() - begun < AT_ONCE


async def test_what_is_wrong_is_said_before_anything_runs(mesh: MakeMesh, text: Text) -> None:
    agent = Talker()
    async with mesh() as m:
        await m.serve(agent)
        client = await m.client()
        with pytest.raises(UnknownAgent):
            async with client.stream("nobody", text()):
                raise AssertionError("there is nobody")
        with pytest.raises(WrongType, match="talker takes"):
            async with client.stream("talker", TextOutput()):
                raise AssertionError("that is no input")
        with pytest.raises(InvalidArgument, match="no policy"):
            async with client.stream("talker", text(), policy="hope"):
                raise AssertionError("there is no such policy")
        with pytest.raises(InvalidArgument, match="write `async with mesh"):
            await anext(client.stream(TALK, text()))
        async with client.stream(TALK, text("")) as stream:
            with pytest.raises(InvalidInput) as caught:
                await anext(stream)
            assert not str(caught.value).endswith("chunks)")
        async with client.stream(TALK, text("3")) as stream:
            with pytest.raises(InvalidArgument, match=r"await stream\.result\(\)"):
                _ = stream.output
        assert agent.seen == []


async def test_an_input_against_the_rules_leaves_the_endpoint_in_good_standing(mesh: MakeMesh, text: Text) -> None:
    async with mesh() as m:
        await m.serve(Talker())
        client = await m.client()
        for _ in range(20):
            async with client.stream(TALK, text("")) as stream:
                with pytest.raises(InvalidInput):
                    await anext(stream)
        async with client.stream(TALK, text("2")) as stream:
            assert await read(stream) == [0, 1]


async def test_chunks_of_another_type_than_the_caller_named_are_the_agents_fault(
    mesh: MakeMesh, text: Text, until: Until
) -> None:
    agent = Talker(endless)
    other = StreamContract("talker", TextInput, TextOutput, chunk=TextOptions)
    async with mesh() as m:
        await m.serve(agent)
        client = await m.client()
        async with client.stream(other, text()) as stream:
            with pytest.raises(InvalidOutput, match=r"expected atomesh\.text\.v1\.TextOptions"):
                await anext(stream)
        await until(lambda: not agent.running)
        assert in_flight(client) == 0


async def test_an_agent_that_breaks_its_contract_tells_its_caller(mesh: MakeMesh, text: Text) -> None:
    async def no_output(*_: Any) -> AsyncGenerator[Keyword | TextOutput, None]:
        yield Keyword()

    async with mesh() as m:
        await m.serve(Talker(no_output))
        client = await m.client()
        async with client.stream(TALK, text()) as stream:
            with pytest.raises(AgentCrashed, match=r"without its output; yield one last \(after 1 chunk\)"):
                await read(stream)


async def test_while_an_agent_gains_chunks_callers_of_both_contracts_are_served(mesh: MakeMesh, text: Text) -> None:
    class Before(Agent[TextInput, TextOutput]):
        name = "talker"

        async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
            return TextOutput(result="before")

    async with mesh() as m:
        old = await m.serve(Before())
        client = await m.client()
        async with client.stream("talker", text("2")) as stream:
            assert (await read(stream), stream.output.result) == ([], "before")
        await m.serve(Talker())
        await old.drain()
        await old.stop()
        async with client.stream("talker", text("2")) as stream:
            assert (await read(stream), stream.output.result) == ([0, 1], "2 chunks")


class Foreign:
    """An agent in another language, with no more than it needs: Execute and Describe."""

    def __init__(self) -> None:
        self.server = grpc.aio.server()
        methods: dict[str, Any] = {
            "Execute": grpc.unary_unary_rpc_method_handler(
                self.execute, agent_pb2.ExecuteRequest.FromString, agent_pb2.ExecuteResponse.SerializeToString
            ),
            "Describe": grpc.unary_unary_rpc_method_handler(
                self.describe, agent_pb2.DescribeRequest.FromString, agent_pb2.DescribeResponse.SerializeToString
            ),
        }
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("atomesh.v1.AgentService", methods),)
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    async def execute(self, request: agent_pb2.ExecuteRequest, _: Any) -> agent_pb2.ExecuteResponse:
        content = TextInput.FromString(request.input.value).content
        return agent_pb2.ExecuteResponse(
            output=pack(TextOutput(result=content)), info=agent_pb2.ExecutionInfo(agent="foreign")
        )

    async def describe(self, _: Any, __: Any) -> agent_pb2.DescribeResponse:
        contract = Contract("foreign", TextInput, TextOutput).descriptor.to_proto()
        told = agent_pb2.AgentDescription(name="foreign", slots=1, contract=contract, instance_id="instance-1")
        return agent_pb2.DescribeResponse(agents=[told])


async def test_an_endpoint_that_lacks_streams_answers_with_its_output(text: Text) -> None:
    foreign = Foreign()
    await foreign.server.start()
    try:
        async with Client(endpoints=[foreign.address]) as client:
            for _ in range(3):
                async with client.stream("foreign", text("hello"), timeout=5) as stream:
                    assert (await read(stream), stream.output.result) == ([], "hello")
                    assert stream.info.agent == "foreign"
            assert in_flight(client, "foreign") == 0
    finally:
        await foreign.server.stop(0)


async def test_it_is_counted_like_any_call(mesh: MakeMesh, text: Text) -> None:
    metrics = ClientMetrics()
    async with mesh() as m:
        server = await m.serve(Talker())
        client = await m.client(metrics=metrics)
        async with client.stream(TALK, text("5")) as stream:
            await read(stream)
        async with client.stream(TALK, text("100000 1000")) as stream:
            await anext(stream)
        async with client.stream(TALK, text("")) as stream:
            with contextlib.suppress(InvalidInput):
                await anext(stream)
        value = metrics.registry.get_sample_value
        for reason in ("OK", "CANCELLED", "INVALID_INPUT"):
            at = {"agent": "talker", "reason": reason}
            assert value("atomesh_client_calls_total", at) == 1, reason
            assert value("atomesh_client_attempts_total", {**at, "endpoint": server.address}) == 1, reason
        method = {
            "grpc_type": "server_stream",
            "grpc_service": "atomesh.v1.AgentService",
            "grpc_method": "ExecuteStream",
        }
        assert value("grpc_client_started_total", method) == 3
        assert value("grpc_client_msg_received_total", method) == 7, "five chunks and an output, and one chunk"
        for code in ("OK", "Cancelled", "InvalidArgument"):
            assert value("grpc_client_handled_total", {**method, "grpc_code": code}) == 1, code
        assert value("atomesh_client_in_flight", {"agent": "talker", "endpoint": server.address}) == 0


async def test_a_slow_stream_outlives_the_drain_of_its_endpoint(mesh: MakeMesh, text: Text) -> None:
    async with mesh() as m:
        server = await m.serve(Talker())
        client = await m.client()
        async with client.stream(TALK, text("100 20000")) as stream:
            await anext(stream)
            draining = asyncio.create_task(server.drain())
            found = [0]
            async for chunk in stream:
                found.append(chunk.count)
                await SYSTEM_CLOCK.sleep(0.01)
            assert found == list(range(100))
            assert stream.output.result == "100 chunks"
        await asyncio.wait_for(draining, 5)


async def test_a_blocking_client_streams_too(mesh: MakeMesh, text: Text) -> None:
    agent = Talker()
    async with mesh() as m:
        server = await m.serve(agent)

        def script() -> None:
            with BlockingClient(m.address) as client:
                with client.stream(TALK, text("3")) as stream:
                    assert [chunk.count for chunk in stream] == [0, 1, 2]
                    assert stream.output == TextOutput(result="3 chunks")
                    assert (stream.chunks, stream.attempts, stream.info.endpoint) == (3, (), server.address)
                    assert list(stream) == []
                with client.stream("talker", text("100000 1000")) as stream:
                    for _ in stream:
                        break
                with client.stream("talker", text("2"), timeout=2) as stream:
                    assert stream.result() == TextOutput(result="2 chunks")
                with client.stream(TALK, text("")) as stream, pytest.raises(InvalidInput):
                    next(stream)

        await asyncio.to_thread(script)
        assert agent.running == 0
