"""What can be asked of the registry's state, and what comes of it: values only.

An operation is staged against the committed state, becomes part of a batch,
and is seen by nobody before storage has committed that batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import Endpoint, State
from atomesh.core.updates import RemovedReason

Key: TypeAlias = tuple[str, str]
"""The agent and the address: what only one live instance can hold."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An endpoint with what only the registry knows of it."""

    endpoint: Endpoint
    lease: str
    """The fingerprint of its lease's id."""
    ttl: float
    declared: State = State.SERVING
    """What the agent last said; `endpoint.state` is that, or SUSPECT."""
    suspect: bool = False
    """Its lease ran out, and it was doubted rather than expired."""
    unreachable: bool = False
    """It renews, and fails its probes."""

    @property
    def key(self) -> Key:
        """The agent and the address."""
        return self.endpoint.key

    @property
    def shown(self) -> State:
        """SUSPECT hides SERVING only: whoever drains is not picked, heard of or not."""
        doubted = self.suspect or self.unreachable
        return State.SUSPECT if doubted and self.declared is State.SERVING else self.declared

    def at(self, revision: int) -> Entry:
        """Itself as of a revision, showing the state that it should."""
        return replace(self, endpoint=replace(self.endpoint, state=self.shown, revision=revision))


@dataclass(frozen=True, slots=True)
class Register:
    """Makes an endpoint known under a lease."""

    endpoint: Endpoint
    contract: ContractDescriptor
    lease: str
    ttl: float
    at: float
    """Unix seconds, for people to read."""


@dataclass(frozen=True, slots=True)
class Update:
    """Changes an endpoint; None stays as it is."""

    lease: str
    state: State | None = None
    slots: int | None = None
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Deregister:
    """Removes an endpoint and ends its lease."""

    lease: str


@dataclass(frozen=True, slots=True)
class Judge:
    """What leases and probes say, by lease, as far as it is not so yet."""

    expired: tuple[str, ...] = ()
    suspected: tuple[str, ...] = ()
    """They ran out, and are to be doubted."""
    recovered: tuple[str, ...] = ()
    """They have been heard of again."""
    unreachable: tuple[str, ...] = ()
    """They fail their probes."""
    reachable: tuple[str, ...] = ()
    """They pass them again."""


Operation: TypeAlias = Register | Update | Deregister | Judge


@dataclass(frozen=True, slots=True)
class Transition:
    """One endpoint before and after; None where it was not, or is no longer."""

    old: Endpoint | None
    new: Endpoint | None
    reason: RemovedReason = RemovedReason.NO_LONGER_MATCHES
    """Why it went, where it went."""

    @property
    def agent(self) -> str:
        """The agent that it concerns."""
        endpoint = self.new or self.old
        return endpoint.agent if endpoint else ""


@dataclass(frozen=True, slots=True)
class Revision:
    """All that one operation changed, in order."""

    number: int
    transitions: tuple[Transition, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What storage commits as one: the state after it, as far as it differs."""

    revision: int
    put: tuple[Entry, ...] = ()
    removed: tuple[Key, ...] = ()
    contracts: tuple[ContractDescriptor, ...] = ()
    dropped_contracts: tuple[str, ...] = ()
    superseded: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (self.put or self.removed)


@dataclass(frozen=True, slots=True)
class Stored:
    """All that a store holds: where a registry begins."""

    store_id: str
    revision: int = 0
    entries: tuple[Entry, ...] = ()
    contracts: tuple[ContractDescriptor, ...] = ()
    superseded: tuple[str, ...] = ()
