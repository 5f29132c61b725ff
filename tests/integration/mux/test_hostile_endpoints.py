"""A client of ours, and endpoints that lie, stall, break off or talk nonsense: calls end in time, in words, once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
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
from atomesh.v1 import agent_pb2, mux_pb2
from atomesh.v1.mux_pb2 import MuxHello, MuxPart, MuxReply, MuxRequest, MuxResponse

Text = Callable[..., TextInput]
Until = Callable[..., Awaitable[None]]
ECHO = Contract("echo", TextInput, TextOutput)
OUTPUT = TextOutput(result="mux").SerializeToString()
ALL = (mux_pb2.MUX_FEATURE_PARTS, mux_pb2.MUX_FEATURE_GRANTS, mux_pb2.MUX_FEATURE_RETIRE)


class Peer:
    """The endpoint's side of one stream, as bytes: what is written need not be a frame."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.granted = 0
        self.rejected = 0

    async def read(self) -> MuxRequest | None:
        """The next frame; None where the client has closed its side."""
        raw = await self.context.read()
        return None if raw is grpc.aio.EOF else MuxRequest.FromString(raw)

    async def write(self, frame: MuxResponse | None = None, **fields: Any) -> None:
        frame = frame or MuxResponse(**fields)
        self.granted += frame.grants
        self.rejected += len(frame.rejects)
        await self.context.write(frame.SerializeToString())

    async def hello(self, slots: int = 4) -> None:
        await self.write(
            hello=MuxHello(version=1, features=ALL, slots=slots, output_type="atomesh.text.v1.TextOutput"),
        )


class Endpoint:
    """AgentService whose Mux is a script. Execute answers `unary`."""

    def __init__(self, script: Callable[[Endpoint, Peer], Awaitable[None]] | None) -> None:
        self._script = script
        self.streams = 0
        self.unary = 0
        self.calls: list[Any] = []
        self.demand = 0
        self.returned = 0
        self.frames = 0

    async def frames_of(self, peer: Peer, *, grants: bool = True) -> AsyncIterator[MuxRequest]:
        """The client's frames, noted; what it demands is granted unless told otherwise."""
        while (frame := await peer.read()) is not None:
            self.frames += 1
            self.calls += frame.calls
            if frame.HasField("demand"):
                self.demand = frame.demand
            if frame.HasField("returned"):
                self.returned = frame.returned
            if frame.ping:
                await peer.write(pong=frame.ping)
            yield frame
            waiting = self.demand + peer.rejected - peer.granted
            if grants and waiting > 0:
                await peer.write(grants=waiting)

    async def serve(self, peer: Peer, replies: bool = True) -> None:
        """Answers as it should."""
        async for frame in self.frames_of(peer):
            if replies and frame.calls:
                await peer.write(replies=[MuxReply(id=call.id, output=OUTPUT) for call in frame.calls])

    async def mux(self, requests: Any, context: Any) -> None:
        del requests
        self.streams += 1
        assert self._script is not None
        await self._script(self, Peer(context))

    async def execute(self, request: Any, context: Any) -> Any:
        del request, context
        self.unary += 1
        return agent_pb2.ExecuteResponse(output=pack(TextOutput(result="unary")))

    async def describe(self, request: Any, context: Any) -> Any:
        del request, context
        said = agent_pb2.AgentDescription(name="echo", slots=4, contract=ECHO.descriptor.to_proto())
        return agent_pb2.DescribeResponse(agents=[said])

    def service(self) -> grpc.GenericRpcHandler:
        execute: Any = grpc.unary_unary_rpc_method_handler(
            self.execute, agent_pb2.ExecuteRequest.FromString, agent_pb2.ExecuteResponse.SerializeToString
        )
        describe: Any = grpc.unary_unary_rpc_method_handler(
            self.describe, agent_pb2.DescribeRequest.FromString, agent_pb2.DescribeResponse.SerializeToString
        )
        methods = {"Execute": execute, "Describe": describe}
        if self._script is not None:
            methods["Mux"] = grpc.stream_stream_rpc_method_handler(self.mux)
        return grpc.method_handlers_generic_handler("atomesh.v1.AgentService", methods)


