"""What happened to a registry, as those saw it who asked it: facts, in one list.

A fact says what was seen from outside and nothing of what the registry thinks.
Times are seconds of one clock for the whole history: virtual time of a world,
or a machine's monotonic clock, which all its processes share. Leases stand
under the ids that the registry gave, or under other names if every id has one.

Every fact is a value with a `fact` that names its kind, so that a history is
JSON Lines (see `lines`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from atomesh.testing.history.values import Key, Pairs, Place, Shown, Wanted

OK = "OK"
LOST = "LOST"
"""No answer came, or one that says nothing: it may have been done, now or later."""

LEFT = "LEFT"
"""Its caller went away before the answer: as LOST, but nobody's fault."""

UNAVAILABLE = "REGISTRY_UNAVAILABLE"
"""Refused, and nothing of it was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What all calls have."""

    number: int
    """Each call of a history, and each watch, has one of its own."""
    who: str
    began: float
    ended: float
    outcome: str = OK
    """OK, LOST, LEFT, or the reason for which it was refused."""
    place: Place | None = None
    """The position in the answer."""
    secrets: tuple[str, ...] = ()
    """Lease ids that the answer gave away, beside one that it granted."""

    @property
    def done(self) -> bool:
        """Whether it was done and said so."""
        return self.outcome == OK

    @property
    def refused(self) -> bool:
        """Whether it was surely not done."""
        return self.outcome not in (OK, LOST, LEFT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Asked):
    """A registration. What was asked for is an endpoint SERVING at revision 0."""

    spec: Shown
    ttl: float
    """Seconds that were asked for; 0: the registry's default."""
    lease: str = ""
    granted: float = 0.0
    content: str = ""
    """A digest of the contract that was sent."""
    fact: Literal["register"] = "register"


@dataclass(frozen=True, slots=True, kw_only=True)
class Renew(Asked):
    """A batch of renewals."""

    leases: tuple[str, ...]
    executions: tuple[int | None, ...] = ()
    """The load that each tells; None for none."""
    statuses: tuple[str, ...] = ()
    fact: Literal["renew"] = "renew"


@dataclass(frozen=True, slots=True, kw_only=True)
class Update(Asked):
    """An update; None and "" stay as they are."""

    lease: str
    state: str = ""
    slots: int | None = None
    labels: Pairs | None = None
    fact: Literal["update"] = "update"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deregister(Asked):
    """A farewell."""

    lease: str
    fact: Literal["deregister"] = "deregister"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discover(Asked):
    """A snapshot."""

    wanted: Wanted
    shown: tuple[Shown, ...] = ()
    doubting: bool = False
    """Whether the registry says that it doubts itself."""
    fact: Literal["discover"] = "discover"


@dataclass(frozen=True, slots=True, kw_only=True)
class GetContract(Asked):
    """A contract, by hash or by agent."""

    hash: str = ""
    agent: str = ""
    answered: str = ""
    """The hash of what came."""
    types: tuple[str, str] = ("", "")
    content: str = ""
    """A digest of it."""
    fact: Literal["get_contract"] = "get_contract"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchBegan:
    """Somebody watches, from a position on or from the start."""

    number: int
    who: str
    at: float
    wanted: Wanted
    after: Place | None = None
    fact: Literal["watch_began"] = "watch_began"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change in a message of a watch."""

    kind: Literal["added", "changed", "removed"]
    key: Key
    instance: str
    shown: Shown | None = None
    """None where it went."""
    reason: str = ""
    """Why it went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchTold:
    """A message of a watch, when its watcher read it; the parts of a Reset are one."""

    number: int
    at: float
    kind: Literal["reset", "changes", "bookmark"]
    place: Place
    shown: tuple[Shown, ...] = ()
    reason: str = ""
    """Of a Reset: FIRST, COMPACTED, FOREIGN_POSITION, SLOW_WATCHER."""
    changes: tuple[Change, ...] = ()
    secrets: tuple[str, ...] = ()
    fact: Literal["watch_told"] = "watch_told"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEnded:
    """A watch broke, or its watcher left (why: "left")."""

    number: int
    at: float
    why: str
    fact: Literal["watch_ended"] = "watch_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A registry began to start at `began` and served at `at`, on the store of the one before or on a new one."""

    began: float
    at: float
    kept: bool
    fact: Literal["started"] = "started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The registry had stopped, or was killed."""

    at: float
    killed: bool
    fact: Literal["stopped"] = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """Storage was asked to commit up to a revision, and did or did not."""

    began: float
    ended: float
    revision: int
    well: bool
    fact: Literal["committed"] = "committed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something was wrong from outside: what may come late, or not at all, meanwhile.

    `who` is a caller that was cut off, paused or did not read, "registry" for
    the registry itself, "disk" for its store, "clock" for the wall clock.
    """

    kind: Literal["pause", "kill", "stop", "partition", "cut", "unread", "full", "slow", "jump"]
    who: str
    began: float
    ended: float
    fact: Literal["trouble"] = "trouble"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The registry's settings, and how late things may be: what its promises are measured by. First in a history."""

    default_ttl: float
    min_ttl: float
    max_ttl: float
    tick: float
    deaf_after: float
    bookmark_interval: float
    history_changes: int
    watch_queue: int
    superseded_kept: int
    preservation_ratio: float
    preservation_minimum: int
    preservation_window: float
    suspect_ttls: float
    warm_within: float
    slack: float
    """Seconds within which something is answered or told where nothing is wrong."""
    straggling: float
    """Seconds after its deadline, or after a partition, in which a lost request may still arrive."""
    in_transit: int
    """Changes that may be on their way to a watcher that does not read."""
    probing: bool = False
    """Whether endpoints are probed, so that SUSPECT may come of that too."""
    watched_commits: bool = False
    """Whether every commit of storage is a fact."""
    breaking: tuple[tuple[str, str], ...] = ()
    """Pairs of contract hashes that cannot be live together; which is first says nothing."""
    fact: Literal["rules"] = "rules"


Call: TypeAlias = Register | Renew | Update | Deregister | Discover | GetContract
Fact: TypeAlias = Rules | Call | WatchBegan | WatchTold | WatchEnded | Started | Stopped | Committed | Trouble
