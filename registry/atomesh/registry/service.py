"""RegistryService over gRPC: requests in, operations through the committer, answers from the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from atomesh.core.clock import Clock
from atomesh.core.endpoint import Load
from atomesh.core.errors import AtomeshError, IncompatibleContract, MessageTooLarge
from atomesh.core.updates import Position
from atomesh.registry import requests, wire
from atomesh.registry.committer import Committer
from atomesh.registry.ledger import Ledger
from atomesh.registry.lessor import fingerprint
from atomesh.registry.metrics import RegistryMetrics
from atomesh.registry.warming import Warming
from atomesh.registry.watches import Watches, Write
from atomesh.rpc.channel import MAX_MESSAGE_BYTES
from atomesh.rpc.credentials import Credentials
from atomesh.v1 import registry_pb2, registry_pb2_grpc

_M = TypeVar("_M", bound=Message)
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


def add_registry_service(service: RegistryService, server: Any) -> None:
    """As the generated code does it, but what Watch writes is bytes already: one change goes to many."""
    taker: Any = _WithEncodedWatch(server)  # all that generated code calls of a server
    registry_pb2_grpc.add_RegistryServiceServicer_to_server(service, taker)


class _WithEncodedWatch:
    """Takes handlers as a server does, and Watch's serializer out of them."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Not needed: the registered form follows."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        watch = handlers["Watch"]
        encoded: Any = grpc.unary_stream_rpc_method_handler(watch.unary_stream, watch.request_deserializer, None)
        self._server.add_registered_method_handlers(service, {**handlers, "Watch": encoded})


class RegistryService(registry_pb2_grpc.RegistryServiceServicer):
    """The semantics of each method are in registry.proto."""

    def __init__(
        self,
        ledger: Ledger,
        committer: Committer,
        watches: Watches,
        warming: Warming,
        *,
        credentials: Credentials,
        clock: Clock,
        metrics: RegistryMetrics,
        messages: wire.Messages,
    ) -> None:
        """`watches` is what the committer wakes, `messages` what its encoder uses as well."""
        self._ledger = ledger
        self._committer = committer
        self._watches = watches
        self._warming = warming
        self._credentials = credentials
        self._clock = clock
        self._metrics = metrics
        self._messages = messages

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
            self._metrics.renewals[status].inc()
            response.statuses.append(registry_pb2.RenewStatus.ValueType(status))
        if self._ledger.recovering():
            self._committer.wake()
        self._warming.look()
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
        selector = requests.selector(request)
        await self._warming.wait()
        endpoints = self._ledger.discover(selector)
        response = registry_pb2.DiscoverResponse(
            endpoints=self._messages.endpoints(endpoints),
            position=wire.position_message(self._ledger.store.position),
            self_preservation=self._ledger.self_preservation,
        )
        return _sendable(response)

    async def Watch(self, request: registry_pb2.WatchRequest, context: _Context, write: Write) -> None:  # type: ignore[override] # noqa: N802 # written, not generated
        """See `Watches`; what is written is encoded already."""
        del context
        selector, resume_after = requests.selector(request), requests.resume_position(request)
        await self._warming.wait()
        await self._watches.serve(selector, resume_after, write)

    async def GetContract(  # noqa: N802 # gRPC's name
        self, request: registry_pb2.GetContractRequest, context: _Context
    ) -> registry_pb2.GetContractResponse:
        """A contract in full."""
        del context
        by_hash = request.WhichOneof("which") == "hash"
        contract = self._ledger.contract(request.hash) if by_hash else self._ledger.contract_of(request.agent)
        return registry_pb2.GetContractResponse(contract=contract.to_proto(), hash=contract.hash)

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
