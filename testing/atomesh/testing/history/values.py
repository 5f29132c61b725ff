"""What facts are made of: endpoints as they were shown, selectors, positions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import semver

Pairs: TypeAlias = tuple[tuple[str, str], ...]
"""A mapping of strings, sorted by key."""

Key: TypeAlias = tuple[str, str]
"""An agent and an address."""


@dataclass(frozen=True, slots=True)
class Place:
    """A position: a store and a revision in it."""

    store: str
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An endpoint as an answer showed it. Equal are those that differ in nothing that a watch would carry."""

    agent: str
    address: str
    instance: str
    state: str
    revision: int
    version: str = "1.0.0"
    slots: int = 1
    idempotent: bool = False
    labels: Pairs = ()
    capabilities: tuple[str, ...] = ()
    zone: str = ""
    metadata: Pairs = ()
    input_type: str = ""
    output_type: str = ""
    contract: str = ""
    registered_at: float = 0.0
    executions: int | None = field(default=None, compare=False)
    """Of its load; None where it has told none."""

    @property
    def key(self) -> Key:
        """What only one live instance holds."""
        return self.agent, self.address

    @property
    def call(self) -> str:
        """The number of the Register call that it came with, where its caller put that into `metadata`."""
        return dict(self.metadata).get(CALL, "")


CALL = "call"
"""The key in an endpoint's metadata under which a caller puts the number of its Register call."""

STATES = ("SERVING", "DRAINING", "NOT_SERVING", "SUSPECT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A selector. It matches by the words of registry.proto, not by the registry's code."""

    agent: str = ""
    capabilities: tuple[str, ...] = ()
    labels: Pairs = ()
    version: str = ""
    zone: str = ""
    input_type: str = ""
    output_type: str = ""
    states: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it shows every endpoint there is."""
        plain = (self.agent, self.version, self.zone, self.input_type, self.output_type)
        return not any(plain) and not self.capabilities and not self.labels and set(STATES) <= set(self.states)

    def matches(self, shown: Shown) -> bool:
        """Whether it shows this one."""
        labels = dict(shown.labels)
        return (
            shown.state in (self.states or ("SERVING",))
            and self.agent in ("", shown.agent)
            and self.zone in ("", shown.zone)
            and self.input_type in ("", shown.input_type)
            and self.output_type in ("", shown.output_type)
            and set(self.capabilities) <= set(shown.capabilities)
            and all(labels.get(key) == value for key, value in self.labels)
            and all(_satisfies(shown.version, part) for part in self.version.split(",") if part)
        )


def _satisfies(version: str, comparison: str) -> bool:
    return semver.Version.parse(version).match(comparison.strip())
