"""What a resolver tells: a snapshot, then what changed, each at a position."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from atomesh.core.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Position:
    """How far a registry had got: its store and the revision of its last change."""

    store_id: str = ""
    revision: int = 0


class ResetReason(IntEnum):
    """Why a watch begins anew. The numbers are those of Reset.Reason."""

    FIRST = 0
    COMPACTED = 1
    FOREIGN_POSITION = 2
    SLOW_WATCHER = 3


class RemovedReason(IntEnum):
    """Why an endpoint went. The numbers are those of Removed.Reason."""

    NO_LONGER_MATCHES = 0
    DEREGISTERED = 1
    EXPIRED = 2
    SUPERSEDED = 3


@dataclass(frozen=True, slots=True)
class Reset:
    """All there is; what was known before is void."""

    endpoints: tuple[Endpoint, ...]
    reason: ResetReason = ResetReason.FIRST


@dataclass(frozen=True, slots=True)
class Added:
    """An endpoint that is new here."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Changed:
    """An endpoint as it is now."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Removed:
    """An endpoint that is gone."""

    agent: str
    address: str
    instance_id: str
    reason: RemovedReason = RemovedReason.NO_LONGER_MATCHES


Change: TypeAlias = Added | Changed | Removed
Update: TypeAlias = Reset | Change


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One step of a watch: what happened at once, and the position after it. A bookmark has no updates."""

    updates: tuple[Update, ...]
    position: Position
