"""RegistryService over gRPC: requests in, operations through the committer, answers from the ledger."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeAlias, TypeVar

import grpc.aio
from google.protobuf.message import Message

from atomesh.core.clock import Clock
from atomesh.core.endpoint import Load
from atomesh.core.errors import AtomeshError, IncompatibleContract, MessageTooLarge
from atomesh.core.updates import Position, ResetReason
from atomesh.registry import requests, wire
from atomesh.registry.committer import Committer
from atomesh.registry.ledger import Ledger, Snapshot, Step
from atomesh.registry.lessor import fingerprint
from atomesh.registry.metrics import RegistryMetrics
from atomesh.registry.watch import Watcher
from atomesh.rpc.channel import MAX_MESSAGE_BYTES
from atomesh.rpc.credentials import Credentials
from atomesh.v1 import registry_pb2, registry_pb2_grpc

_M = TypeVar("_M", bound=Message)
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class Watches:
    """Wakes those who wait for a watcher's next step, and all of them at the end."""

    def __init__(self) -> None:
        """Nobody waits yet."""
        self._events: dict[Watcher, asyncio.Event] = {}
        self.closed = False

    def join(self, watcher: Watcher) -> asyncio.Event:
        """Set whenever the watcher may have something to tell."""
        event = self._events[watcher] = asyncio.Event()
        return event

    def leave(self, watcher: Watcher) -> None:
        """Nobody waits for this one any more."""
        self._events.pop(watcher, None)

    def wake(self, watchers: Iterable[Watcher]) -> None:
        """These have something to tell."""
        for watcher in watchers:
            if event := self._events.get(watcher):
                event.set()

    def close(self) -> None:
        """All watches end, now and from now on."""
        self.closed = True
        self.wake(list(self._events))


