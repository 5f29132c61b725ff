"""The registry as its clients see it: ask, and follow. `registrar.py` stays registered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc.aio

from atomesh.core.backoff import Backoff
from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import Endpoint, Load, State
from atomesh.core.errors import AtomeshError, ConnectionLost, DeadlineExceeded, RegistryUnavailable, RemoteError
from atomesh.core.selector import Selector
from atomesh.core.times import from_duration, to_duration
from atomesh.core.updates import (
    Added,
    Changed,
    Position,
    Removed,
    RemovedReason,
    Reset,
    ResetReason,
    Update,
    WatchEvent,
)
from atomesh.rpc.channel import cause_of, from_rpc_error
from atomesh.rpc.credentials import PLAINTEXT, Credentials
from atomesh.rpc.network import GRPC_NETWORK, Network
from atomesh.v1 import agent_pb2, registry_pb2, registry_pb2_grpc

log = logging.getLogger(__name__)
_E = TypeVar("_E", bound=IntEnum)

DEFAULT_ADDRESS = "127.0.0.1:7400"

MOST_RENEWALS = 1000
"""Leases in one request, the limit in registry.proto."""

CALL_TIMEOUT = 5.0
"""Seconds for one answer. A registry that takes longer is as good as gone, and
everybody can go on without one; half would give up on a slow disk's commit."""

WATCH_SILENCE = 20.0
"""Seconds without any message after which a watch is begun again. The registry
sends a bookmark every 5 s, so three may be late before that."""