@contextlib.asynccontextmanager
async def calling(
    script: Callable[[Endpoint, Peer], Awaitable[None]] | None, *others: str, **settings: Any
) -> AsyncIterator[tuple[Endpoint, Client]]:
    """An endpoint that does as the script says, and a client of it and of others."""
    endpoint = Endpoint(script)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((endpoint.service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Client(endpoints=[f"127.0.0.1:{port}", *others], **settings) as client:
            yield endpoint, client
    finally:
        await server.stop(None)


def one_line(error: errors.AtomeshError) -> str:
    assert error.message
    assert error.message.isprintable()
    return error.message


async def test_an_honest_script_is_served(text: Text) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        await peer.hello()
        await endpoint.serve(peer)

    async with calling(script) as (endpoint, client):
        for _ in range(20):
            assert (await client.call(ECHO, text())).result == "mux"
        assert (endpoint.streams, endpoint.unary) == (1, 0)


# -- no mux --------------------------------------------------------------------------


async def test_where_there_is_no_mux_calls_are_unary_from_the_first_on_and_nobody_sees_an_error(text: Text) -> None:
    async with calling(None) as (endpoint, client):
        begun = time.perf_counter()
        for _ in range(20):
            reply = await client.execute(ECHO, text())
            assert reply.output.result == "unary"
            assert reply.attempts == ()
        assert time.perf_counter() - begun < 1.0
        assert endpoint.unary == 20


async def test_where_hello_never_comes_calls_go_unary_within_a_second_and_return_to_the_mux_when_it_does(
    text: Text, until: Until
) -> None:
    say_hello = asyncio.Event()

    async def script(endpoint: Endpoint, peer: Peer) -> None:
        await say_hello.wait()
        await peer.hello()
        await endpoint.serve(peer)

    async with calling(script) as (endpoint, client):
        begun = time.perf_counter()
        assert (await client.call(ECHO, text())).result == "unary"
        assert time.perf_counter() - begun < 1.5
        assert (await client.call(ECHO, text())).result == "unary"
        say_hello.set()
        results: list[str] = []

        async def again() -> bool:
            results.append((await client.call(ECHO, text())).result)
            return results[-1] == "mux"

        async with asyncio.timeout(2):
            while not await again():
                await SYSTEM_CLOCK.sleep(0.01)
        assert endpoint.streams == 1, "a stream that is late is not opened again and again"


@pytest.mark.parametrize("how", ["ends at once", "fails at once", "says hello and ends", "garbage", "5 MiB"])
async def test_streams_that_never_hold_are_not_opened_in_a_loop_and_calls_go_on(text: Text, how: str) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        if how == "fails at once":
            await peer.context.abort(grpc.StatusCode.INTERNAL, "a proxy that cannot carry streams")
        if how == "says hello and ends":
            await peer.hello()
        if how == "garbage":
            await peer.context.write(b"\xff\xff\xff\xff")
            await asyncio.Event().wait()
        if how == "5 MiB":
            await peer.context.write(MuxResponse(parts=[MuxPart(data=b"x" * 5 * 1024 * 1024)]).SerializeToString())
            await asyncio.Event().wait()

    async with calling(script) as (endpoint, client):
        ends = {"ok": 0, "failed": 0}
        until = SYSTEM_CLOCK.now() + 2.0
        # Two seconds, and longer on a busy machine: whether unary calls go on is no question of how many a second.
        while (now := SYSTEM_CLOCK.now()) < until or (ends["ok"] <= 10 and ends["failed"] <= 2):
            if now < until:
                streams = endpoint.streams
            try:
                await client.call(ECHO, text(), idempotent=True, timeout=2)
                ends["ok"] += 1
            except errors.AtomeshError as error:
                one_line(error)
                ends["failed"] += 1
            await SYSTEM_CLOCK.sleep(0.02)
        assert streams <= 25, "opened again with a backoff"
        assert ends["ok"] > 10, "unary Execute is there all the while"
        assert ends["failed"] <= ends["ok"] / 5


# -- nonsense in frames ------------------------------------------------------------------


@pytest.mark.parametrize(
    "nonsense",
    [
        MuxResponse(replies=[MuxReply(id=id, output=b"?") for id in (1000, 1001, 2**64 - 1, 0)]),
        MuxResponse(rejects=[77, 78, 2**64 - 1]),
        MuxResponse(parts=[MuxPart(id=1, data=b"x" * 1000), MuxPart(id=5, data=b"x", last=True)]),
        MuxResponse(pong=12345),
        MuxResponse(hello=MuxHello(slots=2**32 - 1, weight=float("nan"))),
        MuxResponse(load=mux_pb2.MuxLoad(in_flight=2**32 - 1, yours=0)),
        MuxResponse(load=mux_pb2.MuxLoad(in_flight=0, yours=2**32 - 1)),
    ],
)
async def test_replies_to_nobody_and_other_nonsense_change_no_calls_end(text: Text, nonsense: MuxResponse) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        await peer.hello()
        await peer.write(nonsense)
        async for frame in endpoint.frames_of(peer):
            for call in frame.calls:
                await peer.write(nonsense)
                await peer.write(replies=[MuxReply(id=call.id, output=OUTPUT)])
                await peer.write(replies=[MuxReply(id=call.id, output=b"\xff")])
                await peer.write(replies=[MuxReply(id=call.id, status=b"\xff")])

    async with calling(script, timeout=3) as (_, client):
        for _ in range(10):
            assert (await client.call(ECHO, text())).result == "mux"


async def test_garbage_in_mid_call_is_told_in_words(text: Text, caplog: pytest.LogCaptureFixture) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        await peer.hello()
        async for frame in endpoint.frames_of(peer):
            if frame.calls:
                await peer.context.write(b"\xff\xff\xff")
                await asyncio.Event().wait()

    async with calling(script) as (_, client):
        with pytest.raises(errors.ConnectionLost) as caught:
            await client.call(ECHO, text(), timeout=5)
        assert "no frame of the mux" in one_line(caught.value)
        assert caught.value.executed is None
        assert not [record for record in caplog.records if record.name.startswith("atomesh") and record.exc_info]


async def test_replies_before_the_call_was_sent_are_not_believed(text: Text) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        early = MuxResponse(
            replies=[MuxReply(id=id, output=TextOutput(result="forged").SerializeToString()) for id in range(50)]
        )
        await peer.write(early)
        await peer.hello()
        await peer.write(early)
        await endpoint.serve(peer)

    async with calling(script) as (_, client):
        for _ in range(10):
            assert (await client.call(ECHO, text())).result == "mux"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (MuxReply(output=b"\xff\xff"), errors.InvalidOutput),
        (MuxReply(status=b"\xff\xff"), errors.RemoteError),
        (MuxReply(status=b"x"), errors.AtomeshError),
        (MuxReply(more=True, size=2**63, output=b"x"), errors.MessageTooLarge),
        (MuxReply(more=True, size=3, output=b"xxxxxx"), errors.MessageTooLarge),
    ],
)
async def test_an_answer_that_is_none_ends_its_call_in_words(
    text: Text, reply: MuxReply, kind: type[errors.AtomeshError]
) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        await peer.hello()
        async for frame in endpoint.frames_of(peer):
            for call in frame.calls:
                reply.id = call.id
                await peer.write(replies=[reply], parts=[MuxPart(id=call.id, data=b"y", last=True)])

    async with calling(script, timeout=3) as (endpoint, client):
        with pytest.raises(kind) as caught:
            await client.call(ECHO, text())
        one_line(caught.value)
        assert len(endpoint.calls) == 1, "it may have run: nothing that is not idempotent runs twice"
        assert endpoint.streams == 1