class RegistryService(registry_pb2_grpc.RegistryServiceServicer):
    """The semantics of each method are in registry.proto."""

    def __init__(
        self,
        ledger: Ledger,
        committer: Committer,
        watches: Watches,
        *,
        credentials: Credentials,
        clock: Clock,
        metrics: RegistryMetrics,
    ) -> None:
        """`watches` is what the committer wakes."""
        self._ledger = ledger
        self._committer = committer
        self._watches = watches
        self._credentials = credentials
        self._clock = clock
        self._metrics = metrics
        self._messages = wire.Messages()

    async def Register(self, request: registry_pb2.RegisterRequest, context: _Context) -> registry_pb2.RegisterResponse:  # noqa: N802 # gRPC's name
        """Grants a lease once the registration is durable."""
        self._credentials.check_token(context.invocation_metadata())
        lease_id = self._ledger.new_lease_id()
        operation = requests.registration(request, lease_id, self._ledger.settings, self._clock.wall())
        try:
            revision = await self._committer.submit(operation)
        except IncompatibleContract:
            self._metrics.incompatible.inc()
            raise
        except AtomeshError:
            self._metrics.register_failed.inc()
            raise
        self._metrics.registered.inc()
        return registry_pb2.RegisterResponse(
            lease_id=lease_id, ttl=wire.duration_message(operation.ttl), position=self._position(revision)
        )

    async def Renew(self, request: registry_pb2.RenewRequest, context: _Context) -> registry_pb2.RenewResponse:  # noqa: N802 # gRPC's name
        """Extends leases; the ids themselves are the proof, so no token is asked for."""
        del context
        now, wall = self._clock.now(), self._clock.wall()
        response = registry_pb2.RenewResponse(position=wire.position_message(self._ledger.store.position))
        for renewal in request.renewals:
            load = Load.from_proto(renewal.load) if renewal.HasField("load") else None
            status = self._ledger.renew(fingerprint(renewal.lease_id), load, now, wall)
            self._metrics.renewals[status.name].inc()
            response.statuses.append(registry_pb2.RenewStatus.ValueType(status))
        if self._ledger.recovering():
            self._committer.wake()
        return response

    async def Update(self, request: registry_pb2.UpdateRequest, context: _Context) -> registry_pb2.UpdateResponse:  # noqa: N802 # gRPC's name
        """Acknowledges a change once it is durable."""
        self._credentials.check_token(context.invocation_metadata())
        revision = await self._committer.submit(requests.update(request))
        return registry_pb2.UpdateResponse(position=self._position(revision))

    async def Deregister(  # noqa: N802 # gRPC's name
        self, request: registry_pb2.DeregisterRequest, context: _Context
    ) -> registry_pb2.DeregisterResponse:
        """Acknowledges a removal once it is durable."""
        self._credentials.check_token(context.invocation_metadata())
        revision = await self._committer.submit(requests.deregistration(request))
        self._metrics.removals.inc()
        return registry_pb2.DeregisterResponse(position=self._position(revision))

    async def Discover(self, request: registry_pb2.DiscoverRequest, context: _Context) -> registry_pb2.DiscoverResponse:  # noqa: N802 # gRPC's name
        """The snapshot of what is committed now."""
        del context
        endpoints = self._ledger.discover(requests.selector(request))
        response = registry_pb2.DiscoverResponse(
            endpoints=self._messages.endpoints(endpoints),
            position=wire.position_message(self._ledger.store.position),
            self_preservation=self._ledger.store.self_preservation,
        )
        return _sendable(response)

    async def Watch(  # noqa: N802 # gRPC's name
        self, request: registry_pb2.WatchRequest, context: _Context
    ) -> AsyncIterator[registry_pb2.WatchResponse]:
        """The snapshot or what came since a position, then every change; bookmarks while nothing happens."""
        del context
        watcher = self._ledger.watch(requests.selector(request), requests.resume_position(request))
        awake = self._watches.join(watcher)
        self._metrics.watchers.inc()
        try:
            if not watcher.waiting:
                yield self._step(self._ledger.bookmark())  # resumed, and nothing was missed: say so
            while not self._watches.closed:
                awake.clear()
                while (step := self._ledger.next_step(watcher)) is not None:
                    yield self._step(step)
                if not self._watches.closed and not await self._any_news(awake):
                    yield self._step(self._ledger.bookmark())
        finally:
            self._metrics.watchers.dec()
            self._watches.leave(watcher)
            self._ledger.hub.leave(watcher)

    async def GetContract(  # noqa: N802 # gRPC's name
        self, request: registry_pb2.GetContractRequest, context: _Context
    ) -> registry_pb2.GetContractResponse:
        """A contract in full."""
        del context
        by_hash = request.WhichOneof("which") == "hash"
        contract = self._ledger.contract(request.hash) if by_hash else self._ledger.contract_of(request.agent)
        return registry_pb2.GetContractResponse(contract=contract.to_proto(), hash=contract.hash)

    async def _any_news(self, awake: asyncio.Event) -> bool:
        """Whether the watcher was woken before a bookmark was due."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._ledger.settings.bookmark_interval):
                await awake.wait()
        return awake.is_set()

    def _step(self, step: Step) -> registry_pb2.WatchResponse:
        response = wire.step_message(step, self._ledger.store.store_id, self._messages)
        self._metrics.events[str(response.WhichOneof("event"))].inc()
        if isinstance(step, Snapshot) and step.reset.reason is ResetReason.SLOW_WATCHER:
            self._metrics.slow_watchers.inc()
        return _sendable(response)

    def _position(self, revision: int) -> registry_pb2.Position:
        return wire.position_message(Position(self._ledger.store.store_id, revision))


def _sendable(response: _M) -> _M:
    """The answer, where a receiver takes it.

    Raises:
        MessageTooLarge: it is above gRPC's limit, which would cut the call off with less of an explanation.
    """
    if (size := response.ByteSize()) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"the answer has {size} bytes, above the limit of {MAX_MESSAGE_BYTES}; narrow the selector, such as by agent"
        )
    return response