RECONNECT = Backoff(base=0.1, cap=2.0)
"""The registry is back within a lease's ttl or nobody knows: 2 s keeps the
recovery of a fleet under a third of the default ttl of 15 s."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What the registry granted."""

    lease_id: str = field(repr=False)  # whoever has it can change the endpoint
    ttl: float
    position: Position


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The answer of Discover."""

    endpoints: tuple[Endpoint, ...]
    position: Position
    self_preservation: bool


class RegistryClient:
    """The calls of RegistryService over one long-lived channel, in the mesh's own words.

    Raises, from every call: RegistryUnavailable where it cannot be reached,
    and the registry's own errors.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        credentials: Credentials = PLAINTEXT,
        *,
        network: Network = GRPC_NETWORK,
    ) -> None:
        """Opens a channel that connects when first used."""
        self.address = address
        self._metadata = credentials.metadata()
        self._channel = network.channel(address, credentials)
        # types-grpcio has one stub class for both worlds; the aio one is typed Any here.
        self._stub: Any = registry_pb2_grpc.RegistryServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the channel."""
        await self.close()

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()

    async def register(
        self, endpoint: Endpoint, contract: ContractDescriptor, *, ttl: float | None = None
    ) -> Registration:
        """Registers an endpoint; `ttl` in seconds, None for the registry's default."""
        request = registry_pb2.RegisterRequest(spec=endpoint.to_spec(), contract=contract.to_proto())
        if ttl is not None:
            request.ttl.CopyFrom(to_duration(ttl))
        answer = await self._ask(self._stub.Register(request, timeout=CALL_TIMEOUT, metadata=self._metadata))
        return Registration(answer.lease_id, from_duration(answer.ttl), _position(answer.position))

    async def renew(self, leases: Sequence[tuple[str, Load | None]]) -> list[int]:
        """A RenewStatus for each lease, in order; more than a request holds go in several."""
        statuses: list[int] = []
        for first in range(0, len(leases), MOST_RENEWALS):
            batch = leases[first : first + MOST_RENEWALS]
            renewals = [
                registry_pb2.Renewal(lease_id=lease, load=load.to_proto() if load else None) for lease, load in batch
            ]
            request = registry_pb2.RenewRequest(renewals=renewals)
            answer = await self._ask(self._stub.Renew(request, timeout=CALL_TIMEOUT))
            if len(answer.statuses) != len(batch):
                raise RegistryUnavailable(
                    f"{self.address} answered {len(batch)} renewals with {len(answer.statuses)} statuses; "
                    "it does not speak atomesh.v1"
                )
            statuses += answer.statuses
        return statuses

    async def update(self, lease_id: str, *, state: State | None = None, slots: int | None = None) -> Position:
        """Changes what is given; the position in which that became visible."""
        request = registry_pb2.UpdateRequest(lease_id=lease_id, slots=slots)
        if state is not None:
            request.state = agent_pb2.ServingState.ValueType(state)
        answer = await self._ask(self._stub.Update(request, timeout=CALL_TIMEOUT, metadata=self._metadata))
        return _position(answer.position)

    async def deregister(self, lease_id: str) -> Position:
        """Removes the endpoint; the position in which it was gone."""
        request = registry_pb2.DeregisterRequest(lease_id=lease_id)
        answer = await self._ask(self._stub.Deregister(request, timeout=CALL_TIMEOUT, metadata=self._metadata))
        return _position(answer.position)

    async def discover(self, selector: Selector | None = None) -> Snapshot:
        """The endpoints that match, those that serve where the selector names no states."""
        request = registry_pb2.DiscoverRequest(selector=(selector or Selector()).to_proto())
        answer = await self._ask(self._stub.Discover(request, timeout=CALL_TIMEOUT))
        endpoints = tuple(Endpoint.from_proto(endpoint) for endpoint in answer.endpoints)
        return Snapshot(endpoints, _position(answer.position), answer.self_preservation)

    async def get_contract(self, *, agent: str = "", contract_hash: str = "") -> ContractDescriptor:
        """A contract by its hash, or that of an agent with live endpoints."""
        which = {"hash": contract_hash} if contract_hash else {"agent": agent}
        request = registry_pb2.GetContractRequest(**which)
        answer = await self._ask(self._stub.GetContract(request, timeout=CALL_TIMEOUT))
        return ContractDescriptor.from_proto(answer.contract)

    async def watch_once(self, selector: Selector, after: Position | None = None) -> AsyncGenerator[WatchEvent, None]:
        """One watch, until it breaks: the registry's error is raised then.

        Silence of WATCH_SILENCE seconds breaks it too: a connection can be
        half open for many minutes before TCP says so.
        """
        request = registry_pb2.WatchRequest(selector=selector.to_proto())
        if after is not None:
            request.resume_after.store_id, request.resume_after.revision = after.store_id, after.revision
        stream = self._stub.Watch(request)
        parts: list[Endpoint] = []  # of a Reset that is still to come whole
        try:
            while True:
                async with asyncio.timeout(WATCH_SILENCE):
                    response = await self._ask(stream.read())
                if response is grpc.aio.EOF:
                    return
                if response.WhichOneof("event") == "reset" and response.reset.more:
                    parts += map(Endpoint.from_proto, response.reset.endpoints)
                    continue
                for event in _events(response, parts):
                    yield event
                parts.clear()
        except TimeoutError:
            raise RegistryUnavailable(f"registry {self.address}: nothing heard for {WATCH_SILENCE:g} s") from None
        finally:
            stream.cancel()

    async def _ask(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except grpc.aio.AioRpcError as raw:
            raise self._explain(from_rpc_error(raw)) from None

    def _explain(self, error: AtomeshError) -> AtomeshError:
        """Says in one line what is wrong with a registry that does not answer as one."""
        if isinstance(error, ConnectionLost) and cause_of(error.message):
            return RegistryUnavailable(f"registry {self.address}: {error.message}")
        if isinstance(error, ConnectionLost | DeadlineExceeded):
            return RegistryUnavailable(
                f"no registry answers at {self.address} ({error.message}); start one with `atomesh registry`, "
                "or name another with --registry"
            )
        if isinstance(error, RemoteError) and error.reason == "UNIMPLEMENTED":
            return RegistryUnavailable(f"{self.address} is not a registry; name one with --registry")
        return error


async def follow(
    client: RegistryClient,
    selector: Selector,
    *,
    clock: Clock = SYSTEM_CLOCK,
    rng: random.Random | None = None,
    lost: Callable[[AtomeshError], None] = lambda _: None,
) -> AsyncGenerator[WatchEvent, None]:
    """A watch that never ends: it resumes where it broke, for as long as it takes; `lost` is told each time why."""
    rng = rng or random.Random()
    position: Position | None = None
    failures = 0
    while True:
        try:
            async with contextlib.aclosing(client.watch_once(selector, position)) as events:
                async for event in events:
                    if failures:
                        log.info("registry %s is back", client.address)
                    failures = 0
                    position = event.position
                    yield event
        except AtomeshError as error:
            lost(error)
            if not failures:
                log.warning("lost the registry's watch, going on with what is known: %s", error)
        failures += 1
        await clock.sleep(RECONNECT.delay(failures, rng))


def _position(proto: registry_pb2.Position) -> Position:
    return Position(proto.store_id, proto.revision)


def _events(response: registry_pb2.WatchResponse, before: Sequence[Endpoint]) -> Iterator[WatchEvent]:
    """One for each revision that a message tells of; `before` is what earlier parts of the same Reset had."""
    position = _position(response.position)
    if response.WhichOneof("event") != "backlog":
        yield WatchEvent(_updates(response, before), position)
        return
    for revision in response.backlog.revisions:
        yield WatchEvent(_changes(revision.changes), Position(position.store_id, revision.revision))


def _updates(response: registry_pb2.WatchResponse, before: Sequence[Endpoint]) -> tuple[Update, ...]:
    """What a newer registry says beyond our words is left out; the position moves on all the same."""
    kind = response.WhichOneof("event")
    if kind == "reset":
        endpoints = (*before, *map(Endpoint.from_proto, response.reset.endpoints))
        return (Reset(endpoints, _known(ResetReason, response.reset.reason)),)
    return _changes(response.changes.changes) if kind == "changes" else ()


def _changes(changes: Iterable[registry_pb2.Change]) -> tuple[Update, ...]:
    return tuple(update for change in changes if (update := _change(change)) is not None)


def _change(change: registry_pb2.Change) -> Update | None:
    kind = change.WhichOneof("kind")
    if kind == "removed":
        gone = change.removed
        return Removed(gone.agent, gone.address, gone.instance_id, _known(RemovedReason, gone.reason))
    if kind == "added":
        return Added(Endpoint.from_proto(change.added))
    return Changed(Endpoint.from_proto(change.changed)) if kind == "changed" else None


def _known(kind: type[_E], number: int) -> _E:
    return kind(number) if number in kind._value2member_map_ else kind(0)
