"""ExecuteStream over real gRPC, called by generated stubs alone: as fast as the caller reads, gone when it goes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest

from atomesh.agents import Agent, AgentFailed, AgentServer, ExecutionContext, StreamingAgent
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import (
    AgentCrashed,
    AtomeshError,
    ConnectionLost,
    DeadlineExceeded,
    Draining,
    InvalidArgument,
    InvalidInput,
    InvalidOutput,
    NoFreeSlot,
    UnknownAgent,
    WrongInstance,
)
from atomesh.rpc.channel import from_rpc_error
from atomesh.text.v1.text_pb2 import Keyword, TextInput, TextOutput
from atomesh.v1 import agent_pb2

Serving = Callable[..., Any]
AT_ONCE = 0.1  # seconds; the slot of a caller that is gone


class Talker(StreamingAgent[TextInput, Keyword, TextOutput]):
    """`COUNT SIZE`: so many chunks of so many letters, then the output. Or the work that the test gives it."""

    name = "talker"
    slots = 1

    def __init__(self, work: Callable[..., Any] | None = None) -> None:
        self._work = work
        self.made = 0
        self.closed_at = 0.0

    async def stream(self, input: TextInput, context: ExecutionContext, /) -> AsyncIterator[Keyword | TextOutput]:
        try:
            if self._work is not None:
                async with contextlib.aclosing(self._work(input, context)) as items:
                    async for item in items:
                        yield item
                return
            count, _, size = input.content.partition(" ")
            for number in range(int(count)):
                self.made += 1
                yield Keyword(text=str(number).ljust(int(size or 1), "."), count=number)
            yield TextOutput(result=f"{count} chunks")
        finally:
            self.closed_at = SYSTEM_CLOCK.now()


def stream(caller: Any, content: str = "3", timeout: float | None = 10, **more: Any) -> Any:
    request = agent_pb2.ExecuteStreamRequest(request=caller.request(content, **more))
    return caller.stub.ExecuteStream(request, timeout=timeout)


async def parts(call: Any) -> list[Any]:
    """The numbers of the chunks, then the output."""
    found: list[Any] = []
    async for part in call:
        if part.WhichOneof("part") == "chunk":
            found.append(Keyword.FromString(part.chunk.value).count)
        else:
            found.append(TextOutput.FromString(part.response.output.value).result)
    return found


async def parts_read(call: Any) -> list[Any]:
    """As `parts`, of a call that was read from already."""
    found: list[Any] = []
    while (part := await call.read()) is not grpc.aio.EOF:
        if part.WhichOneof("part") == "chunk":
            found.append(Keyword.FromString(part.chunk.value).count)
        else:
            found.append(TextOutput.FromString(part.response.output.value).result)
    return found


async def ends(call: Any) -> tuple[int, AtomeshError]:
    """The chunks that came, and the error after them."""
    chunks = 0
    try:
        async for part in call:
            assert part.WhichOneof("part") == "chunk", "an error comes instead of the output"
            chunks += 1
    except grpc.aio.AioRpcError as error:
        return chunks, from_rpc_error(error)
    raise AssertionError("the stream must end with an error")


def narrow(server: AgentServer) -> grpc.aio.Channel:
    """A connection whose window does not grow, as the mesh's own for streams."""
    options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16 * 1024))
    return grpc.aio.insecure_channel(server.address, options=options)


def in_flight(server: AgentServer) -> int:
    return next(iter(server.agents.values())).admission.in_flight


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> float:
    """The seconds after which it held."""
    begun = SYSTEM_CLOCK.now()
    async with asyncio.timeout(seconds):
        while not condition():
            await SYSTEM_CLOCK.sleep(0.001)
    return SYSTEM_CLOCK.now() - begun


async def still(agent: Talker) -> int:
    """The chunks that it has made, once it makes no more."""
    before = -1
    while agent.made != before:
        before = agent.made
        await SYSTEM_CLOCK.sleep(0.2)
    return before


