"""A server that listens in memory and runs handlers as grpc.aio's does."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from atomesh.testing.memory.client import CallSettings, MetadataPairs, Status
from atomesh.testing.memory.connection import Connection
from atomesh.testing.memory.servicer import ServerRpc

if TYPE_CHECKING:
    from atomesh.testing.memory.network import Host, MemoryNetwork

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Details:
    """What grpc's generic handlers are asked with."""

    method: str
    invocation_metadata: MetadataPairs


class MemoryServer(grpc.aio.Server):
    """Made by a Host; the rest is grpc.aio's API."""

    def __init__(self, network: MemoryNetwork, host: Host) -> None:
        """Listens nowhere yet."""
        self.network = network
        self.host = host
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._addresses: list[str] = []
        self._connections: dict[Connection, None] = {}
        self._running: dict[ServerRpc, None] = {}
        self._started = self._stopping = False
        self._stopped = asyncio.Event()
        self._idle = asyncio.Event()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """More methods."""
        self._handlers.extend(generic_rpc_handlers)

    def add_insecure_port(self, address: str) -> int:
        """Listens at host:port, port 0 for any free one; the port.

        Raises:
            RuntimeError: it is taken, or not this host's.
        """
        bound = self.network.bind(self, address)
        self._addresses.append(bound)
        return int(bound.rpartition(":")[2])

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """As without TLS: bytes in memory need none."""
        del server_credentials
        return self.add_insecure_port(address)

    async def start(self) -> None:
        """Accepts."""
        self._started = True

    async def stop(self, grace: float | None) -> None:
        """Takes nothing new, cancels what still runs after `grace` seconds, and ends when that has ended."""
        if not self._stopping:
            self._stopping = True
            for address in self._addresses:
                self.network.unbind(self, address)
            for connection in list(self._connections):
                connection.go_away()
            await self._finish_within(grace or 0.0)
            for rpc in list(self._running):
                self._cut(rpc)
            await self._finish_within(None)
            for connection in list(self._connections):
                connection.close_by_server("Socket closed")
            self._stopped.set()
        await self._stopped.wait()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Returns once it has stopped; True where it has not within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._stopped.wait()
        except TimeoutError:
            return True
        return False

    # Called by the network and by connections, in the context of this host.

    @property
    def accepts(self) -> bool:
        """Whether somebody is there who answers."""
        return self._started and not self._stopping

    def accepted(self, connection: Connection) -> None:
        """A new connection."""
        self._connections[connection] = None

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.pop(connection, None)

    def opened(self, connection: Connection, number: int, settings: CallSettings, timeout: float | None) -> None:
        """A call arrives."""
        rpc = ServerRpc(connection, number, settings, timeout)
        connection.running[number] = rpc
        if settings.request is not None:
            rpc.inbox.put(settings.request)
            rpc.inbox.close()
        if self._stopping:
            rpc.finish(Status(grpc.StatusCode.UNAVAILABLE, "the server is shutting down"))
            return
        rpc.handler = self._find(settings)
        if rpc.handler is None:
            rpc.finish(Status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"))
            return
        self._running[rpc] = None
        rpc.task = self.host.spawn(self._serve(rpc), f"serve {settings.method} at {self.host.name}")
        rpc.task.add_done_callback(lambda _: self._served(rpc))

    def _served(self, rpc: ServerRpc) -> None:
        self._running.pop(rpc, None)
        if not self._running:
            self._idle.set()

    def _find(self, settings: CallSettings) -> Any:
        details: Any = _Details(settings.method, settings.metadata)
        for handlers in self._handlers:
            if (handler := handlers.service(details)) is not None:
                return handler
        return None

    async def _serve(self, rpc: ServerRpc) -> None:
        try:
            await self._run(rpc)
        except grpc.aio.AbortError:
            return  # the status is on its way
        except asyncio.CancelledError:
            # grpc.aio lets go of the call then, which its caller hears as a cancellation.
            rpc.finish(Status(grpc.StatusCode.CANCELLED, "CANCELLED"))
        except Exception as error:
            log.exception("unexpected %s in %s", type(error).__name__, rpc.settings.method)
            rpc.finish(Status(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}", rpc.trailing_metadata()))

    async def _run(self, rpc: ServerRpc) -> None:
        handler = rpc.handler
        if handler.request_streaming:
            request: Any = rpc.requests()
        else:
            raw = await rpc.receive()
            if raw is None:
                return
            request = raw if handler.request_deserializer is None else handler.request_deserializer(raw)
        behaviour = next(
            each
            for each in (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
            if each is not None
        )
        answer = behaviour(request, rpc)
        if handler.response_streaming:
            await self._respond(rpc, answer)
        else:
            response = await answer
            if not rpc.ended:
                rpc.push(b"" if rpc.code() else rpc.serialize(response))
        if not rpc.ended:
            rpc.settle()

    async def _respond(self, rpc: ServerRpc, answer: Any) -> None:
        """Handlers of streams are async generators, or coroutines that write."""
        if inspect.isawaitable(answer):
            await answer
            return
        try:
            async for response in answer:
                if rpc.ended:
                    return
                await rpc.write(response)
        finally:
            await answer.aclose()

    def _cut(self, rpc: ServerRpc) -> None:
        """The server stops under it. gRPC answers UNAVAILABLE or CANCELLED, whether or not the handler has begun."""
        code = self.network.rng.choice((grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED))
        rpc.finish(Status(code, "Cancelling all calls"))
        if rpc.task is not None:
            rpc.task.cancel()

    async def _finish_within(self, seconds: float | None) -> None:
        if not self._running:
            return
        self._idle.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return  # what still runs is cut off next
