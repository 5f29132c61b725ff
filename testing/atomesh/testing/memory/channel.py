"""A channel to one address, with gRPC's five states and its reconnect backoff.

As grpc's pick_first does it: IDLE until somebody calls or asks it to connect,
CONNECTING, READY; a lost connection is IDLE again. Where nobody answers,
TRANSIENT_FAILURE, in which calls fail at once and which lasts until a later
attempt succeeds (sticky since gRFC A62). The times are those that
`atomesh.rpc.channel` sets for gRPC.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio

from atomesh.testing.memory.calls import (
    Deserializer,
    Method,
    Serializer,
    StreamStream,
    StreamUnary,
    UnaryStream,
    UnaryUnary,
)
from atomesh.testing.memory.client import ClientRpc
from atomesh.testing.memory.connection import Connection

if TYPE_CHECKING:
    from atomesh.testing.memory.network import Host, MemoryNetwork

State = grpc.ChannelConnectivity

INITIAL_BACKOFF = 0.1
MAX_BACKOFF = 2.0
FACTOR = 1.6
JITTER = 0.2
"""gRPC's connection backoff (doc/connection-backoff.md), with our own bounds."""
CONNECT_TIMEOUT = 1.0
"""`grpc.min_reconnect_backoff_ms`: what an attempt may take at least."""


class MemoryChannel(grpc.aio.Channel):
    """Made by a Host; the rest is grpc.aio's API."""

    def __init__(self, network: MemoryNetwork, host: Host, address: str) -> None:
        """IDLE."""
        self.network = network
        self.host = host
        self.address = address
        self.loop = asyncio.get_running_loop()
        self._state = State.IDLE
        self._connection: Connection | None = None
        self._waiting: list[ClientRpc] = []
        """Calls that wait for a connection."""
        self._calls: dict[ClientRpc, None] = {}
        self._watchers: list[asyncio.Future[None]] = []
        self._attempt = 0
        self._backoff = INITIAL_BACKOFF
        self._earliest = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._trouble = ""
        host.channels[self] = None

    def get_state(self, try_to_connect: bool = False) -> State:
        """The state now; connects where it is IDLE and that is asked for."""
        if try_to_connect and self._state is State.IDLE:
            self._connect()
        return self._state

    async def wait_for_state_change(self, last_observed_state: State) -> None:
        """Returns once the state is another."""
        while self._state is last_observed_state:
            if self._state is State.SHUTDOWN:
                raise grpc.aio.UsageError("Channel is closed.")
            watcher: asyncio.Future[None] = self.loop.create_future()
            self._watchers.append(watcher)
            await watcher

    async def channel_ready(self) -> None:
        """Returns once it is READY."""
        while (state := self.get_state(try_to_connect=True)) is not State.READY:
            await self.wait_for_state_change(state)

    async def close(self, grace: float | None = None) -> None:
        """Cancels what runs after `grace` seconds, and closes."""
        if self._state is State.SHUTDOWN:
            return
        if grace and self._calls:
            ends = [self.loop.create_task(_ended(call)) for call in self._calls]
            await asyncio.wait(ends, timeout=grace)
            for end in ends:
                end.cancel()
        for call in list(self._calls):
            call.cancel()
        self._stop_timer()
        self._attempt += 1
        connection, self._connection = self._connection, None
        self.host.channels.pop(self, None)
        self._become(State.SHUTDOWN)
        if connection is not None:
            connection.close_by_channel("channel closed")

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Closes."""
        await self.close()

    # The four kinds; generated code says `_registered_method`, which only C-core has a use for.

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """One request, one response."""
        return Method(self, UnaryUnary, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """One request, many responses."""
        return Method(self, UnaryStream, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Many requests, one response."""
        return Method(self, StreamUnary, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Many of both."""
        return Method(self, StreamStream, method, request_serializer, response_deserializer)

    # Called by the calls.

    def admit(self, call: ClientRpc) -> None:
        """A call begins: on the connection, when there is one, or not at all."""
        if self._state is State.SHUTDOWN:
            raise grpc.aio.UsageError("Channel is closed.")
        self._calls[call] = None
        if self._connection is not None:
            call.begin(self._connection)
        elif self._state is State.TRANSIENT_FAILURE and not call.settings.wait_for_ready:
            self.loop.call_soon(call.fail, self._trouble, context=self.host.context)
        else:
            self._waiting.append(call)
            self.get_state(try_to_connect=True)

    def discharge(self, call: ClientRpc) -> None:
        """A call has ended."""
        self._calls.pop(call, None)
        if call in self._waiting:
            self._waiting.remove(call)

    # Called by the network.

    def connected(self, attempt: int, connection: Connection) -> None:
        """The server has answered; too late, perhaps."""
        if attempt != self._attempt:
            connection.close_by_channel("given up")
            return
        if connection.lost:  # reset before its answer was here
            self.refused(attempt, "connect: Connection reset by peer (104)")
            return
        self._stop_timer()
        self._connection = connection
        self._backoff = INITIAL_BACKOFF
        self._become(State.READY)
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.begin(connection)

    def refused(self, attempt: int, why: str) -> None:
        """There is nobody, or nobody answers."""
        if attempt != self._attempt:
            return
        self._attempt += 1
        self._trouble = (
            f"failed to connect to all addresses; last error: UNKNOWN: ipv4:{self.address}: "
            f"Failed to connect to remote host: {why}"
        )
        self._become(State.TRANSIENT_FAILURE)
        for call in [call for call in self._waiting if not call.settings.wait_for_ready]:
            call.fail(self._trouble)
        self._stop_timer()
        again = max(self._earliest, self.loop.time())
        self._timer = self.loop.call_at(again, self._connect, context=self.host.context)

    def lost(self, connection: Connection) -> None:
        """The connection is gone."""
        self.went_away(connection)

    def went_away(self, connection: Connection) -> None:
        """The connection takes nothing new."""
        if connection is self._connection:
            self._connection = None
            self._become(State.IDLE)

    def _connect(self) -> None:
        if self._state is State.IDLE:
            self._become(State.CONNECTING)
        self._attempt += 1
        now = self.loop.time()
        rng = self.network.rng
        self._earliest = now + self._backoff * rng.uniform(1 - JITTER, 1 + JITTER)
        allowed = max(CONNECT_TIMEOUT, self._backoff)
        self._backoff = min(MAX_BACKOFF, self._backoff * FACTOR)
        self._stop_timer()
        self._timer = self.loop.call_later(
            allowed, self.refused, self._attempt, "connect: Timeout occurred", context=self.host.context
        )
        self.network.connect(self, self._attempt)

    def _become(self, state: State) -> None:
        self._state = state
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def _ended(call: ClientRpc) -> None:
    await call.ended()
