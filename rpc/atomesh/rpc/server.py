"""A gRPC server as the mesh runs them: bound to one address, instrumented, with errors that say what is wrong.

Every handler is wrapped once, when its service is added: it is counted, its
request is checked against the rules in our own protos, and an AtomeshError
that it raises goes out as google.rpc.Status. grpc.aio's interceptors could do
the same, but cost a coroutine per call and layer.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2
from prometheus_client import CollectorRegistry

from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.errors import AgentCrashed, AtomeshError, Conflict, InvalidArgument
from atomesh.core.names import join_address, split_address
from atomesh.core.rules import WIRE_RULES
from atomesh.rpc.channel import LOOKAHEAD_BYTES, MAX_MESSAGE_BYTES
from atomesh.rpc.credentials import PLAINTEXT, Credentials
from atomesh.rpc.endings import end_with
from atomesh.rpc.metrics import GrpcMetrics, MethodSeries
from atomesh.rpc.network import GRPC_NETWORK, Network

log = logging.getLogger(__name__)

Handler = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Any]
Reader = Callable[[Any], Any]

_OPTIONS: tuple[tuple[str, int], ...] = (
    # On by default: two servers would silently share a port.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Identity only: the size limit is checked after decompression, so a small
    # compressed message could cost any amount of memory (grpc issue 43012).
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
    # Our channels ping every 10 s while calls run (see channel.py).
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)


_STOP_SLACK = 5.0
"""Seconds beyond the grace: grpc.aio's stop can hang for good on cancelled
streams (grpc issue 28999). Half may be too short for what is cancelled to end
on a busy machine; twice only delays an end that will not come."""


class Server:
    """A grpc.aio server. Add services, start, stop."""

    def __init__(
        self,
        *,
        bind: str,
        credentials: Credentials = PLAINTEXT,
        metrics: GrpcMetrics | None = None,
        clock: Clock = SYSTEM_CLOCK,
        network: Network = GRPC_NETWORK,
    ) -> None:
        """`bind` is host:port, port 0 for any free one. Nothing is bound before `start`.

        Raises:
            InvalidArgument: no address, or plaintext off loopback.
        """
        self._host, self._port = split_address(bind)
        self._secure = credentials.for_server(bind)
        self._metrics = metrics or GrpcMetrics("server", CollectorRegistry())
        self._clock = clock
        self._server = network.server(_OPTIONS)
        self._check: Callable[[Any], None] | None = None
        self.services: list[str] = []
        """Full names of the services added, in order."""
        self.at_stop: list[Callable[[], None]] = []
        """Called when it stops: ends streams that would not end by themselves and use up the grace."""

    @property
    def address(self) -> str:
        """host:port that it is bound to; the real port once started."""
        return join_address(self._host, self._port)

    def add(
        self,
        add_to_server: Callable[[Any, Any], None],
        servicer: object,
        check: Callable[[Any], None] | None = None,
    ) -> None:
        """Adds a generated service: `add(agent_pb2_grpc.add_AgentServiceServicer_to_server, servicer)`.

        `check` lets a request pass or raises; without one, those of our own
        packages are checked against the rules in their protos.
        """
        self._check = check
        add_to_server(servicer, self)
        self._check = None

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Part of what generated code calls; the registered form below carries the names as well."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds a service by name, each method wrapped."""
        wrapped = {name: self._wrap(service, name, handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))
        self.services.append(service)

    async def start(self) -> None:
        """Binds and serves.

        Raises:
            Conflict: the address is in use or not this machine's.
        """
        wanted = self.address
        try:
            server, secure = self._server, self._secure
            self._port = server.add_secure_port(wanted, secure) if secure else server.add_insecure_port(wanted)
        except RuntimeError:
            raise Conflict(
                f"cannot listen on {wanted}: it is in use, or not an address of this machine; "
                "stop who has it or choose another with --bind"
            ) from None
        await self._server.start()

    async def stop(self, grace: float | None = None) -> None:
        """Takes nothing new, lets what runs finish for `grace` seconds, then cancels it."""
        for end_streams in self.at_stop:
            end_streams()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout((grace or 0) + _STOP_SLACK):
                await self._server.stop(grace)
                return
        log.warning("the gRPC server at %s did not end in time; going on without it", self.address)

    def _wrap(self, service: str, name: str, handler: Any) -> Any:
        kinds = {(False, False): "unary", (False, True): "server_stream"}
        kind = kinds.get((handler.request_streaming, handler.response_streaming), "bidi_stream")
        series = self._metrics.method(kind, service, name)
        check = self._check or (check_request if service.startswith("atomesh.v1.") else None)
        parse, serialize = handler.request_deserializer, handler.response_serializer
        # One request is parsed in the handler: what grpc.aio's own step cannot
        # parse is an UNKNOWN with a Python class in it, and a trace in the log.
        if kind == "unary":
            read = _reader(parse, check)
            return grpc.unary_unary_rpc_method_handler(
                self._unary(handler.unary_unary, series, read, name), None, serialize
            )
        if kind == "server_stream":
            read = _reader(parse, check)
            made = self._written if inspect.iscoroutinefunction(handler.unary_stream) else self._stream
            return grpc.unary_stream_rpc_method_handler(made(handler.unary_stream, series, read, name), None, serialize)
        made = self._written if inspect.iscoroutinefunction(handler.stream_stream) else self._stream
        return grpc.stream_stream_rpc_method_handler(
            made(handler.stream_stream, series, _as_it_is, name), parse, serialize
        )

    def _unary(self, method: Callable[..., Awaitable[Any]], series: MethodSeries, read: Reader, name: str) -> Handler:
        now = self._clock.now

        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            series.unary_began()
            begun = now()
            code = code_pb2.CANCELLED  # unless it ends otherwise
            try:
                response = await method(read(request), context)
                code = _code_of(context) if context.code() else code_pb2.OK
                return response
            except AtomeshError as error:
                code = await end_with(context, error)
            except grpc.aio.AbortError:
                code = _code_of(context)
                raise
            except Exception as error:  # noqa: BLE001 # the last line before the wire: logged there in full
                code = await end_with(context, _crashed(name, error))
            finally:
                if code == code_pb2.CANCELLED:
                    code = _counted(code, context)
                series.unary_ended(code, now() - begun)

        return handle

    def _stream(self, method: Callable[..., Any], series: MethodSeries, read: Reader, name: str) -> Handler:
        now = self._clock.now

        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            series.started.inc()
            series.received.inc()
            begun = now()
            code = code_pb2.CANCELLED
            try:
                async with contextlib.aclosing(method(read(request), context)) as responses:
                    async for response in responses:
                        series.sent.inc()
                        yield response
                code = _code_of(context)
            except AtomeshError as error:
                code = await end_with(context, error)
            except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit):
                raise
            except Exception as error:  # noqa: BLE001 # the last line before the wire: logged there in full
                code = await end_with(context, _crashed(name, error))
            finally:
                series.handled(_counted(code, context), now() - begun)

        return handle

    def _written(
        self, method: Callable[..., Awaitable[None]], series: MethodSeries, read: Reader, name: str
    ) -> Handler:
        """A stream whose method is given `write`: there it hears that its caller left, where a generator is closed later."""
        now = self._clock.now

        async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            series.started.inc()
            series.received.inc()
            begun = now()
            code = code_pb2.CANCELLED  # unless it ends otherwise

            async def write(response: Any) -> None:
                try:
                    await context.write(response)
                except grpc.aio.InternalError:
                    # There is no stream to write to any more; grpc.aio is about to cancel this task for it.
                    await asyncio.get_running_loop().create_future()
                series.sent.inc()

            try:
                await method(read(request), context, write)
                code = _code_of(context)
            except AtomeshError as error:
                code = await end_with(context, error)
            except grpc.aio.AbortError:
                code = _code_of(context)
                raise
            except Exception as error:  # noqa: BLE001 # the last line before the wire: logged there in full
                code = await end_with(context, _crashed(name, error))
            finally:
                series.handled(_counted(code, context), now() - begun)

        return handle


