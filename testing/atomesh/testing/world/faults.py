"""What goes wrong in a world, as data: when, with whom, for how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atomesh.testing.memory import LinkProfile
from atomesh.testing.world.profiles import Failures

if TYPE_CHECKING:
    from atomesh.testing.world.world import World


@dataclass(frozen=True, slots=True)
class Fault:
    """Begins at `at` seconds and is over `seconds` later."""

    at: float
    seconds: float

    async def begin(self, world: World) -> None:
        """Something goes wrong."""
        raise NotImplementedError

    async def end(self, world: World) -> None:
        """It is over."""


@dataclass(frozen=True, slots=True)
class Pause(Fault):
    """SIGSTOP, then SIGCONT."""

    who: str

    async def begin(self, world: World) -> None:
        """Stands still."""
        world.network.pause(world.member(self.who).host)

    async def end(self, world: World) -> None:
        """Goes on."""
        world.network.resume(world.member(self.who).host)
        world.excuse(self.who)


@dataclass(frozen=True, slots=True)
class Kill(Fault):
    """SIGKILL, then a new start at the same address."""

    who: str

    async def begin(self, world: World) -> None:
        """Dies."""
        world.member(self.who).kill()

    async def end(self, world: World) -> None:
        """Is started again."""
        member = world.member(self.who)
        if member.running is None:
            await member.start()


@dataclass(frozen=True, slots=True)
class Restart(Fault):
    """A rolling update: drain, stop, start."""

    who: str

    async def begin(self, world: World) -> None:
        """Drains and comes back by itself."""
        await world.endpoint(self.who).restart_gently()


@dataclass(frozen=True, slots=True)
class Partition(Fault):
    """Nothing gets from one to the other, nor back unless `one_way`."""

    one: str
    other: str
    one_way: bool = False

    async def begin(self, world: World) -> None:
        """Cut apart."""
        world.network.block(self.one, self.other)
        if not self.one_way:
            world.network.block(self.other, self.one)

    async def end(self, world: World) -> None:
        """Together again."""
        world.network.heal(self.one, self.other)
        world.network.heal(self.other, self.one)


@dataclass(frozen=True, slots=True)
class Cut(Fault):
    """All connections between two are reset, once."""

    one: str
    other: str

    async def begin(self, world: World) -> None:
        """Reset."""
        world.network.cut(self.one, self.other)


@dataclass(frozen=True, slots=True)
class Weather(Fault):
    """Delay spikes on both ways between two."""

    one: str
    other: str
    profile: LinkProfile

    async def begin(self, world: World) -> None:
        """Worse."""
        for ends in ((self.one, self.other), (self.other, self.one)):
            world.network.shape(*ends, self.profile)

    async def end(self, world: World) -> None:
        """As before."""
        for ends in ((self.one, self.other), (self.other, self.one)):
            world.network.shape(*ends, world.scenario.link)


@dataclass(frozen=True, slots=True)
class Fail(Fault):
    """An endpoint whose agent fails (a broken database behind one copy)."""

    who: str
    ratio: float

    async def begin(self, world: World) -> None:
        """Breaks."""
        world.endpoint(self.who).failures = Failures(self.ratio)

    async def end(self, world: World) -> None:
        """Works."""
        world.endpoint(self.who).failures = Failures()


@dataclass(frozen=True, slots=True)
class Drag(Fault):
    """An endpoint that takes so many times as long."""

    who: str
    factor: float

    async def begin(self, world: World) -> None:
        """Slow."""
        world.endpoint(self.who).slowness *= self.factor

    async def end(self, world: World) -> None:
        """As before."""
        world.endpoint(self.who).slowness /= self.factor


_ROLLING = 0.1  # of worlds have a rolling restart and nothing else


def draw(rng: random.Random, until: float, endpoints: list[str], clients: list[str]) -> tuple[Fault, ...]:
    """Some faults, none to six of them, that begin before `until`; sorted by their beginning."""
    if rng.random() < _ROLLING:
        starts = sorted(rng.uniform(0.0, until) for _ in endpoints)
        return tuple(Restart(at, 0.0, endpoint) for at, endpoint in zip(starts, endpoints, strict=True))
    faults = [
        _draw_one(rng, rng.uniform(0.0, until), endpoints, clients) for _ in range(rng.choice((0, 1, 2, 3, 4, 6)))
    ]
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _draw_one(rng: random.Random, at: float, endpoints: list[str], clients: list[str]) -> Fault:
    endpoint, client = rng.choice(endpoints), rng.choice(clients)
    anybody = rng.choice([*endpoints, *clients, "registry"])
    seconds = rng.choice((0.05, 0.3, 1.0, 4.0, 20.0)) * rng.uniform(0.5, 1.5)
    kind = rng.choice((Pause, Kill, Restart, Partition, Cut, Weather, Fail, Drag))
    if kind is Pause:
        return Pause(at, seconds, anybody)
    if kind is Kill:
        return Kill(at, seconds, rng.choice([*endpoints, "registry"]))
    if kind is Restart:
        return Restart(at, 0.0, endpoint)
    if kind is Partition:
        other = rng.choice((client, "registry"))
        one, other = rng.sample((endpoint, other), 2)
        return Partition(at, seconds, one, other, one_way=rng.random() < 0.5)
    if kind is Cut:
        return Cut(at, 0.0, rng.choice((client, endpoint)), rng.choice((endpoint, "registry")))
    if kind is Weather:
        profile = LinkProfile(rng.choice((0.001, 0.02, 0.2)), 1.0, rng.choice((0.0, 0.1)), 1.0)
        return Weather(at, seconds, client, rng.choice((endpoint, "registry")), profile)
    if kind is Fail:
        return Fail(at, seconds, endpoint, rng.choice((0.1, 0.5, 1.0)))
    return Drag(at, seconds, endpoint, rng.choice((3.0, 16.0)))
