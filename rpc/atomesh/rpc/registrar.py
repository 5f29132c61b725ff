"""Keeps the endpoints of one process registered, whatever happens to the registry."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol

from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import Endpoint, Load, State
from atomesh.core.errors import AtomeshError, RegistryUnavailable, Superseded, UnknownLease
from atomesh.rpc.registry_client import CALL_TIMEOUT, RECONNECT, Registration, RegistryClient
from atomesh.v1 import registry_pb2

log = logging.getLogger(__name__)

SOONEST = 0.1
"""Seconds between two renewals at least, however short a ttl the registry
grants. Twice of it could lose a lease of half a second; half only serves tests."""


class LoadSource(Protocol):
    """Called for an endpoint's load at each renewal."""

    def __call__(self) -> Load: ...


@dataclass(slots=True, eq=False)
class _Entry:
    endpoint: Endpoint
    contract: ContractDescriptor
    load: LoadSource | None
    lease: Registration | None = None
    told: State = State.SERVING
    """The state that the registry has heard, while there is a lease."""
    doubtful: bool = False
    """Asked to be registered and not answered: the registry may show it, under a lease that nobody knows."""
    superseded: bool = False
    refusal: str = ""


class Registrar:
    """Registers endpoints, renews their leases, and says when they drain or leave.

    `ready` is set once the registry has taken all of them. A lease that it no
    longer knows is registered again; one that was SUPERSEDED is given up, and
    `superseded` is set: another process has the address.

    `drain` and `leave` may be called while `run` is in the middle of anything:
    they take turns, so an endpoint that has left is never registered again by
    an answer that was under way. A registration whose answer was lost is asked
    for once more, which gives the same instance a new lease, before it leaves.
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
        self._turn = asyncio.Lock()
        self.ready = asyncio.Event()
        self.superseded = asyncio.Event()

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why the registry does not take those that it refuses; it is asked again all the while."""
        return tuple(entry.refusal for entry in self._entries if entry.refusal)

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
                complete = await self._tell(list(self._entries)) and complete
                failures = 0 if complete else failures + 1
                pause = self._pause(failures)
            except AtomeshError as error:
                failures += 1
                if failures == 1:
                    log.warning("serving without a registry until it is back: %s", error)
                pause = RECONNECT.delay(failures, self._rng)
            await self._clock.sleep(pause)

    async def drain(self, agents: Collection[str] | None = None) -> bool:
        """Says DRAINING of these agents, None for all; whether the registry has heard it of each.

        What it has not heard is said again by `run`, until it is.
        """
        entries = self._of(agents)
        for entry in entries:
            entry.endpoint = replace(entry.endpoint, state=State.DRAINING)
        try:
            return await self._tell(entries)
        except AtomeshError as error:
            log.warning("draining unheard by the registry: %s", error)
            return False

    async def leave(self, agents: Collection[str] | None = None) -> None:
        """Deregisters these agents, None for all; what the registry does not hear, its ttl tells it."""
        leaving = self._of(agents)
        for entry in leaving:
            self._entries.remove(entry)  # all of them before anybody waits: nothing renews them from here on
        for entry in leaving:
            try:
                async with self._turn:
                    await self._deregister(entry)
            except RegistryUnavailable as error:
                log.warning("left without telling the registry: %s", error)
                return
            except AtomeshError as error:
                log.warning("%s left without telling the registry: %s", entry.endpoint.agent, error)

    def _of(self, agents: Collection[str] | None) -> list[_Entry]:
        return [entry for entry in self._entries if agents is None or entry.endpoint.agent in agents]

    def _pause(self, failures: int) -> float:
        """Seconds until the next renewal; sooner where the registry refused somebody, who may be right by then."""
        due = min((entry.lease.ttl for entry in self._entries if entry.lease), default=CALL_TIMEOUT) / 3
        due = max(SOONEST, due)
        return min(due, RECONNECT.delay(failures, self._rng)) if failures else due

    async def _register_missing(self) -> bool:
        """Registers what has no lease; whether the registry took all. One that it refuses keeps no other out."""
        complete = True
        for entry in list(self._entries):
            async with self._turn:
                if entry in self._entries and not entry.superseded:
                    complete = await self._registered(entry) and complete
        if complete:
            self.ready.set()
        return complete

    async def _registered(self, entry: _Entry) -> bool:
        """Whether it is as registered as it should be: what drains and is not known need not become so."""
        if entry.lease is not None or (entry.endpoint.state is State.DRAINING and not entry.doubtful):
            return True
        try:
            await self._register(entry)
        except RegistryUnavailable:
            raise
        except AtomeshError as error:
            if entry.refusal != error.message:  # said once, not every 2 s
                log.error("the registry refused %s: %s", entry.endpoint.agent, error)
            entry.refusal = error.message
            return False
        entry.refusal = ""
        log.info("registered %s at %s", entry.endpoint.agent, entry.endpoint.address)
        return True

    async def _register(self, entry: _Entry) -> Registration:
        entry.doubtful = True  # until there is an answer, which a cancellation may cut off too
        try:
            entry.lease = await self._client.register(entry.endpoint, entry.contract, ttl=self._ttl)
        except RegistryUnavailable:
            raise
        except AtomeshError:
            entry.doubtful = False
            raise
        entry.doubtful, entry.told = False, State.SERVING
        return entry.lease

    async def _renew(self) -> None:
        async with self._turn:
            held = [(entry, entry.lease) for entry in self._entries if entry.lease is not None]
            statuses = await self._client.renew([(lease.lease_id, _load(entry)) for entry, lease in held])
            for (entry, _), status in zip(held, statuses, strict=True):
                if status == registry_pb2.RENEW_STATUS_SUPERSEDED:
                    self._give_up(entry)
                elif status != registry_pb2.RENEW_STATUS_RENEWED:
                    log.warning("the registry does not know %s any more; registering again", entry.endpoint.agent)
                    entry.lease = None
        if any(entry.lease is None and not entry.superseded for entry, _ in held):
            await self._register_missing()

    async def _tell(self, entries: list[_Entry]) -> bool:
        """Tells the registry the state of those of which it knows another; whether it has heard it of each."""
        heard = True
        for entry in entries:
            async with self._turn:
                if entry in self._entries and not await self._told(entry):
                    heard = False
        return heard

    async def _told(self, entry: _Entry) -> bool:
        if entry.lease is None and not entry.doubtful:
            return True  # not known there at all
        state = entry.endpoint.state
        try:
            lease = entry.lease or await self._register(entry)
            if entry.told is not state:
                await self._client.update(lease.lease_id, state=state)
                entry.told = state
        except RegistryUnavailable:
            raise
        except Superseded:
            self._give_up(entry)
        except UnknownLease:
            entry.lease = None
        except AtomeshError as error:
            log.warning("the registry does not take that %s is %s: %s", entry.endpoint.agent, state.name, error)
            return False
        return True

    async def _deregister(self, entry: _Entry) -> None:
        lease = entry.lease
        if lease is None and entry.doubtful:
            lease = await self._register(entry)
        if lease is not None:
            await self._client.deregister(lease.lease_id)
            entry.lease = None

    def _give_up(self, entry: _Entry) -> None:
        log.error("%s at %s: a newer instance has the address", entry.endpoint.agent, entry.endpoint.address)
        entry.lease, entry.superseded = None, True
        self.superseded.set()


def _load(entry: _Entry) -> Load | None:
    if entry.load is None:
        return None
    try:
        return entry.load()
    except Exception:
        # Whoever cannot say how busy it is still lives, and must not lose its lease.
        log.exception("the load of %s cannot be told", entry.endpoint.agent)
        return None
