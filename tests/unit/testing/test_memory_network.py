"""Links, connections and windows of the memory network, in virtual time; `test_like_grpc.py` compares it with gRPC."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import grpc
import grpc.aio
import pytest

from atomesh.testing.memory import Host, HostLoop, LinkProfile, MemoryNetwork, run_hosts

Code = grpc.StatusCode
State = grpc.ChannelConnectivity


class Pair:
    """A client's channel and a server, 10 ms apart, no jitter."""

    def __init__(self, profile: LinkProfile | None = None, *, seed: int = 1, window: int = 65_536) -> None:
        self.network = MemoryNetwork(random.Random(seed), profile=profile or LinkProfile(0.01, 0.0), window=window)
        self.near, self.far = self.network.host("client"), self.network.host("server")
        self.server = self.far.server()
        self.channel: Any = None
        self.address = f"{self.far.ip}:1"

    async def serve(self, handler: Any) -> Callable[..., Any]:
        """What a stub would have for the one method."""
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", {"Do": handler}),))
        self.server.add_insecure_port(self.address)
        await self.server.start()
        self.channel = self.near.channel(self.address)
        kind = "_".join(
            "stream" if each else "unary" for each in (handler.request_streaming, handler.response_streaming)
        )
        method: Callable[..., Any] = getattr(self.channel, kind)("/t.T/Do", _registered_method=True)
        return method

    async def close(self) -> None:
        await self.channel.close()
        await self.server.stop(None)


def now() -> float:
    return asyncio.get_running_loop().time()