async def test_chunks_come_in_order_and_then_the_answer_of_execute(serving: Serving) -> None:
    async with serving(Talker()) as (server, caller):
        assert await parts(stream(caller, "500")) == [*range(500), "500 chunks"]
        first, last = [part async for part in stream(caller, "1")]
        assert first.chunk.type_url == "type.googleapis.com/atomesh.text.v1.Keyword"
        assert last.response.output.type_url == "type.googleapis.com/atomesh.text.v1.TextOutput"
        info = last.response.info
        assert (info.agent, info.instance_id, info.endpoint) == ("talker", server.instance_id, server.address)
        assert (info.load.slots, info.load.in_flight) == (1, 0), "this execution is no longer counted"
        assert info.execution_time.ToNanoseconds() > 0


async def test_a_plain_execute_gets_the_output_alone(serving: Serving) -> None:
    async with serving(Talker()) as (_, caller):
        assert await caller.execute("3") == "3 chunks"


async def test_agents_without_chunks_stream_their_output(serving: Serving, echo: Any) -> None:
    class Sync(Agent[TextInput, TextOutput]):
        name = "sync"

        def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
            return TextOutput(result=input.content)

    async with serving([echo(), Sync()]) as (_, caller):
        assert await parts(stream(caller, "hello", agent="echo")) == ["hello"]
        assert await parts(stream(caller, "hello", agent="sync")) == ["hello"]


async def test_what_describe_tells_has_the_type_of_the_chunks(serving: Serving, echo: Any) -> None:
    async with serving([Talker(), echo()]) as (_, caller):
        told = await caller.stub.Describe(agent_pb2.DescribeRequest())
        assert [agent.contract.chunk_type for agent in told.agents] == ["", "atomesh.text.v1.Keyword"]


@pytest.mark.parametrize("size", [1_000, 64_000])
async def test_a_caller_that_does_not_read_stops_the_agent(serving: Serving, size: int) -> None:
    agent = Talker()
    async with serving(agent) as (server, caller):
        call = stream(caller, f"1000000 {size}", timeout=30)
        await call.read()
        # A stock client's window begins at 64 KiB, and grows to some MB on a fast connection.
        assert await still(agent) * size < 10_000_000, "an agent must not work far ahead of its caller"
        assert in_flight(server) == 1
        call.cancel()
        assert await until(lambda: in_flight(server) == 0) < AT_ONCE


@pytest.mark.parametrize("leaves", ["cancels", "stops reading and cancels", "hangs up"])
async def test_a_caller_that_leaves_frees_the_slot_at_once(serving: Serving, leaves: str) -> None:
    agent = Talker()
    async with serving(agent) as (server, caller), grpc.aio.insecure_channel(server.address) as channel:
        call = stream(type(caller)(channel), "100000000 1000", timeout=30)
        await call.read()
        if leaves == "stops reading and cancels":
            await still(agent)  # it is held in the middle of a write
        left = SYSTEM_CLOCK.now()
        if leaves == "hangs up":
            await channel.close()
        else:
            call.cancel()
        await until(lambda: in_flight(server) == 0)
        assert agent.closed_at > left, "its finally must have run"
        assert SYSTEM_CLOCK.now() - left < AT_ONCE
        assert await parts(stream(caller, "2")) == [0, 1, "2 chunks"], "the slot must be good for another"


async def test_a_caller_that_leaves_while_the_agent_thinks_ends_its_thinking(serving: Serving) -> None:
    begun = asyncio.Event()

    async def thinks(*_: Any) -> AsyncIterator[Any]:
        begun.set()
        await asyncio.Event().wait()
        yield TextOutput()

    agent = Talker(thinks)
    async with serving(agent) as (server, caller):
        call = stream(caller)
        await begun.wait()
        call.cancel()
        assert await until(lambda: in_flight(server) == 0) < AT_ONCE
        assert agent.closed_at


REFUSALS: dict[str, tuple[dict[str, Any], type[AtomeshError]]] = {
    "no slot": ({"content": "3", "no_wait": True}, NoFreeSlot),
    "another instance": ({"instance_id": "another-instance"}, WrongInstance),
    "another agent": ({"agent": "nobody"}, UnknownAgent),
    "a bad input": ({"content": ""}, InvalidInput),
}