def check_request(request: Message) -> None:
    """Lets a request of our own protos pass.

    Raises:
        InvalidArgument: it breaks a rule; the fields are named.
    """
    if violations := WIRE_RULES.check(request):
        raise InvalidArgument(violations=violations)


def _reader(parse: Callable[[bytes], Any] | None, check: Callable[[Any], None] | None) -> Reader:
    """Bytes to a request; a method without a parser of its own gets the bytes."""
    if parse is None:
        return _as_it_is

    def read(raw: bytes) -> Any:
        try:
            request = parse(raw)
        except DecodeError:
            raise InvalidArgument(f"{len(raw)} bytes that do not parse as the request; check the sender") from None
        if check is not None:
            check(request)
        return request

    return read


def _as_it_is(request: Any) -> Any:
    return request


def _crashed(name: str, error: Exception) -> AtomeshError:
    """What the caller is told of an unexpected exception: no more than that it is in the log."""
    log.error("%s failed unexpectedly", name, exc_info=error)
    return AgentCrashed(f"{name} failed unexpectedly; the server's log has the reason")


def _counted(code: int, context: grpc.aio.ServicerContext[Any, Any]) -> int:
    """The code to count: grpc.aio cancels a handler at its deadline as it does when the caller leaves."""
    if code != code_pb2.CANCELLED:
        return code
    remaining = context.time_remaining()
    return code_pb2.DEADLINE_EXCEEDED if remaining is not None and remaining <= 0 else code


def _code_of(context: grpc.aio.ServicerContext[Any, Any]) -> int:
    code: Any = context.code()
    return int(code.value[0]) if isinstance(code, grpc.StatusCode) else int(code or 0)