async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)  # noqa: TID251 - virtual


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On a loop that can hold up one host."""
    run_hosts(test())


async def code_of(call: Awaitable[Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


def answering(seconds: float = 0.0) -> Any:
    async def handler(request: bytes, context: Any) -> bytes:
        await sleep(seconds)
        return request

    return grpc.unary_unary_rpc_method_handler(handler)


@pytest.mark.virtual_time
async def test_a_call_takes_a_round_trip_and_the_first_one_a_handshake_more() -> None:
    pair = Pair()
    do = await pair.serve(answering())
    await do(b"")
    assert now() == pytest.approx(0.04), "connecting is a round trip, and so is a call"
    await do(b"")
    assert now() == pytest.approx(0.06)
    await pair.close()


@pytest.mark.virtual_time
async def test_one_stream_keeps_its_order_while_streams_overtake_each_other() -> None:
    async def handler(requests: Any, context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            arrived.append(request)
        yield b""

    arrived: list[bytes] = []
    pair = Pair(LinkProfile(0.01, 3.0))
    do = await pair.serve(grpc.stream_stream_rpc_method_handler(handler))
    calls = [do() for _ in range(4)]
    for number in range(20):
        for name, call in zip("abcd", calls, strict=True):
            await call.write(b"%s%02d" % (name.encode(), number))
    for call in calls:
        await call.done_writing()
        assert await call.read() == b""
    for prefix in (b"a", b"b", b"c", b"d"):
        own = [each for each in arrived if each.startswith(prefix)]
        assert own == sorted(own), "nothing may overtake inside a stream"
    assert [each[1:] for each in arrived] != sorted(each[1:] for each in arrived), "streams must overtake each other"
    await pair.close()


@pytest.mark.virtual_time
async def test_a_sender_stops_at_its_window_and_goes_on_as_it_is_read() -> None:
    written = []

    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(10):
            yield bytes(1000)
            written.append(number)

    pair = Pair(window=2500)
    do = await pair.serve(grpc.unary_stream_rpc_method_handler(handler))
    call = do(b"")
    await sleep(1)
    assert len(written) == 3, "2,500 bytes of credit let three messages of 1,000 go"
    await call.read()
    await sleep(1)
    assert len(written) == 4, "what is read lets as much go"
    assert len([each async for each in _rest(call)]) == 9
    await pair.close()


async def _rest(call: Any) -> AsyncIterator[bytes]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message


@pytest.mark.virtual_time
async def test_a_partition_holds_up_what_is_sent_until_it_heals() -> None:
    pair = Pair()
    do = await pair.serve(answering())
    await do(b"")
    pair.network.block("client", "server")
    call = do(b"late")
    await sleep(3)
    assert not call.done()
    pair.network.heal("client", "server")
    assert await call == b"late"
    assert 3 < now() < 7, "what was cut off for 3 s comes up to 3 s later"
    await pair.close()


@pytest.mark.virtual_time
async def test_one_way_of_a_partition_lets_the_request_through_and_not_the_answer() -> None:
    executed = []

    async def handler(request: bytes, context: Any) -> bytes:
        executed.append(request)
        return request

    pair = Pair()
    do = await pair.serve(grpc.unary_unary_rpc_method_handler(handler))
    await do(b"1")
    pair.network.block("server", "client")
    assert await code_of(do(b"2", timeout=1)) is Code.DEADLINE_EXCEEDED
    assert executed == [b"1", b"2"]
    await pair.close()


@pytest.mark.virtual_time
async def test_a_dead_connection_with_a_call_is_found_out_by_keepalive() -> None:
    pair = Pair()
    do = await pair.serve(answering(100))
    call = do(b"")
    await sleep(1)
    pair.network.block("server", "client")
    assert await code_of(call) is Code.UNAVAILABLE
    assert 14 < now() < 17, "10 s of silence and 5 s for a ping"
    assert pair.channel.get_state() is State.IDLE
    await pair.close()


@pytest.mark.virtual_time
async def test_a_long_call_on_a_good_connection_is_not_cut_by_keepalive() -> None:
    pair = Pair()
    do = await pair.serve(answering(100))
    assert await do(b"x") == b"x"
    await pair.close()


@pytest.mark.virtual_time
async def test_a_reset_connection_fails_its_calls_and_ends_their_handlers() -> None:
    ended: list[float] = []

    async def handler(request: bytes, context: Any) -> bytes:
        try:
            await sleep(10)
        finally:
            ended.append(now())
        return request

    pair = Pair()
    do = await pair.serve(grpc.unary_unary_rpc_method_handler(handler))
    call = do(b"")
    await sleep(1)
    assert pair.network.cut("client", "server") == 1
    assert await code_of(call) is Code.UNAVAILABLE
    await sleep(0.1)
    assert ended == [pytest.approx(1.01)], "each end learns of it a way later"
    assert pair.network.cut("client", "server") == 0
    await pair.close()


@pytest.mark.virtual_time
async def test_a_channel_tries_again_with_growing_pauses_and_finds_who_came_back() -> None:
    pair = Pair()
    do = await pair.serve(answering())
    await do(b"")
    pair.network.kill(pair.far)
    await sleep(0.1)
    states = []
    for _ in range(40):
        states.append(pair.channel.get_state(try_to_connect=True))
        await sleep(0.5)
    assert set(states) == {State.CONNECTING, State.TRANSIENT_FAILURE}
    assert await code_of(do(b"")) is Code.UNAVAILABLE
    await pair.server.stop(None)

    again = pair.network.host("server")
    server = again.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", {"Do": answering()}),))
    server.add_insecure_port(pair.address)
    await server.start()
    began = now()
    await pair.channel.channel_ready()
    assert now() - began < 2.5, "the pause between two attempts is 2 s at most"
    assert await do(b"back") == b"back"
    await pair.channel.close()
    await server.stop(None)


@pytest.mark.virtual_time
async def test_what_waits_for_ready_outlives_a_failure() -> None:
    pair = Pair()
    do = await pair.serve(answering())
    pair.network.block("client", "server")
    waiting = do(b"x", wait_for_ready=True)
    assert await code_of(do(b"y")) is Code.UNAVAILABLE
    assert now() == pytest.approx(1.0), "an attempt to connect is given up after a second"
    pair.network.heal("client", "server")
    assert await waiting == b"x"
    await pair.close()


def test_a_paused_host_stands_still_and_catches_up() -> None:
    async def main() -> None:
        ticks: list[float] = []
        pair = Pair()

        async def tick(host: Host) -> None:
            while True:
                await sleep(1)
                ticks.append(now())

        do = await pair.serve(answering())
        await do(b"")
        ticking = pair.far.spawn(tick(pair.far), "ticks")
        await sleep(2.5)
        pair.network.pause(pair.far)
        call = do(b"meanwhile", timeout=20)
        await sleep(5)
        assert len(ticks) == 2, "no timer of a paused host fires"
        assert not call.done(), "nor does it answer"
        pair.network.resume(pair.far)
        assert await call == b"meanwhile"
        await sleep(0.1)
        assert ticks[2] == pytest.approx(7.54), "a timer that was due fires late, and once"
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        await pair.close()

    run(main)


def test_a_paused_host_is_connected_to_by_its_kernel_and_answers_later() -> None:
    async def main() -> None:
        pair = Pair()
        do = await pair.serve(answering())
        pair.network.pause(pair.far)
        call = do(b"", wait_for_ready=True)
        await sleep(0.5)
        assert pair.channel.get_state() is State.CONNECTING, "accepted, and no word from the process"
        pair.network.resume(pair.far)
        await call
        await pair.close()

    run(main)


def test_a_callback_that_was_cancelled_in_a_pause_does_not_run_after_it() -> None:
    async def main() -> None:
        network = MemoryNetwork(random.Random(1))
        host = network.host("one")
        fired: list[str] = []
        loop = asyncio.get_running_loop()
        first = loop.call_later(1, fired.append, "cancelled", context=host.context)
        loop.call_later(1, fired.append, "kept", context=host.context)
        network.pause(host)
        await sleep(2)
        first.cancel()
        network.resume(host)
        await sleep(0)
        assert fired == ["kept"]

    run(main)


def test_only_a_loop_of_hosts_can_hold_one_up() -> None:
    async def main() -> None:
        network = MemoryNetwork(random.Random(1))
        with pytest.raises(TypeError, match="run_hosts"):
            network.pause(network.host("one"))

    asyncio.run(main())


def test_tasks_of_a_set_are_iterated_in_the_order_of_their_birth_whatever_their_addresses() -> None:
    async def main() -> list[int]:
        tasks = [asyncio.create_task(sleep(0), name=str(number)) for number in range(50)]
        order = [int(task.get_name()) for task in set(tasks)]
        await asyncio.gather(*tasks)
        return order

    assert run_hosts(main()) == run_hosts(main()), "the same program must see the same order"


@pytest.mark.virtual_time
async def test_a_host_has_its_own_address_and_binds_no_other() -> None:
    network = MemoryNetwork(random.Random(1))
    one, other = network.host("one"), network.host("other")
    assert one.ip != other.ip
    server = one.server()
    port = server.add_insecure_port(f"{one.ip}:0")
    assert port > 0
    for taken in (f"{one.ip}:{port}", f"{other.ip}:0"):
        with pytest.raises(RuntimeError):
            one.server().add_insecure_port(taken)


@pytest.mark.virtual_time
async def test_one_seed_gives_the_same_delays_and_another_does_not() -> None:
    async def times(seed: int) -> list[float]:
        pair = Pair(LinkProfile(0.01, 0.5, 0.1, 0.2), seed=seed)
        do = await pair.serve(answering())
        began, found = now(), []
        for _ in range(20):
            await do(b"")
            found.append(round(now() - began, 9))
        await pair.close()
        return found

    first = await times(1)
    assert await times(1) == first
    assert await times(2) != first


def test_a_loop_of_hosts_is_a_loop_in_virtual_time() -> None:
    async def main() -> float:
        assert isinstance(asyncio.get_running_loop(), HostLoop)
        await sleep(3600)
        return now()

    assert run_hosts(main()) == 3600
