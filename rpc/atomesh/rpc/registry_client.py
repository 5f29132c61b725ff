"""The registry as its clients see it: ask, follow, and stay registered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Collection, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol, Self

import grpc.aio

from atomesh.core.backoff import Backoff
from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import Endpoint, Load, State
from atomesh.core.errors import AtomeshError, ConnectionLost, DeadlineExceeded, RegistryUnavailable, RemoteError
from atomesh.core.selector import Selector
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
from atomesh.rpc.channel import from_rpc_error, open_channel
from atomesh.rpc.credentials import PLAINTEXT, Credentials
from atomesh.v1 import agent_pb2, registry_pb2, registry_pb2_grpc

log = logging.getLogger(__name__)

DEFAULT_ADDRESS = "127.0.0.1:7400"

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

    lease_id: str
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

    def __init__(self, address: str = DEFAULT_ADDRESS, credentials: Credentials = PLAINTEXT) -> None:
        """Opens a channel that connects when first used."""
        self.address = address
        self._metadata = credentials.metadata()
        self._channel = open_channel(address, credentials)
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
            request.ttl.FromNanoseconds(int(ttl * 1e9))
        answer = await self._ask(self._stub.Register(request, timeout=CALL_TIMEOUT, metadata=self._metadata))
        granted = answer.ttl.seconds + answer.ttl.nanos / 1e9
        return Registration(answer.lease_id, granted, _position(answer.position))

    async def renew(self, leases: Sequence[tuple[str, Load | None]]) -> list[int]:
        """A RenewStatus for each lease, in order; at most 1,000."""
        request = registry_pb2.RenewRequest(
            renewals=[
                registry_pb2.Renewal(lease_id=lease, load=load.to_proto() if load else None) for lease, load in leases
            ]
        )
        return list((await self._ask(self._stub.Renew(request, timeout=CALL_TIMEOUT))).statuses)

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
        try:
            while True:
                async with asyncio.timeout(WATCH_SILENCE):
                    response = await self._ask(stream.read())
                if response is grpc.aio.EOF:
                    return
                yield WatchEvent(_updates(response), _position(response.position))
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
        if isinstance(error, ConnectionLost | DeadlineExceeded):
            return RegistryUnavailable(
                f"no registry answers at {self.address} ({error.message}); start one with `atomesh registry`, "
                "or name another with --registry"
            )
        if isinstance(error, RemoteError) and error.reason == "UNIMPLEMENTED":
            return RegistryUnavailable(f"{self.address} is not a registry; name one with --registry")
        return error


async def follow(
    client: RegistryClient, selector: Selector, *, clock: Clock = SYSTEM_CLOCK, rng: random.Random | None = None
) -> AsyncGenerator[WatchEvent, None]:
    """A watch that never ends: it resumes where it broke, for as long as it takes."""
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
            if not failures:
                log.warning("lost the registry's watch, going on with what is known: %s", error)
        failures += 1
        await clock.sleep(RECONNECT.delay(failures, rng))


class LoadSource(Protocol):
    """Called for an endpoint's load at each renewal."""

    def __call__(self) -> Load: ...


@dataclass(slots=True, eq=False)
class _Entry:
    endpoint: Endpoint
    contract: ContractDescriptor
    load: LoadSource | None
    lease: Registration | None = None
    superseded: bool = False
    refusal: str = ""