# -- slots -----------------------------------------------------------------------------------


async def test_grants_that_nobody_demanded_are_given_back(text: Text, until: Until) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        await peer.hello()
        await peer.write(grants=7)
        await endpoint.serve(peer)

    async with calling(script) as (endpoint, client):
        assert (await client.call(ECHO, text())).result == "mux"
        used = sum(call.granted for call in endpoint.calls)
        await until(lambda: endpoint.returned == 7 - used)


@pytest.mark.parametrize("slots", [0, 1, 10_000, 2**32 - 1])
async def test_an_endpoint_may_lie_about_its_slots_and_its_calls_end_all_the_same(text: Text, slots: int) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        # One slot in truth, and every promise of it kept, in whatever order frames cross.
        await peer.hello(slots)
        used = 0
        async for frame in endpoint.frames_of(peer, grants=False):
            answer = MuxResponse()
            for call in frame.calls:
                used += call.granted
                promised = peer.granted - used - endpoint.returned
                if call.granted or not (answer.replies or promised):
                    answer.replies.add(id=call.id, output=OUTPUT)
                else:
                    answer.rejects.append(call.id)
            waiting = endpoint.demand + peer.rejected + len(answer.rejects) - peer.granted
            if waiting > 0 and peer.granted == used + endpoint.returned:
                answer.grants = 1
            await peer.write(answer)

    async with calling(script, timeout=5) as (_, client):
        ends = await asyncio.gather(*(client.call(ECHO, text()) for _ in range(30)), return_exceptions=True)
        assert [end for end in ends if isinstance(end, BaseException)] == []


