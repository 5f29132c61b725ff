"""Clients of a mux that somebody else wrote: the simplest that works, and those that mean harm or know no better."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from atomesh.core import errors
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.contract import pack
from atomesh.text.v1.text_pb2 import TextInput
from atomesh.v1 import agent_pb2, agent_pb2_grpc, mux_pb2
from atomesh.v1.context_pb2 import Context
from atomesh.v1.mux_pb2 import MuxCall, MuxOpen, MuxPart, MuxRequest

Serving = Callable[..., AbstractAsyncContextManager[Any]]

HOLDING = Path(__file__).with_name("holding_client.py")


def one_line(error: errors.AtomeshError) -> str:
    assert error.message
    assert error.message.isprintable(), "one line that a person can read"
    return error.message


async def is_well(here: Any, seconds: float = 0.5) -> None:
    """Another client is served, at worst when what is granted to others has lapsed."""
    other = await here.stranger()
    begun = time.perf_counter()
    await other.call(1, "are you well?")
    await other.until(lambda: other.reply(1) or other.all.rejects, seconds)
    if other.all.rejects:
        await other.until(lambda: other.grants, seconds)
        await other.call(2, "are you well?", granted=True)
        await other.until(lambda: other.reply(2), seconds)
    assert other.result(2 if other.all.rejects else 1) == "are you well?"
    assert time.perf_counter() - begun < seconds
    await other.close()


async def test_a_minimal_client_opens_calls_reads_and_says_that_its_rejects_are_no_demands(serving: Serving) -> None:
    async with serving(slots=1) as here:
        me = await here.stranger(opened=False)
        hold, quick = (me_input for me_input in ("hold", "quick"))
        await me.send(open=MuxOpen(agent="echo"), calls=[MuxCall(id=7, input=_input(hold))])
        await here.agent.begun.acquire()
        await me.call(8, quick)
        await me.until(lambda: list(me.all.rejects) == [8])
        assert me.all.hello.slots == 1
        await me.send(demand=-1)
        here.agent.let_go.set()
        await me.until(lambda: me.reply(7))
        await me.call(9, quick)
        await me.until(lambda: me.reply(9))
        assert (me.result(7), me.result(9)) == ("hold", "quick")
        await SYSTEM_CLOCK.sleep(0.1)
        assert me.grants == 0, "who wants nothing is granted nothing"
        await me.rpc.done_writing()
        assert await me.ending() is None, "a stream that its client closes ends well"
        assert here.admission.taken == 0


def _input(content: str) -> bytes:
    return TextInput(content=content, operation="sentiment").SerializeToString()


async def test_whoever_demands_is_granted_a_slot_and_uses_it(serving: Serving) -> None:
    async with serving(slots=1) as here:
        busy, me = await here.stranger(), await here.stranger()
        await busy.call(1, "hold")
        await here.agent.begun.acquire()
        await me.send(demand=1)
        here.agent.let_go.set()
        await me.until(lambda: me.grants == 1)
        await busy.call(2)
        await busy.until(lambda: busy.all.rejects)
        await me.call(1, granted=True)
        await me.until(lambda: me.reply(1))
        assert me.result(1) == "hello"


@pytest.mark.parametrize(
    ("first", "kind", "says"),
    [
        (MuxRequest(), errors.InvalidArgument, "no `open`"),
        (MuxRequest(calls=[MuxCall(id=1, input=b"")]), errors.InvalidArgument, "no `open`"),
        (MuxRequest(open=MuxOpen(agent="nobody")), errors.UnknownAgent, "nobody"),
        (MuxRequest(open=MuxOpen(agent="evil\n" * 1000)), errors.UnknownAgent, "evil"),
        (MuxRequest(open=MuxOpen(instance_id="another")), errors.WrongInstance, "another"),
        (MuxRequest(open=MuxOpen(input_type="x.Y" * 1000)), errors.WrongType, "x.Y"),
    ],
)
async def test_a_stream_that_means_something_else_is_refused_and_has_run_nothing(
    serving: Serving, first: MuxRequest, kind: type[errors.AtomeshError], says: str
) -> None:
    async with serving() as here:
        me = await here.stranger(opened=False)
        wanted = MuxRequest()
        wanted.CopyFrom(first)
        wanted.calls.add(id=1, input=_input("hello"))
        await me.send(wanted)
        error = await me.ending()
        assert isinstance(error, kind)
        assert says in one_line(error)
        assert error.executed is False, "so that the caller may go elsewhere"
        assert here.admission.executions == 0
        await is_well(here)


async def test_versions_and_features_of_tomorrow_are_answered_with_those_of_today(serving: Serving) -> None:
    async with serving() as here:
        me = await here.stranger(opened=False)
        features: Any = [2, 99, 2**31 - 1]
        await me.send(open=MuxOpen(version=99, features=features), calls=[MuxCall(id=1, input=_input("hi"))])
        await me.until(lambda: me.reply(1))
        assert (me.all.hello.version, list(me.all.hello.features)) == (1, [2])
        assert me.result(1) == "hi"


async def test_what_is_wrong_with_one_call_ends_that_call_alone(serving: Serving) -> None:
    async with serving(slots=20) as here:
        me = await here.stranger()
        await me.call(1, "hold")
        await here.agent.begun.acquire()
        bad_utf8 = Context(request_id="x" * 4).SerializeToString().replace(b"xxxx", b"\xff\xfe\xff\xfe")
        too_long = Context(user_id="u" * 100_000).SerializeToString()
        good = _input("hello")
        await me.send(
            calls=[
                MuxCall(id=2, input=good, context=b"\xff\xff\xff"),
                MuxCall(id=3, input=good, context=too_long),
                MuxCall(id=4, input=good, context=bad_utf8),
                MuxCall(id=5, input=b"\xff\xff\xff"),
                MuxCall(id=6, input=b""),
                MuxCall(id=7, input=good),
                MuxCall(id=8, input=b"x" * 8, more=True, size=5 * 1024 * 1024),
                MuxCall(id=9, input=b"x" * 8, more=True, size=9),
                MuxCall(id=10, input=good, timeout_us=2**64 - 1),
                MuxCall(id=2**64 - 1, input=good),
                MuxCall(id=0, input=good),
                MuxCall(id=11, input=good, request_id=b"r" * 129),
                MuxCall(id=12, input=good, request_id=b"\xff"),
                MuxCall(id=13, input=good, idempotency_key=b"k" * 129),
                MuxCall(id=14, input=good, idempotency_key=b"\xff"),
            ],
            parts=[
                MuxPart(id=9, data=b"x" * 100),
                MuxPart(id=77, data=b"x" * 100),
                MuxPart(id=1, data=b"?", last=True),
            ],
        )
        ids = (2, 3, 4, 5, 6, 7, 8, 9, 10, 2**64 - 1, 0, 11, 12, 13, 14)
        await me.until(lambda: all(me.reply(id) for id in ids))
        for id in (2, 3, 4, 11, 12, 13, 14):
            assert isinstance(me.error(id), errors.InvalidArgument)
            assert "context" in one_line(me.error(id)).lower()
        assert isinstance(me.error(5), errors.WrongType)
        assert isinstance(me.error(6), errors.InvalidInput)
        for id in (8, 9):
            assert isinstance(me.error(id), errors.MessageTooLarge)
        for id in (2, 3, 4, 5, 6, 8, 9, 11, 12, 13, 14):
            one_line(me.error(id))
            assert me.error(id).executed is False
        for id in (7, 10, 2**64 - 1, 0):
            assert me.result(id) == "hello"
        here.agent.let_go.set()
        await me.until(lambda: me.reply(1))
        assert me.result(1) == "hold", "whatever was wrong with others"
        assert here.admission.taken == 0


async def test_an_id_used_twice_is_refused_to_the_second_call_in_words(serving: Serving) -> None:
    async with serving(slots=4) as here:
        me = await here.stranger()
        await me.call(1, "hold")
        await here.agent.begun.acquire()
        await me.call(1, "again")
        await me.until(lambda: me.all.replies)
        error = me.error(1)
        assert isinstance(error, errors.Conflict)
        assert "use every id once" in one_line(error)
        here.agent.let_go.set()
        await me.until(lambda: len(me.all.replies) == 2)
        assert len(here.agent.seen) == 1
        assert here.admission.taken == 0


async def test_a_frame_over_grpcs_limit_ends_its_stream_and_no_other(serving: Serving) -> None:
    async with serving() as here:
        me, other = await here.stranger(), await here.stranger()
        await other.call(1, "hold")
        await here.agent.begun.acquire()
        await me.send(calls=[MuxCall(id=1, input=b"x" * (5 * 1024 * 1024))])
        error = await me.ending()
        assert isinstance(error, errors.MessageTooLarge | errors.RemoteError | errors.NoFreeSlot)
        assert "larger than max" in one_line(error)
        here.agent.let_go.set()
        await other.until(lambda: other.reply(1))
        assert other.result(1) == "hold"
        await is_well(here)


@pytest.mark.parametrize(
    "frame",
    [
        MuxRequest(calls=[MuxCall(id=n) for n in range(500_000)]),
        MuxRequest(cancels=range(1, 1_000_000)),
        MuxRequest(parts=[MuxPart(id=1)] * 500_000),
        MuxRequest(calls=[MuxCall(id=n, more=True) for n in range(35_000)]),
    ],
    ids=["calls", "cancels", "parts", "refusals"],
)
async def test_a_frame_with_a_million_things_in_it_takes_nobodys_time(serving: Serving, frame: MuxRequest) -> None:
    async with serving(slots=2) as here:
        me, other = await here.stranger(), await here.stranger()
        await me.send(frame)
        ended = me.read()
        slowest = 0.0
        for id in range(1, 50):
            begun = time.perf_counter()
            await other.call(id)
            await other.until(lambda id=id: other.reply(id))
            slowest = max(slowest, time.perf_counter() - begun)
        assert slowest < 0.7, "parsing it is gRPC's; what follows is ours"
        error = await ended
        assert isinstance(error, errors.InvalidArgument)
        assert "4096" in one_line(error)
        assert here.admission.taken == 0


@pytest.mark.parametrize("garbage", [b"\xff" * 10, b"\x0a\xff\xff\xff\xff\x0f", b"GET / HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("when", ["first", "later"])
async def test_bytes_that_are_no_frame_end_their_stream_in_words(serving: Serving, garbage: bytes, when: str) -> None:
    async with serving() as here:
        rpc = await here.raw()
        if when == "later":
            await rpc.write(MuxRequest(open=MuxOpen(version=1)).SerializeToString())
            await asyncio.wait_for(rpc.read(), 5)
        await rpc.write(garbage)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(_read_all(rpc), 5)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "frame" in (caught.value.details() or "")
        await is_well(here)


async def _read_all(rpc: Any) -> None:
    while await rpc.read() is not grpc.aio.EOF:
        pass


async def test_a_stream_that_says_nothing_or_ends_at_once_is_nothing(serving: Serving) -> None:
    async with serving() as here:
        for _ in range(5):
            await here.stranger(opened=False)
        ended = await here.stranger(opened=False)
        await ended.rpc.done_writing()
        assert await ended.ending() is None
        await is_well(here)


@pytest.mark.parametrize(
    "frames",
    [
        [MuxRequest(cancels=[0, 1, 5, 2**64 - 1] * 1000)],
        [MuxRequest(demand=2**62), MuxRequest(demand=2**63 - 1), MuxRequest(demand=0)],
        [MuxRequest(demand=-1), MuxRequest(demand=-(2**63))],
        [MuxRequest(returned=10), MuxRequest(returned=3), MuxRequest(returned=2**64 - 1), MuxRequest(returned=0)],
        [MuxRequest(ping=n + 1) for n in range(3000)],
        [MuxRequest(parts=[MuxPart(id=n, data=b"x" * 50_000, last=True) for n in range(10)])] * 20,
        [MuxRequest(open=MuxOpen(agent="another", version=2))] * 3,
        [MuxRequest()] * 3000,
    ],
)
async def test_floods_and_numbers_that_cannot_be_harm_nobody(serving: Serving, frames: list[MuxRequest]) -> None:
    async with serving(slots=2) as here:
        me = await here.stranger()
        for frame in frames:
            await me.send(frame)
        await is_well(here)
        await is_well(here)
        await me.send(ping=77)
        await me.until(lambda: me.all.pong == 77)
        await me.call(900)
        await me.until(lambda: me.reply(900) or me.grants)
        await me.close()
        assert here.admission.taken == 0
        assert here.admission.wanted == 0


async def test_a_flood_of_demands_leaves_others_their_turn(serving: Serving) -> None:
    async with serving(slots=1) as here:
        greedy = await here.stranger()
        await greedy.send(demand=2**62)
        for n in range(12):
            if n % 3 == 0:
                await greedy.send(ping=n + 1)  # it is no longer mute, and its demands are back
            await is_well(here)


# -- who does not read ---------------------------------------------------------------


async def fill(me: Any, content: str, most: int = 2000) -> int:
    """Sends calls and reads nothing, until it is held up; how many that were."""
    padding = [MuxPart(id=0, data=b"x" * 50_000)]
    for n in range(most):
        frame = MuxRequest(calls=[MuxCall(id=n + 1, input=_input(content), timeout_us=300_000)], parts=padding)
        writing = asyncio.create_task(me.rpc.write(frame))
        await asyncio.wait({writing}, timeout=0.5)
        if not writing.done():
            writing.add_done_callback(lambda task: task.cancelled() or task.exception())
            return n
    return most


async def test_a_client_that_sends_and_never_reads_is_held_up_and_harms_nobody(serving: Serving) -> None:
    async with serving(slots=4) as here:
        me = await here.stranger(deaf=True)
        sent = await fill(me, "long 100000")
        assert sent < 1000, "it must be held up: 8 MiB of unread outputs are 84 of these, buffers of gRPC aside"
        for _ in range(3):
            await is_well(here)
        assert here.admission.executions < 1000, "what it cannot be told is not even run"


async def test_the_calls_and_grants_of_a_client_that_does_not_read_end_in_time(
    serving: Serving, until: Any, within: Any
) -> None:
    async with serving(slots=2) as here:
        me = await here.stranger(deaf=True)
        for n in range(60):  # more than its window takes: our writer waits for it, though it is not barred yet
            await me.call(n + 1, "long 100000")
            await until(lambda n=n: here.admission.executions == n + 1)
        await me.send(
            calls=[
                MuxCall(id=100, input=_input("hold"), timeout_us=300_000),
                MuxCall(id=101, input=_input("hold"), timeout_us=400_000),
            ]
        )
        await here.agent.begun.acquire()
        await here.agent.begun.acquire()
        await me.send(demand=5)
        async with stock_client(here) as execute, within(0.3 + 0.25 + 0.3):  # what is granted to it lapses in 250 ms
            response = await execute("stock")
        assert response.output.value
        assert here.agent.cancelled >= 1, "its call must end at its deadline, though it reads nothing"
        await until(lambda: here.admission.in_flight == 0, 2)
        await until(lambda: here.admission.taken == 0, 2)


async def test_a_grant_to_a_client_that_does_not_read_lapses_though_no_other_mux_is_there(
    serving: Serving, until: Any, within: Any
) -> None:
    async with serving(slots=1) as here:
        me = await here.stranger(deaf=True)
        for n in range(60):
            await me.call(n + 1, "long 100000")
            await until(lambda n=n: here.admission.executions == n + 1)
        async with stock_client(here) as execute:
            busy = asyncio.create_task(execute("sleep 0.2"))
            await until(lambda: here.admission.taken == 1)
            await me.send(demand=1)
            await until(lambda: here.admission.wanted == 1)
            await busy
            assert here.admission.taken == 1, "the slot is granted to whoever has waited longest"
            async with within(0.25 + 0.2):
                await execute("stock")


@contextlib.asynccontextmanager
async def stock_client(here: Any) -> AsyncIterator[Callable[[str], Coroutine[Any, Any, Any]]]:
    """A client without a mux, whose calls wait for a slot."""
    async with grpc.aio.insecure_channel(here.address) as channel:
        stub: Any = agent_pb2_grpc.AgentServiceStub(channel)

        async def execute(content: str) -> Any:
            input = pack(TextInput(content=content, operation="sentiment"))
            return await stub.Execute(agent_pb2.ExecuteRequest(input=input), timeout=5)

        yield execute


# -- ends ------------------------------------------------------------------------------


async def test_calls_in_flight_are_answered_after_their_client_closed_its_side(serving: Serving) -> None:
    async with serving(slots=4) as here:
        me = await here.stranger()
        for id in (1, 2, 3):
            await me.call(id, "hold")
            await here.agent.begun.acquire()
        await me.rpc.done_writing()
        await SYSTEM_CLOCK.sleep(0.1)
        here.agent.let_go.set()
        assert await me.ending() is None
        assert [me.result(id) for id in (1, 2, 3)] == ["hold"] * 3


async def test_an_rpc_that_is_cancelled_frees_its_slots(serving: Serving, until: Any) -> None:
    async with serving(slots=2) as here:
        me = await here.stranger()
        for id in (1, 2):
            await me.call(id, "hold")
            await here.agent.begun.acquire()
        await me.cut()
        await until(lambda: here.admission.taken == 0, 0.5)
        assert here.agent.cancelled == 2
        await is_well(here)


@pytest.mark.parametrize("how", ["reads", "does not read"])
async def test_a_client_process_that_is_killed_frees_its_slots_within_100_ms(
    serving: Serving, until: Any, within: Any, how: str
) -> None:
    async with serving(slots=2) as here:
        more = ["hold"] if how == "reads" else ["long 100000", "deaf"]
        client = await asyncio.create_subprocess_exec(
            sys.executable, str(HOLDING), here.address, *more, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert client.stdout is not None
            async with asyncio.timeout(20):
                assert await client.stdout.readline() == b"there\n"
            if how == "reads":
                await here.agent.begun.acquire()
                await here.agent.begun.acquire()
                assert here.admission.taken == 2
            os.kill(client.pid, signal.SIGKILL)
            async with within(0.1):
                await until(lambda: here.admission.taken == 0, 2)
        finally:
            await client.communicate()
        await is_well(here)


async def test_a_half_sent_call_frees_its_slot_when_the_rest_does_not_come(
    serving: Serving, until: Any, within: Any
) -> None:
    async with serving(slots=1) as here:
        me = await here.stranger()
        await me.send(calls=[MuxCall(id=1, input=b"x", more=True, size=100, timeout_us=10_000_000)])
        await until(lambda: here.admission.taken == 1)
        begun = SYSTEM_CLOCK.now()
        async with within(0.5):
            await me.until(lambda: me.reply(1))
        assert SYSTEM_CLOCK.now() - begun > 0.2
        assert isinstance(me.error(1), errors.NoFreeSlot)
        assert me.error(1).executed is False
        assert here.admission.taken == 0


async def test_a_drain_is_told_to_strangers_and_finishes_their_calls(serving: Serving) -> None:
    async with serving(slots=2) as here:
        me = await here.stranger()
        await me.call(1, "hold")
        await here.agent.begun.acquire()
        stopping = asyncio.create_task(here.server.drain())
        await me.until(lambda: me.all.drain)
        await SYSTEM_CLOCK.sleep(0.2)
        await me.call(2)
        await me.until(lambda: me.reply(2))
        assert isinstance(me.error(2), errors.Draining)
        here.agent.let_go.set()
        await me.until(lambda: me.reply(1))
        assert me.result(1) == "hold"
        await stopping


async def test_an_old_stream_is_asked_to_retire_and_still_answers(serving: Serving) -> None:
    async with serving(max_connection_age=1) as here:
        me = await here.stranger()
        await me.until(lambda: me.all.retire, 3)
        await me.call(1)
        await me.until(lambda: me.reply(1))
        assert me.result(1) == "hello"
        old = await here.stranger(features=[mux_pb2.MUX_FEATURE_GRANTS])
        await SYSTEM_CLOCK.sleep(1.2)
        assert not old.all.retire, "who does not know of it is left alone"


async def test_a_server_stops_though_a_client_reads_nothing(serving: Serving) -> None:
    async with serving(slots=4) as here:
        me = await here.stranger(deaf=True)
        await fill(me, "long 100000")
        begun = time.perf_counter()
        await here.server.stop()
        assert time.perf_counter() - begun < 3.0


async def test_agents_of_one_process_have_streams_of_their_own_and_drain_by_themselves(serving: Serving) -> None:
    async with serving(slots=1, names=("echo", "other")) as here:
        nameless = await here.stranger(opened=False)
        await nameless.send(open=MuxOpen(version=1))
        error = await nameless.ending()
        assert isinstance(error, errors.InvalidArgument)
        assert "echo, other" in one_line(error)
        first, second = await here.stranger(agent="echo"), await here.stranger(agent="other")
        await first.call(1, "hold")
        await here.agent.begun.acquire()
        await second.call(1)
        await second.until(lambda: second.reply(1))
        assert second.result(1) == "hello", "each agent has slots of its own"
        here.agent.let_go.set()
        await here.drain("echo")
        await first.until(lambda: first.all.drain)
        await second.call(2)
        await second.until(lambda: second.reply(2))
        assert second.result(2) == "hello"
        assert not second.all.drain


async def test_a_call_that_is_cancelled_in_the_frame_that_brought_it_does_not_run(serving: Serving) -> None:
    async with serving(slots=1) as here:
        me = await here.stranger()
        await me.send(calls=[MuxCall(id=1, input=_input("hold"))], cancels=[1])
        await me.call(2)
        await me.until(lambda: me.reply(2) or me.all.rejects)
        await is_well(here)
        assert here.agent.begun.locked(), "nobody waited for it"
        assert here.admission.taken == 0