@pytest.mark.parametrize("why", REFUSALS)
async def test_refusals_come_before_any_chunk_and_unexecuted(serving: Serving, why: str) -> None:
    asked, kind = REFUSALS[why]
    agent = Talker()
    async with serving(agent) as (server, caller):
        full = stream(caller, "1000000 1000", timeout=30) if why == "no slot" else None
        if full is not None:
            await full.read()
        chunks, error = await ends(stream(caller, **asked))
        assert isinstance(error, kind)
        assert (chunks, error.executed) == (0, False)
        assert error.origin.endpoint == (server.address if kind is not UnknownAgent else "")
        if full is not None:
            full.cancel()
            await until(lambda: in_flight(server) == 0)
        else:
            assert agent.made == 0


async def test_a_request_without_a_request_is_refused(serving: Serving) -> None:
    async with serving(Talker()) as (_, caller):
        chunks, error = await ends(caller.stub.ExecuteStream(agent_pb2.ExecuteStreamRequest(), timeout=5))
        assert isinstance(error, InvalidArgument)
        assert (chunks, [v.field for v in error.violations]) == (0, ["request"])


async def test_a_caller_that_may_wait_gets_the_slot_of_one_that_leaves(serving: Serving) -> None:
    async with serving(Talker()) as (_, caller):
        first = stream(caller, "1000000 1000", timeout=30)
        await first.read()
        waiting = asyncio.create_task(parts(stream(caller, "2")))
        await SYSTEM_CLOCK.sleep(0.1)
        first.cancel()
        assert await waiting == [0, 1, "2 chunks"]


async def test_an_error_after_chunks_arrives_whole(serving: Serving) -> None:
    async def fails(*_: Any) -> AsyncIterator[Any]:
        for number in range(3):
            yield Keyword(count=number)
        raise AgentFailed("out of paper", reason="NO_PAPER", details={"tray": 2}, retryable=True)

    async def breaks(*_: Any) -> AsyncIterator[Any]:
        yield Keyword()
        yield Keyword(text="paid for", score=7)

    async with serving(Talker(fails)) as (server, caller):
        chunks, error = await ends(stream(caller))
        assert isinstance(error, AgentFailed)
        assert (chunks, error.reason, error.data, error.executed) == (3, "NO_PAPER", {"tray": 2}, True)
        assert error.origin.endpoint == server.address
    async with serving(Talker(breaks)) as (_, caller):
        chunks, error = await ends(stream(caller))
        assert isinstance(error, InvalidOutput)
        assert (chunks, error.output) == (1, Keyword(text="paid for", score=7))


async def test_the_deadline_ends_it_in_the_middle(serving: Serving) -> None:
    async def slowly(*_: Any) -> AsyncIterator[Any]:
        while True:
            yield Keyword()
            await SYSTEM_CLOCK.sleep(0.05)

    agent = Talker(slowly)
    async with serving(agent, default_timeout=0.4) as (server, caller):
        chunks, error = await ends(stream(caller, timeout=None))
        assert isinstance(error, DeadlineExceeded)
        assert (error.executed, error.origin.endpoint) == (True, server.address)
        assert chunks >= 2
        chunks, error = await ends(stream(caller, timeout=0.3))
        assert isinstance(error, DeadlineExceeded)
        assert await until(lambda: in_flight(server) == 0) < AT_ONCE


async def test_a_reader_that_stops_is_told_of_the_deadline_when_it_goes_on(serving: Serving) -> None:
    agent = Talker()
    async with serving(agent, default_timeout=0.5) as (server, caller):
        call = stream(caller, "1000000 64000", timeout=None)
        await call.read()
        await until(lambda: in_flight(server) == 0)
        assert agent.closed_at, "nobody who stops reading holds a slot for ever"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await parts_read(call)
        error = from_rpc_error(caught.value)
        assert isinstance(error, DeadlineExceeded)
        assert error.origin.endpoint == server.address


async def test_large_chunks_arrive_and_too_large_ones_are_the_agents_fault(serving: Serving) -> None:
    async with serving(Talker()) as (_, caller):
        sizes = [len(part.chunk.value) async for part in stream(caller, "3 4000000")]
        assert min(sizes[:3]) > 4_000_000
        chunks, error = await ends(stream(caller, "3 4194304"))
        assert isinstance(error, AgentCrashed)
        assert chunks == 0
        assert "yield it in several" in error.message