@pytest.mark.parametrize("how", ["rejects everything", "never grants", "grants and rejects"])
async def test_calls_at_an_endpoint_that_never_runs_any_end_at_their_deadline_and_say_so(text: Text, how: str) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        await peer.hello()
        async for frame in endpoint.frames_of(peer, grants=how == "grants and rejects"):
            if frame.calls and how != "never grants":
                await peer.write(rejects=[call.id for call in frame.calls])

    async with calling(script) as (endpoint, client):
        begun = time.perf_counter()
        ends = await asyncio.gather(*(client.call(ECHO, text(), timeout=1) for _ in range(5)), return_exceptions=True)
        assert 0.9 < time.perf_counter() - begun < 1.5
        for end in ends:
            assert isinstance(end, errors.DeadlineExceeded | errors.NoFreeSlot | errors.QueueFull), repr(end)
            one_line(end)
            if how != "grants and rejects":
                assert end.executed is False, "nobody ran anything"
                assert "slot" in end.message
        if how != "grants and rejects":  # who breaks its promises is asked once per promise, to the last moment
            assert endpoint.frames < 500, "it must not be asked in a busy loop"


async def test_an_endpoint_that_says_nothing_after_its_hello_takes_one_calls_time_and_then_no_others(
    text: Text, serving: Any
) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        await peer.hello(slots=100)
        while (await peer.read()) is not None:
            pass

    async with serving(slots=4) as here, calling(script, here.address) as (_, client):
        await client.call(ECHO, text())
        await SYSTEM_CLOCK.sleep(0.2)
        begun = time.perf_counter()
        waiting = [asyncio.create_task(client.call(ECHO, text(), timeout=4)) for _ in range(40)]
        await SYSTEM_CLOCK.sleep(2.0)
        for _ in range(30):
            assert (await client.call(ECHO, text(), timeout=1)).result == "hello", "a silent mux is not picked"
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert time.perf_counter() - begun < 5
        late = [end for end in ends if isinstance(end, BaseException)]
        assert late, "some were there"
        for error in late:
            assert isinstance(error, errors.DeadlineExceeded)
            assert error.executed is None, "it was sent: nobody knows"
            assert "did not answer in time" in one_line(error)


async def test_waiting_for_an_endpoint_that_hangs_costs_next_to_nothing(text: Text) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        await peer.hello()
        while (await peer.read()) is not None:
            pass

    async with calling(script) as (_, client):
        begun = time.process_time()
        with pytest.raises(errors.DeadlineExceeded):
            await client.call(ECHO, text(), timeout=3)
        assert time.process_time() - begun < 1.0, "no timer may spin meanwhile"


# -- ends ----------------------------------------------------------------------------------


async def test_a_stream_cut_in_mid_call_fails_what_was_sent_as_possibly_executed(text: Text, until: Until) -> None:
    cut = asyncio.Event()

    async def script(endpoint: Endpoint, peer: Peer) -> None:
        await peer.hello()
        if endpoint.streams > 1:
            await endpoint.serve(peer)
            return
        async for _ in endpoint.frames_of(peer):
            if len(endpoint.calls) == 3:
                await cut.wait()
                await peer.context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    async with calling(script) as (endpoint, client):
        sent = [asyncio.create_task(client.call(ECHO, text(), timeout=5)) for _ in range(2)]
        twice = asyncio.create_task(client.call(ECHO, text(), timeout=5, idempotent=True))
        await until(lambda: len(endpoint.calls) == 3)
        cut.set()
        for end in await asyncio.gather(*sent, return_exceptions=True):
            assert isinstance(end, errors.ConnectionLost)
            assert end.executed is None
            assert "cut" in one_line(end)
        assert (await twice).result in ("mux", "unary"), "what may run twice is tried again"
        assert (await client.call(ECHO, text())).result in ("mux", "unary")