class Registrar:
    """Keeps the endpoints of one process registered, whatever happens to the registry.

    `ready` is set once all are registered for the first time. A lease that the
    registry no longer knows is registered again; one that was SUPERSEDED is
    given up, and `superseded` is set: another process has the address.
    """

    def __init__(
        self,
        client: RegistryClient,
        *,
        ttl: float | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        """`ttl` in seconds, None for the registry's default."""
        self._client = client
        self._ttl = ttl
        self._clock = clock
        self._rng = rng or random.Random()
        self._entries: list[_Entry] = []
        self.ready = asyncio.Event()
        self.superseded = asyncio.Event()

    def add(self, endpoint: Endpoint, contract: ContractDescriptor, load: LoadSource | None = None) -> None:
        """An endpoint to keep registered; before `run`."""
        self._entries.append(_Entry(endpoint, contract, load))

    async def run(self) -> None:
        """Registers and renews until cancelled."""
        failures = 0
        while True:
            try:
                complete = await self._register_missing()
                await self._renew()
                failures = 0 if complete else failures + 1
                pause = self._pause(failures)
            except AtomeshError as error:
                failures += 1
                if failures == 1:
                    log.warning("serving without a registry until it is back: %s", error)
                pause = RECONNECT.delay(failures, self._rng)
            await self._clock.sleep(pause)

    def _pause(self, refusals: int) -> float:
        """Seconds until the next renewal; sooner where the registry refused somebody, who may be right by then."""
        due = min((entry.lease.ttl for entry in self._entries if entry.lease), default=CALL_TIMEOUT) / 3
        return min(due, RECONNECT.delay(refusals, self._rng)) if refusals else due

    async def drain(self, agents: Collection[str] | None = None) -> bool:
        """Says DRAINING of these agents, None for all; whether the registry has heard it of each."""
        heard = True
        for entry in self._of(agents):
            entry.endpoint = replace(entry.endpoint, state=State.DRAINING)
            if entry.lease is None:
                continue
            try:
                await self._client.update(entry.lease.lease_id, state=State.DRAINING)
            except AtomeshError as error:
                log.warning("draining unheard by the registry: %s", error)
                heard = False
        return heard

    async def leave(self, agents: Collection[str] | None = None) -> None:
        """Deregisters these agents, None for all; what the registry does not hear, its ttl tells it."""
        for entry in self._of(agents):
            self._entries.remove(entry)
            if entry.lease is None:
                continue
            try:
                await self._client.deregister(entry.lease.lease_id)
            except RegistryUnavailable as error:
                log.warning("left without telling the registry: %s", error)
                return
            except AtomeshError as error:
                log.warning("left without telling the registry: %s", error)

    def _of(self, agents: Collection[str] | None) -> list[_Entry]:
        return [entry for entry in self._entries if agents is None or entry.endpoint.agent in agents]

    async def _register_missing(self) -> bool:
        """Registers what has no lease; whether the registry took all. One that it refuses keeps no other out."""
        refused = False
        for entry in list(self._entries):
            if entry.lease is not None or entry.superseded:
                continue
            try:
                entry.lease = await self._client.register(entry.endpoint, entry.contract, ttl=self._ttl)
            except RegistryUnavailable:
                raise
            except AtomeshError as error:
                if entry.refusal != error.message:  # said once, not every 2 s
                    log.error("the registry refused %s: %s", entry.endpoint.agent, error)
                entry.refusal, refused = error.message, True
                continue
            if entry not in self._entries:  # it left meanwhile
                await self._client.deregister(entry.lease.lease_id)
                continue
            entry.refusal = ""
            log.info("registered %s at %s", entry.endpoint.agent, entry.endpoint.address)
            if entry.endpoint.state is State.DRAINING:
                await self._client.update(entry.lease.lease_id, state=State.DRAINING)
        if not refused:
            self.ready.set()
        return not refused

    async def _renew(self) -> None:
        held = [entry for entry in self._entries if entry.lease is not None]
        if not held:
            return
        leases = [(entry.lease.lease_id, entry.load() if entry.load else None) for entry in held if entry.lease]
        for entry, status in zip(held, await self._client.renew(leases), strict=True):
            if status == registry_pb2.RENEW_STATUS_SUPERSEDED:
                log.error("%s at %s: a newer instance has the address", entry.endpoint.agent, entry.endpoint.address)
                entry.lease, entry.superseded = None, True
                self.superseded.set()
            elif status != registry_pb2.RENEW_STATUS_RENEWED:
                log.warning("the registry does not know %s any more; registering again", entry.endpoint.agent)
                entry.lease = None
        if any(entry.lease is None and not entry.superseded for entry in held):
            await self._register_missing()


def _position(proto: registry_pb2.Position) -> Position:
    return Position(proto.store_id, proto.revision)


def _updates(response: registry_pb2.WatchResponse) -> tuple[Update, ...]:
    kind = response.WhichOneof("event")
    if kind == "reset":
        endpoints = tuple(Endpoint.from_proto(endpoint) for endpoint in response.reset.endpoints)
        return (Reset(endpoints, ResetReason(response.reset.reason)),)
    return tuple(_change(change) for change in response.changes.changes) if kind == "changes" else ()


def _change(change: registry_pb2.Change) -> Update:
    kind = change.WhichOneof("kind")
    if kind == "removed":
        gone = change.removed
        return Removed(gone.agent, gone.address, gone.instance_id, RemovedReason(gone.reason))
    if kind == "added":
        return Added(Endpoint.from_proto(change.added))
    return Changed(Endpoint.from_proto(change.changed))
