"""What a registry's world is made of, all of it drawn from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from atomesh.registry.settings import RegistrySettings
from atomesh.testing.history import STATES, Wanted
from atomesh.testing.memory import LinkProfile
from atomesh.testing.registry_world import faults
from atomesh.testing.registry_world.faults import Fault

AGENTS = ("alpha", "beta", "gamma")
ZONES = ("", "north", "south")
CAPABILITIES = ("count", "sort", "sum")
COLOURS = ("blue", "green")

WHOLE = Wanted(states=STATES)
"""Everything there is."""


@dataclass(frozen=True, slots=True)
class OwnerPlan:
    """An owner of one address, which it may share with a rival."""

    name: str
    agent: str
    port: int
    ttl: float
    restless: float
    """How often it does something else than to renew, 0 to 1."""


@dataclass(frozen=True, slots=True)
class WatcherPlan:
    """Somebody who watches."""

    name: str
    wanted: Wanted
    naps: float = 0.0
    """It stops reading for so many seconds now and then; 0: never."""
    leaves: float = 0.0
    """It leaves after about so many seconds, and comes back; 0: never."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world before it begins."""

    seed: int
    settings: RegistrySettings
    owners: tuple[OwnerPlan, ...]
    watchers: tuple[WatcherPlan, ...]
    seconds: float = 40.0
    kept: bool = True
    """Whether the store survives the registry."""
    commit_seconds: float = 0.0
    """A commit takes up to so long."""
    window: int = 65_536
    """Bytes of a watch that may be on their way."""
    link: LinkProfile = field(default_factory=LinkProfile)
    faults: tuple[Fault, ...] = ()


def random_scenario(seed: int) -> Scenario:
    """The world of a seed."""
    rng = random.Random(f"registry scenario {seed}")
    ttl = rng.choice((3.0, 4.0, 6.0))
    crowd = rng.choice((4, 8, 12, 24))
    seconds = rng.choice((6, 10)) * ttl
    owners = tuple(_owner(rng, number, ttl) for number in range(crowd))
    watchers = tuple(_watcher(rng, number) for number in range(rng.choice((6, 9))))
    names = [*(owner.name for owner in owners), *(watcher.name for watcher in watchers)]
    return Scenario(
        seed,
        settings=_settings(rng, ttl, crowd),
        owners=owners,
        watchers=watchers,
        seconds=seconds,
        kept=rng.random() < 0.8,
        commit_seconds=rng.choice((0.0, 0.002, 0.05)),
        window=rng.choice((1_024, 65_536)),
        link=LinkProfile(rng.choice((0.000_2, 0.002, 0.02)), rng.choice((0.0, 0.2))),
        faults=faults.draw(rng, seconds, names, [each.name for each in owners]),
    )


def _settings(rng: random.Random, ttl: float, crowd: int) -> RegistrySettings:
    history = rng.choice((4, 12, 100))
    return RegistrySettings(
        min_ttl=ttl,
        default_ttl=ttl,
        tick=rng.choice((0.5, 1.0)),
        deaf_after=rng.choice((1.5, 2.5)),
        preservation_ratio=rng.choice((0.15, 0.3)),
        preservation_minimum=rng.choice((4, 8, 20, crowd)),
        preservation_window=ttl,
        suspect_ttls=rng.choice((1.0, 3.0)),
        history_changes=history,
        watch_queue=history * rng.choice((1, 2)),
        bookmark_interval=rng.choice((1.0, 3.0)),
        probe_interval=0.0,  # owners here serve nothing that could be probed
        superseded_kept=rng.choice((3, 10_000)),
    )


def _owner(rng: random.Random, number: int, ttl: float) -> OwnerPlan:
    rival = number % 6 == 5
    return OwnerPlan(
        f"owner-{number + 1}",
        AGENTS[(number - rival) % 3],
        7001 + number - rival,  # one in six has the address of the one before
        ttl * rng.choice((1.0, 1.0, 2.0)),
        rng.choice((0.05, 0.2, 0.5)),
    )


def _watcher(rng: random.Random, number: int) -> WatcherPlan:
    name = f"watcher-{number + 1}"
    if number < 2:
        return WatcherPlan(name, WHOLE)
    wanted = WHOLE if number == 2 else random_wanted(rng)
    naps = rng.choice((0.0, 0.0, 2.0, 8.0)) if number != 2 else 6.0
    return WatcherPlan(name, wanted, naps, rng.choice((0.0, 3.0, 10.0)))


def random_wanted(rng: random.Random) -> Wanted:
    """A selector such as people use."""
    return Wanted(
        agent=rng.choice(("", *AGENTS)),
        capabilities=rng.choice(((), (), (rng.choice(CAPABILITIES),), ("count", "sum"))),
        labels=rng.choice(((), (), (("colour", rng.choice(COLOURS)),))),
        version=rng.choice(("", "", "", ">=2.0.0", ">=1.0.0,<2.0.0")),
        zone=rng.choice(("", "", *ZONES)),
        input_type=rng.choice(("", "", "", "world.v1.In", "world.v1.Other")),
        output_type=rng.choice(("", "", "", "world.v1.Out", "world.v1.In")),
        states=rng.choice(((), (), STATES, ("DRAINING",), ("SERVING", "SUSPECT"))),
    )