async def test_what_was_rejected_by_a_stream_that_then_breaks_goes_elsewhere(text: Text, serving: Any) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        await peer.hello()
        async for frame in endpoint.frames_of(peer):
            if frame.calls:
                await peer.write(rejects=[call.id for call in frame.calls])
                await peer.context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    async with serving(slots=4) as here, calling(script, here.address) as (_, client):
        ends = [(await client.call(ECHO, text(), timeout=3)).result for _ in range(20)]
    # A stream that breaks again and again is given up, and its endpoint asked in a
    # unary way: elsewhere as well, where the other's mux is not there yet.
    assert set(ends) <= {"hello", "unary"}
    assert "hello" in ends


async def test_a_refused_stream_is_no_call_lost(text: Text) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        if endpoint.streams < 3:
            await peer.context.abort(grpc.StatusCode.UNAVAILABLE, "come again")
        await peer.hello()
        await endpoint.serve(peer)

    async with calling(script) as (_, client):
        for _ in range(20):
            assert (await client.call(ECHO, text())).result in ("mux", "unary")


@pytest.mark.parametrize("times", [3])
async def test_a_stream_that_retires_has_its_successor_before_it_ends(text: Text, until: Until, times: int) -> None:
    ended: list[tuple[int, int]] = []

    async def script(endpoint: Endpoint, peer: Peer) -> None:
        number = endpoint.streams
        await peer.hello()
        if number <= times:
            await SYSTEM_CLOCK.sleep(0.6)
            await peer.write(retire=True)
        await endpoint.serve(peer)
        ended.append((number, endpoint.streams))

    async with calling(script) as (endpoint, client):
        for _ in range(300):
            assert (await client.call(ECHO, text())).result == "mux"
            await SYSTEM_CLOCK.sleep(0.01)
        assert endpoint.unary == 0
        assert [number for number, _ in ended] == list(range(1, times + 1))
        assert all(streams > number for number, streams in ended), "the successor was there first"


async def test_an_endpoint_that_retires_every_stream_at_once_is_not_called_in_a_loop(text: Text) -> None:
    async def script(endpoint: Endpoint, peer: Peer) -> None:
        await peer.hello()
        await peer.write(retire=True)
        await endpoint.serve(peer)

    async with calling(script) as (endpoint, client):
        until = SYSTEM_CLOCK.now() + 1.5
        while SYSTEM_CLOCK.now() < until:
            assert (await client.call(ECHO, text())).result in ("mux", "unary")
            await SYSTEM_CLOCK.sleep(0.01)
        assert endpoint.streams <= 25


async def test_nothing_is_lost_over_many_rotations(text: Text, serving: Any) -> None:
    async with serving(slots=8, max_connection_age=1) as here, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(endpoints=[here.address])) for _ in range(6)]
        until = SYSTEM_CLOCK.now() + 4.0
        counts = [0] * len(clients)

        async def load(number: int) -> None:
            while SYSTEM_CLOCK.now() < until:
                content = f"sleep {0.002 * (counts[number] % 20)}"
                assert (await clients[number].call(ECHO, text(content), timeout=5)).result == content
                counts[number] += 1

        await asyncio.gather(*(load(number % 6) for number in range(12)))
        assert min(counts) > 20
        assert here.admission.taken == 0


async def test_a_server_that_stops_with_idle_muxes_stops_at_once(text: Text, serving: Any) -> None:
    async with serving() as here, Client(endpoints=[here.address]) as client:
        server: AgentServer = here.server
        await client.call(ECHO, text())
        begun = time.perf_counter()
        await server.stop()
        assert time.perf_counter() - begun < 1.5
