"""The memory network does what grpc.aio does: each test runs over both, and nothing in it knows over which."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from atomesh.rpc.network import GRPC_NETWORK, Network
from atomesh.testing.memory import MemoryNetwork

Code = grpc.StatusCode
State = grpc.ChannelConnectivity
MEBIBYTE = bytes(1024 * 1024)


class Pair:
    """A server with handlers, and a channel to it."""

    def __init__(self, near: Network, far: Network, ip: str) -> None:
        self._near = near
        self.server = far.server((("grpc.so_reuseport", 0),))
        self._ip = ip
        self.channel: Any = None
        self.cancelled = asyncio.Event()

    async def serve(self, **handlers: Any) -> Any:
        """Serves `name=handler(...)` as /test.Test/name."""
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
        port = self.server.add_insecure_port(f"{self._ip}:0")
        await self.server.start()
        self.channel = self._near.channel(f"{self._ip}:{port}")
        return self.channel

    @contextlib.contextmanager
    def noting_cancellation(self) -> Any:
        try:
            yield
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def close(self) -> None:
        if self.channel is not None:
            await self.channel.close()
        await self.server.stop(None)


@pytest.fixture(params=["memory", "grpc"])
def open_pair(request: pytest.FixtureRequest) -> Callable[[], Any]:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Pair]:
        if request.param == "grpc":
            pair = Pair(GRPC_NETWORK, GRPC_NETWORK, "127.0.0.1")
        else:
            network = MemoryNetwork(random.Random(1))
            far = network.host("server")
            pair = Pair(network.host("client"), far, far.ip)
        async with asyncio.timeout(20):
            try:
                yield pair
            finally:
                await pair.close()

    return opened


async def _echo(request: bytes, context: Any) -> bytes:
    del context
    return request


async def test_metadata_goes_there_and_trailers_come_back(open_pair: Any) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        sent = dict(context.invocation_metadata())
        context.set_trailing_metadata((("x-back", sent["x-there"]), ("x-bytes-bin", b"\x00\xff")))
        return request

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(handler))
        call = channel.unary_unary("/test.Test/Do")(b"in", metadata=(("x-there", "7"),))
        assert await call == b"in"
        assert await call.code() is Code.OK
        assert ("x-back", "7") in tuple(await call.trailing_metadata())
        assert ("x-bytes-bin", b"\x00\xff") in tuple(await call.trailing_metadata())


async def test_an_abort_arrives_with_code_details_and_trailers(open_pair: Any) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        await context.abort(Code.RESOURCE_EXHAUSTED, "full", (("x-why-bin", b"\x01"),))
        raise AssertionError("abort must raise")

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(handler))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Test/Do")(b"")
        assert caught.value.code() is Code.RESOURCE_EXHAUSTED
        assert caught.value.details() == "full"
        assert ("x-why-bin", b"\x01") in tuple(caught.value.trailing_metadata())


async def test_a_code_that_is_set_ends_the_call_with_it(open_pair: Any) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        context.set_code(Code.NOT_FOUND)
        context.set_details("no such thing")
        context.set_trailing_metadata((("x-t", "1"),))
        return b""

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(handler))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Test/Do")(b"")
        assert (caught.value.code(), caught.value.details()) == (Code.NOT_FOUND, "no such thing")
        assert ("x-t", "1") in tuple(caught.value.trailing_metadata())


async def test_an_abort_from_another_task_answers_at_once_while_the_handler_runs_on(open_pair: Any) -> None:
    done = asyncio.Event()

    async def abort(context: Any) -> None:
        with contextlib.suppress(grpc.aio.AbortError):
            await context.abort(Code.DEADLINE_EXCEEDED, "answered by somebody else")

    async def handler(request: bytes, context: Any) -> bytes:
        await asyncio.create_task(abort(context))
        await done.wait()
        return request

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(handler))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Test/Do")(b"")
        assert caught.value.details() == "answered by somebody else"
        done.set()


async def test_what_a_handler_raises_is_unknown(open_pair: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        raise ValueError("of its own")

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(handler))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Test/Do")(b"")
        assert caught.value.code() is Code.UNKNOWN
        assert "of its own" in str(caught.value.details())


async def test_a_method_that_is_not_there_is_unimplemented(open_pair: Any) -> None:
    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(_echo))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Test/Other")(b"")
        assert caught.value.code() is Code.UNIMPLEMENTED


async def test_the_deadline_ends_the_call_and_cancels_the_handler(open_pair: Any) -> None:
    left: list[float] = []

    async with open_pair() as pair:

        async def handler(request: bytes, context: Any) -> bytes:
            left.append(context.time_remaining())
            with pair.noting_cancellation():
                await asyncio.Event().wait()
            return request

        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(handler))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Test/Do")(b"", timeout=0.2)
        assert caught.value.code() is Code.DEADLINE_EXCEEDED
        await pair.cancelled.wait()
        assert 0 < left[0] <= 0.2


async def test_a_call_without_a_deadline_has_no_time_remaining(open_pair: Any) -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        return repr(context.time_remaining()).encode()

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(handler))
        assert await channel.unary_unary("/test.Test/Do")(b"") == b"None"


async def test_a_cancelled_await_cancels_the_rpc_and_its_handler(open_pair: Any) -> None:
    started = asyncio.Event()
    async with open_pair() as pair:

        async def handler(request: bytes, context: Any) -> bytes:
            started.set()
            with pair.noting_cancellation():
                await asyncio.Event().wait()
            return request

        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(handler))
        call = channel.unary_unary("/test.Test/Do")(b"")

        async def wait() -> bytes:
            return bytes(await call)

        task = asyncio.create_task(wait())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await pair.cancelled.wait()
        assert call.cancelled()
        assert await call.code() is Code.CANCELLED


async def test_closing_the_channel_cancels_what_runs(open_pair: Any) -> None:
    started = asyncio.Event()
    async with open_pair() as pair:

        async def handler(request: bytes, context: Any) -> bytes:
            started.set()
            await asyncio.Event().wait()
            return request

        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(handler))

        async def wait() -> None:
            try:
                await channel.unary_unary("/test.Test/Do")(b"")
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                assert not task.cancelling(), "nobody cancelled the caller"
                return
            raise AssertionError("the call must not go well")

        waiting = asyncio.create_task(wait())
        await started.wait()
        await channel.close()
        await waiting
        assert channel.get_state() is State.SHUTDOWN


async def test_a_stream_of_responses_keeps_its_order_and_ends(open_pair: Any) -> None:
    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(50):
            yield b"%d" % number

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_stream_rpc_method_handler(handler))
        count = channel.unary_stream("/test.Test/Do")
        assert [int(each) async for each in count(b"")] == list(range(50))
        call = count(b"")
        read = [await call.read() for _ in range(50)]
        assert [int(each) for each in read] == list(range(50))
        assert await call.read() is grpc.aio.EOF
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is Code.OK


async def test_an_error_after_some_responses_is_raised_by_the_reader(open_pair: Any) -> None:
    read = asyncio.Event()

    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        await read.wait()
        await context.abort(Code.ABORTED, "in the middle")

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_stream_rpc_method_handler(handler))
        call = channel.unary_stream("/test.Test/Do")(b"")
        assert await call.read() == b"1"
        read.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is Code.ABORTED


async def test_both_sides_talk_at_once_and_each_ends_its_own(open_pair: Any) -> None:
    async def handler(requests: Any, context: Any) -> AsyncIterator[bytes]:
        total = 0
        async for request in requests:
            total += int(request)
            yield b"%d" % total
        yield b"end"

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.stream_stream_rpc_method_handler(handler))
        call = channel.stream_stream("/test.Test/Do")()
        for number, total in ((1, 1), (2, 3), (3, 6)):
            await call.write(b"%d" % number)
            assert int(await call.read()) == total
        await call.done_writing()
        assert await call.read() == b"end"
        assert await call.read() is grpc.aio.EOF
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"4")


async def test_a_handler_may_read_and_write_its_context(open_pair: Any) -> None:
    async def handler(requests: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(request + b"!")

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.stream_stream_rpc_method_handler(handler))
        call = channel.stream_stream("/test.Test/Do")(iter([b"a", b"b"]))
        assert [each async for each in call] == [b"a!", b"b!"]


async def test_many_requests_have_one_response(open_pair: Any) -> None:
    async def handler(requests: Any, context: Any) -> bytes:
        return b",".join([request async for request in requests])

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.stream_unary_rpc_method_handler(handler))
        assert await channel.stream_unary("/test.Test/Do")(iter([b"a", b"b"])) == b"a,b"


async def test_a_server_that_is_not_read_stops_writing(open_pair: Any) -> None:
    written = 0

    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        nonlocal written
        for _ in range(200):
            yield MEBIBYTE
            written += 1

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_stream_rpc_method_handler(handler))
        call = channel.unary_stream("/test.Test/Do")(b"")
        assert await call.read() == MEBIBYTE
        await asyncio.sleep(0.3)  # noqa: TID251 - real gRPC has no virtual time
        assert written < 200, "a slow reader must push back"
        call.cancel()


async def test_a_client_that_is_not_read_stops_writing(open_pair: Any) -> None:
    async with open_pair() as pair:

        async def handler(requests: Any, context: Any) -> AsyncIterator[bytes]:
            yield b"ready"
            with pair.noting_cancellation():
                await asyncio.Event().wait()

        channel = await pair.serve(Do=grpc.stream_stream_rpc_method_handler(handler))
        call = channel.stream_stream("/test.Test/Do")()
        assert await call.read() == b"ready"

        async def write_on() -> None:
            for _ in range(200):
                await call.write(MEBIBYTE)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(write_on(), 0.5)
        await pair.cancelled.wait()
        assert call.cancelled(), "a cancelled write cancels its RPC"


async def test_where_nobody_listens_calls_fail_at_once_and_the_state_says_so(open_pair: Any) -> None:
    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(_echo))
        await pair.server.stop(None)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Test/Do")(b"", timeout=5)
        assert caught.value.code() is Code.UNAVAILABLE
        assert "failed to connect" in str(caught.value.details())
        assert channel.get_state() is State.TRANSIENT_FAILURE


async def test_the_states_of_a_channel(open_pair: Any) -> None:
    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(_echo))
        assert channel.get_state() is State.IDLE
        channel.get_state(try_to_connect=True)
        await channel.channel_ready()
        assert channel.get_state() is State.READY
        await pair.server.stop(None)
        await channel.wait_for_state_change(State.READY)
        assert channel.get_state() is State.IDLE, "a lost connection is idle until somebody wants it"


async def test_a_stopping_server_finishes_what_runs_within_its_grace(open_pair: Any) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        started.set()
        await go_on.wait()
        return request

    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(handler))
        running = channel.unary_unary("/test.Test/Do")(b"before")
        await started.wait()
        stopping = asyncio.create_task(pair.server.stop(5))
        await asyncio.sleep(0.1)  # noqa: TID251 - real gRPC has no virtual time
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Test/Do")(b"after", timeout=5)
        assert caught.value.code() is Code.UNAVAILABLE
        go_on.set()
        assert await running == b"before"
        await stopping


async def test_a_server_that_stops_cuts_off_what_runs(open_pair: Any) -> None:
    started = asyncio.Event()
    async with open_pair() as pair:

        async def handler(request: bytes, context: Any) -> bytes:
            started.set()
            with pair.noting_cancellation():
                await asyncio.Event().wait()
            return request

        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(handler))
        running = channel.unary_unary("/test.Test/Do")(b"")
        await started.wait()
        await pair.server.stop(None)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running
        assert caught.value.code() in (Code.UNAVAILABLE, Code.CANCELLED)
        await pair.cancelled.wait()


async def test_two_servers_cannot_have_one_port(open_pair: Any) -> None:
    async with open_pair() as pair:
        channel = await pair.serve(Do=grpc.unary_unary_rpc_method_handler(_echo))
        assert await channel.unary_unary("/test.Test/Do")(b"x") == b"x"
        with pytest.raises(RuntimeError):
            pair.server.add_insecure_port("127.0.0.1:1" if pair._ip != "127.0.0.1" else "203.0.113.1:1")
