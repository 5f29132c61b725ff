"""What a caller, the log and the metrics see of a method, however it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import status_pb2

from atomesh.core import errors
from atomesh.core.errors import AtomeshError
from atomesh.rpc.channel import DETAILS_KEY, MAX_MESSAGE_BYTES, PUSHBACK_KEY, from_rpc_error
from atomesh.rpc.server import Server
from atomesh.v1 import agent_pb2, agent_pb2_grpc, registry_pb2, registry_pb2_grpc

ASK = agent_pb2.HealthRequest()


class Does:
    """An agent service whose Health does what a test says."""

    def __init__(self, health: Callable[[Any, Any], Any]) -> None:
        self._health = health

    async def Health(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
        return await self._health(request, context)

    async def Execute(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
        return agent_pb2.ExecuteResponse(output=request.input)

    def __getattr__(self, name: str) -> Any:
        """The methods that no test calls; generated code wants all of them."""
        return self.Execute


def _raises(error: BaseException) -> Does:
    async def health(request: Any, context: Any) -> Any:
        raise error

    return Does(health)


async def _failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value


async def test_an_answer_is_counted_and_timed(serve: Any) -> None:
    async def health(request: Any, context: Any) -> Any:
        return agent_pb2.HealthResponse()

    async with serve(Does(health)) as running:
        for _ in range(3):
            await running.stub.Health(ASK)
        labels = {"grpc_type": "unary", "grpc_service": "atomesh.v1.AgentService", "grpc_method": "Health"}
        assert running.codes("Health") == {"OK": 3}
        for family in ("started_total", "msg_received_total", "msg_sent_total", "handling_seconds_count"):
            assert running.counted(family, **labels) == 3, family


async def test_an_error_of_ours_arrives_whole_with_its_pushback(serve: Any) -> None:
    raised = errors.NoFreeSlot("all 4 slots are taken", retry_after=0.25, origin=errors.Origin(agent="a"))
    async with serve(_raises(raised)) as running:
        failure = await _failure(running.stub.Health(ASK))
        assert await _soon(lambda: running.codes("Health")) == {"ResourceExhausted": 1}
        labels = {"grpc_type": "unary", "grpc_service": "atomesh.v1.AgentService", "grpc_method": "Health"}
        assert running.counted("msg_sent_total", **labels) == 0, "no message was sent"
    assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.details() == "all 4 slots are taken"
    assert dict(failure.trailing_metadata())[PUSHBACK_KEY] == "250"
    arrived = from_rpc_error(failure)
    assert type(arrived) is errors.NoFreeSlot
    assert (arrived.retry_after, arrived.origin.agent, arrived.executed) == (0.25, "a", False)


@pytest.mark.parametrize(
    ("seconds", "pushback"), [(0.0, "1"), (-5.0, "1"), (float("inf"), "2147483647"), (float("nan"), "1")]
)
async def test_any_pushback_is_one_that_grpc_reads(serve: Any, seconds: float, pushback: str) -> None:
    async with serve(_raises(errors.NoFreeSlot("full", retry_after=seconds))) as running:
        failure = await _failure(running.stub.Health(ASK))
    assert dict(failure.trailing_metadata())[PUSHBACK_KEY] == pushback
    assert type(from_rpc_error(failure)) is errors.NoFreeSlot


async def test_an_unexpected_exception_is_in_the_log_and_not_on_the_wire(
    serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(_raises(ValueError("the password is hunter2"))) as running:
        failure = await _failure(running.stub.Health(ASK))
        assert running.codes("Health") == {"Internal": 1}
    assert failure.code() is grpc.StatusCode.INTERNAL
    told = f"{failure.details()} {failure.trailing_metadata()} {failure.debug_error_string()}"
    assert "hunter2" not in told
    assert "Traceback" not in told
    assert "ValueError" not in told
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1]), "the log has the whole of it"


async def test_a_method_may_abort_and_may_set_a_code(serve: Any) -> None:
    async def aborts(request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.DATA_LOSS, "gone")

    async def sets(request: Any, context: Any) -> Any:
        context.set_code(grpc.StatusCode.OUT_OF_RANGE)
        context.set_details("beyond")
        return agent_pb2.HealthResponse()

    for method, code in ((aborts, "DataLoss"), (sets, "OutOfRange")):
        async with serve(Does(method)) as running:
            failure = await _failure(running.stub.Health(ASK))
        assert running.codes("Health") == {code: 1}, "counted by the time the server has stopped; abort answers first"
        assert type(from_rpc_error(failure)) is errors.RemoteError


async def test_a_method_that_is_not_there_is_unimplemented(serve: Any) -> None:
    async with serve(Does(lambda request, context: None)) as running:
        stub: Any = registry_pb2_grpc.RegistryServiceStub(running.channel)
        failure = await _failure(stub.Discover(registry_pb2.DiscoverRequest()))
    assert failure.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_request_that_breaks_rules_is_refused_with_each_field_by_name(serve: Any) -> None:
    async with serve(Does(lambda request, context: None)) as running:
        request = agent_pb2.ExecuteRequest(agent="a" * 65)
        request.context.request_id = "r" * 129
        failure = await _failure(running.stub.Execute(request))
        assert running.codes("Execute") == {"InvalidArgument": 1}
    error = from_rpc_error(failure)
    assert isinstance(error, errors.InvalidArgument)
    assert {broken.field for broken in error.violations} == {"agent", "context.request_id", "input"}
    for field in ("agent", "context.request_id", "input"):
        assert field in error.message


async def test_bytes_that_do_not_parse_are_an_invalid_argument(serve: Any) -> None:
    async with serve(Does(lambda request, context: None)) as running:
        raw = running.channel.unary_unary("/atomesh.v1.AgentService/Execute")
        failure = await _failure(raw(b"\xff\xff\xff"))
        assert running.codes("Execute") == {"InvalidArgument": 1}
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "3 bytes that do not parse" in str(failure.details())


async def test_a_caller_that_leaves_is_counted_and_its_method_cancelled(serve: Any) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hangs(request: Any, context: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serve(Does(hangs)) as running:
        call = running.stub.Health(ASK)
        await begun.wait()
        call.cancel()
        async with asyncio.timeout(5):
            await cancelled.wait()
        assert await _soon(lambda: running.codes("Health")) == {"Cancelled": 1}


async def test_a_deadline_that_passes_is_counted_as_one(serve: Any) -> None:
    async def hangs(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    async with serve(Does(hangs)) as running:
        failure = await _failure(running.stub.Health(ASK, timeout=0.05))
        assert failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await _soon(lambda: running.codes("Health")) == {"DeadlineExceeded": 1}
    assert type(from_rpc_error(failure)) is errors.DeadlineExceeded


async def test_a_message_too_large_is_told_as_such_both_ways(serve: Any) -> None:
    async def grows(request: Any, context: Any) -> Any:
        return agent_pb2.HealthResponse(agents=[agent_pb2.AgentHealth(agent="x" * (MAX_MESSAGE_BYTES + 1))])

    async with serve(Does(grows)) as running:
        unbounded = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(running.server.address, options=unbounded) as channel:
            stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
            large = agent_pb2.ExecuteRequest(input=any_pb2.Any(value=b"x" * MAX_MESSAGE_BYTES))
            received = await _failure(stub.Execute(large))
        ours = await _failure(running.stub.Execute(large))
        sent = await _failure(running.stub.Health(ASK))
    for failure in (received, ours, sent):
        error = from_rpc_error(failure)
        assert type(error) is errors.MessageTooLarge, failure
        assert str(MAX_MESSAGE_BYTES) in error.message
        assert "send less" in error.message


async def test_a_compressed_request_is_refused_before_it_is_unpacked(serve: Any) -> None:
    async with serve(Does(lambda request, context: None)) as running:
        bomb = agent_pb2.ExecuteRequest(input=any_pb2.Any(type_url="x/y", value=b"\0" * 1_000_000))
        failure = await _failure(running.stub.Execute(bomb, compression=grpc.Compression.Gzip))
        assert running.codes("Execute").get("OK") is None
    assert failure.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "gzip" in str(failure.details()).lower()


async def test_a_port_in_use_is_a_conflict_that_says_what_to_do(serve: Any) -> None:
    async with serve(Does(lambda request, context: None)) as running:
        second = Server(bind=running.server.address)
        with pytest.raises(errors.Conflict, match=r"cannot listen on 127\.0\.0\.1:\d+: it is in use.* --bind"):
            await second.start()
        await second.stop()


async def test_an_address_of_another_machine_is_a_conflict() -> None:
    server = Server(bind="[2001:db8::1]:0", credentials=_insecure())
    with pytest.raises(errors.Conflict, match="not an address of this machine"):
        await server.start()
    await server.stop()


def _insecure() -> Any:
    from atomesh.rpc.credentials import Credentials

    return Credentials(insecure=True)


async def test_a_server_that_stopped_lets_go_of_its_port(serve: Any) -> None:
    async with serve(Does(lambda request, context: None)) as running:
        host, port = running.server.address.split(":")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))


async def test_what_runs_is_finished_within_the_grace_and_nothing_new_begins(serve: Any) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def waits(request: Any, context: Any) -> Any:
        begun.set()
        await go_on.wait()
        return agent_pb2.HealthResponse()

    async with serve(Does(waits)) as running:
        call = asyncio.ensure_future(running.stub.Health(ASK))
        await begun.wait()
        stopping = asyncio.create_task(running.server.stop(10))
        await asyncio.sleep(0.05)  # noqa: TID251 # a real server ends in real time
        late = await _failure(running.stub.Health(ASK, timeout=5))
        go_on.set()
        assert await call == agent_pb2.HealthResponse()
        async with asyncio.timeout(5):
            await stopping
    assert late.code() is grpc.StatusCode.UNAVAILABLE


# Streams: Watch of a registry service, so that the generated code makes the handler.


class Streams:
    """A Watch that does what a test says, and tells when it has ended."""

    def __init__(self, watch: Callable[[], AsyncIterator[Any]]) -> None:
        self._watch = watch
        self.ended = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        """The methods that no test calls; generated code wants all of them."""
        return self.Watch

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 # gRPC's name
        try:
            async with contextlib.aclosing(self._watch()) as steps:  # type: ignore[type-var] # generators all
                async for step in steps:
                    yield step
        finally:
            self.ended.set()


@contextlib.asynccontextmanager
async def _streaming(serve: Any, watch: Callable[[], AsyncIterator[Any]]) -> AsyncIterator[tuple[Any, Any, Streams]]:
    servicer = Streams(watch)

    def add(_: Any, server: Server) -> None:
        server.add(registry_pb2_grpc.add_RegistryServiceServicer_to_server, servicer)

    async with serve(add=add) as running:
        stub: Any = registry_pb2_grpc.RegistryServiceStub(running.channel)
        yield running, stub, servicer


async def test_a_stream_is_counted_message_by_message(serve: Any) -> None:
    async def three() -> AsyncIterator[Any]:
        for _ in range(3):
            yield registry_pb2.WatchResponse()

    async with _streaming(serve, three) as (running, stub, _):
        assert len([step async for step in stub.Watch(registry_pb2.WatchRequest())]) == 3
        labels = {"grpc_type": "server_stream", "grpc_service": "atomesh.v1.RegistryService", "grpc_method": "Watch"}
        assert running.counted("msg_sent_total", **labels) == 3
        assert running.codes("Watch") == {"OK": 1}


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (errors.Draining("going"), "Unavailable", errors.Draining),
        (ValueError("secret"), "Internal", errors.AgentCrashed),
    ],
)
async def test_a_stream_that_fails_in_its_middle_says_why(
    serve: Any, error: Exception, code: str, kind: type[AtomeshError]
) -> None:
    async def breaks() -> AsyncIterator[Any]:
        yield registry_pb2.WatchResponse()
        raise error

    async with _streaming(serve, breaks) as (running, stub, _):
        call = stub.Watch(registry_pb2.WatchRequest())
        assert await call.read() == registry_pb2.WatchResponse()
        failure = await _failure(call.read())
        assert running.codes("Watch") == {code: 1}
    arrived = from_rpc_error(failure)
    assert type(arrived) is kind
    assert "secret" not in arrived.message


async def test_a_stream_with_a_bad_request_never_begins(serve: Any) -> None:
    async def never() -> AsyncIterator[Any]:
        raise AssertionError("must not run")
        yield

    async with _streaming(serve, never) as (running, stub, _):
        request = registry_pb2.WatchRequest(selector=registry_pb2.Selector(agent="a" * 65))
        failure = await _failure(stub.Watch(request).read())
        assert running.codes("Watch") == {"InvalidArgument": 1}
    assert "selector.agent" in str(failure.details())


async def test_a_watcher_that_leaves_while_nothing_happens_is_cleaned_up(serve: Any) -> None:
    async def silent() -> AsyncIterator[Any]:
        yield registry_pb2.WatchResponse()
        await asyncio.Event().wait()

    async with _streaming(serve, silent) as (running, stub, servicer):
        call = stub.Watch(registry_pb2.WatchRequest())
        await call.read()
        call.cancel()
        async with asyncio.timeout(5):
            await servicer.ended.wait()
        assert await _soon(lambda: running.codes("Watch")) == {"Cancelled": 1}


async def test_a_watcher_that_leaves_without_having_read_is_cleaned_up(serve: Any) -> None:
    step = registry_pb2.WatchResponse(position=registry_pb2.Position(store_id="x" * 60_000))

    async def floods() -> AsyncIterator[Any]:
        while True:  # until flow control holds it in the middle of a send
            yield step

    async with _streaming(serve, floods) as (running, stub, servicer):
        call = stub.Watch(registry_pb2.WatchRequest())
        await call.read()
        await asyncio.sleep(0.1)  # noqa: TID251 # the window fills in real time
        call.cancel()
        async with asyncio.timeout(5):
            await servicer.ended.wait()
        assert await _soon(lambda: running.codes("Watch")) == {"Cancelled": 1}


async def test_stop_ends_the_streams(serve: Any) -> None:
    async def silent() -> AsyncIterator[Any]:
        yield registry_pb2.WatchResponse()
        await asyncio.Event().wait()

    async with _streaming(serve, silent) as (running, stub, servicer):
        calls = [stub.Watch(registry_pb2.WatchRequest()) for _ in range(3)]
        for call in calls:
            await call.read()
        async with asyncio.timeout(5):
            await running.server.stop(0.1)
        for call in calls:
            await _failure(call.read())
        async with asyncio.timeout(5):
            await servicer.ended.wait()


async def _soon(ask: Callable[[], Any]) -> Any:
    """The answer once there is one: the server hears of a caller's end a moment after the caller."""
    async with asyncio.timeout(5):
        while not (answer := ask()):  # noqa: ASYNC110 # nobody tells
            await asyncio.sleep(0.005)  # noqa: TID251 # a real server ends in real time
    return answer


async def test_details_that_contradict_the_code_do_not_speak_for_it(serve: Any) -> None:
    for raw in (status_pb2.Status(code=0, message="fine").SerializeToString(), b"\xff\xff", b""):

        async def lies(request: Any, context: Any, raw: bytes = raw) -> Any:
            context.set_trailing_metadata(((DETAILS_KEY, raw),))
            context.set_code(grpc.StatusCode.INTERNAL)
            context.set_details("broken")

        async with serve(Does(lies)) as running:
            error = from_rpc_error(await _failure(running.stub.Health(ASK)))
        assert (error.code, error.message) == (13, "broken")