async def test_a_drain_waits_for_a_stream_and_for_its_slow_reader(serving: Serving) -> None:
    agent = Talker()
    async with serving(agent, drain_grace=10) as (server, caller), narrow(server) as channel:
        call = stream(type(caller)(channel), "200 64000", timeout=30)
        await call.read()
        draining = asyncio.create_task(server.drain())
        await until(lambda: server.agents["talker"].admission.draining)
        assert isinstance((await ends(stream(caller)))[1], Draining)
        await SYSTEM_CLOCK.sleep(0.3)
        assert not draining.done(), "what runs is finished"
        assert await parts_read(call) == [*range(1, 200), "200 chunks"]
        await asyncio.wait_for(draining, 5)


async def test_an_output_that_is_not_read_yet_is_not_lost_by_a_drain(serving: Serving) -> None:
    async def large(*_: Any) -> AsyncIterator[Any]:
        yield TextOutput(result="x" * 4_000_000)

    agent = Talker(large)
    async with serving(agent, drain_grace=10) as (server, caller), narrow(server) as channel:
        call = stream(type(caller)(channel), timeout=30)
        await until(lambda: agent.closed_at > 0 and in_flight(server) == 0)
        draining = asyncio.create_task(server.drain())
        await SYSTEM_CLOCK.sleep(0.5)
        assert not draining.done(), "paid work must not be thrown away"
        assert [len(output) for output in await parts(call)] == [4_000_000]
        await asyncio.wait_for(draining, 5)


async def test_a_drain_cuts_off_what_takes_longer_than_its_grace_and_says_so(serving: Serving) -> None:
    async def endless(*_: Any) -> AsyncIterator[Any]:
        while True:
            yield Keyword()
            await SYSTEM_CLOCK.sleep(0.01)

    agent = Talker(endless)
    async with serving(agent, drain_grace=0.3) as (server, caller):
        call = stream(caller, timeout=30)
        ending = asyncio.create_task(ends(call))
        await until(lambda: in_flight(server) == 1)
        await server.drain()
        chunks, error = await ending
        assert isinstance(error, ConnectionLost)
        assert "cut off by a drain after 0.3 s" in error.message
        assert (error.executed, chunks > 5) == (True, True)
        assert agent.closed_at


async def test_no_more_than_slots_stream_at_once(serving: Serving) -> None:
    now, most = 0, 0

    async def work(*_: Any) -> AsyncIterator[Any]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        yield Keyword()
        await SYSTEM_CLOCK.sleep(0.02)
        yield TextOutput()
        now -= 1

    async with serving(Talker(work), slots=3) as (server, caller):
        ended = await asyncio.gather(*(parts(stream(caller)) for _ in range(30)))
        assert len(ended) == 30
        assert most == 3
        assert in_flight(server) == 0


async def test_it_is_counted_as_a_stream_and_as_an_execution(serving: Serving) -> None:
    async with serving(Talker()) as (server, caller):
        await parts(stream(caller, "5"))
        await ends(stream(caller, ""))
        call = stream(caller, "1000000 1000")
        await call.read()
        call.cancel()
        await until(lambda: in_flight(server) == 0)
        method = {
            "grpc_type": "server_stream",
            "grpc_service": "atomesh.v1.AgentService",
            "grpc_method": "ExecuteStream",
        }
        value = server.metrics.get_sample_value
        assert value("grpc_server_started_total", method) == 3
        for code in ("OK", "InvalidArgument", "Cancelled"):
            assert value("grpc_server_handled_total", {**method, "grpc_code": code}) == 1, code
        assert (value("grpc_server_msg_sent_total", method) or 0) >= 7
        for outcome in ("ok", "cancelled"):
            labels = {"agent": "talker", "outcome": outcome}
            assert value("atomesh_agent_executions_total", labels) == 1, outcome
        assert value("atomesh_agent_refusals_total", {"agent": "talker", "reason": "INVALID_INPUT"}) == 1
