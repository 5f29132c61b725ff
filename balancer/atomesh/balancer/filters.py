"""Who is asked first, before any policy has a say: version, then zone, then the rest.

A call may ask for a *version range*: endpoints outside of it get nothing. Inside
there are two wishes of a client. *Version weights* share calls out among
releases (a canary: `{">=2": 10, "<2": 90}`): each call draws a release by
weight, or by the hash of its session id where it has one, so that a
conversation stays with one release. *Zone preference* puts the client's own zone first within a release:
what crosses zones costs time and money. Neither is a wall. A call that finds no
slot free where it should go spills over: to other zones of its release, then to
other releases. Only a release of weight 0, or that no range names, gets nothing.

The version goes before the zone, or a zone without the canary would undo its
share. Endpoints under suspicion come after all others, whatever their version
and zone (locality spill-over as in Envoy's zone-aware routing, releases as its
weighted clusters).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from atomesh.balancer.candidate import Candidate
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import InvalidArgument
from atomesh.core.versions import parse_range

Group = tuple[Candidate, ...]

_NONE: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Order:
    """One order of asking, and its share of the calls."""

    weight: float
    groups: tuple[int, ...]
    """Places in `Layout.groups`, the first to ask first."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Endpoints in groups, none of them empty, and the orders in which groups are asked."""

    groups: tuple[Group, ...]
    orders: tuple[Order, ...]


@dataclass(frozen=True, slots=True)
class Filters:
    """What a client wishes for; the default wishes for nothing.

    Raises:
        InvalidArgument: a range that is none, a weight that is negative or no number, or only zeros.
    """

    zone: str = ""
    """The client's own zone; endpoints there come first."""
    versions: Mapping[str, float] = field(default_factory=lambda: _NONE)
    """Weights by semver range; the first range that a version lies in counts."""
    only: str = ""
    """The semver range that an endpoint's version must lie in; empty lets all in."""

    def __post_init__(self) -> None:
        """Checks it."""
        parse_range(self.only)
        for text, weight in self.versions.items():
            parse_range(text)
            if not (math.isfinite(weight) and weight >= 0):
                raise InvalidArgument(f"version range {text!r:.80} has weight {weight!r}; give 0 or more")
        if self.versions and not any(self.versions.values()):
            raise InvalidArgument(f"all {len(self.versions)} version weights are 0; give one of them a share")

    def admits(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint may be picked at all."""
        return self.covers(endpoint) and (not self.versions or self._release(endpoint) is not None)

    def covers(self, endpoint: Endpoint) -> bool:
        """Whether its version lies in the range that is asked for."""
        return not self.only or endpoint.version in parse_range(self.only)

    def layout(self, *tiers: Sequence[Candidate]) -> Layout:
        """The groups to ask, in order, of endpoints that are all admitted; all of an earlier tier come first."""
        groups: list[Group] = []
        found: list[dict[str | None, list[int]]] = []  # by tier: the groups of each release
        for tier in tiers:
            by_release: dict[str | None, list[Candidate]] = {}
            for candidate in tier:
                by_release.setdefault(self._release(candidate.endpoint), []).append(candidate)
            found.append({})
            for release, members in by_release.items():
                zones = self._by_zone(members)
                found[-1][release] = list(range(len(groups), len(groups) + len(zones)))
                groups += zones
        # Shares are drawn among the releases that the best tier has.
        drawn = next((releases for releases in found if releases), {})
        orders = [Order(self._weight(release), self._order(found, release)) for release in drawn]
        return Layout(tuple(groups), tuple(orders))

    def _order(self, found: Sequence[Mapping[str | None, list[int]]], first: str | None) -> tuple[int, ...]:
        """Group by group: of each tier the release `first`, then the others, the heaviest before."""
        order: list[int] = []
        for releases in found:
            for release in sorted(releases, key=lambda r: (r != first, -self._weight(r))):
                order += releases[release]
        return tuple(order)

    def _by_zone(self, members: Sequence[Candidate]) -> list[Group]:
        own = tuple(c for c in members if self.zone and c.endpoint.zone == self.zone)
        others = tuple(c for c in members if not self.zone or c.endpoint.zone != self.zone)
        return [group for group in (own, others) if group]

    def _release(self, endpoint: Endpoint) -> str | None:
        """The range that the endpoint counts under; None where none lets it in, or none is asked for."""
        for text, weight in self.versions.items():
            if endpoint.version in parse_range(text):
                return text if weight else None
        return None

    def _weight(self, release: str | None) -> float:
        return 1.0 if release is None else self.versions[release]


NO_FILTERS = Filters()
