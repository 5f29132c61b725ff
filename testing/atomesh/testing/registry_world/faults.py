"""What goes wrong in a registry's world, as data: when, with whom, for how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atomesh.testing.registry_world.world import RegistryWorld


@dataclass(frozen=True, slots=True)
class Fault:
    """Begins at `at` seconds and is over `seconds` later."""

    at: float
    seconds: float

    async def begin(self, world: RegistryWorld) -> None:
        """Something goes wrong."""
        raise NotImplementedError

    async def end(self, world: RegistryWorld) -> None:
        """It is over."""


@dataclass(frozen=True, slots=True)
class Kill(Fault):
    """SIGKILL of the registry, then a new start at the same address."""

    async def begin(self, world: RegistryWorld) -> None:
        """Dies."""
        world.registry.kill()

    async def end(self, world: RegistryWorld) -> None:
        """Is started again."""
        await world.registry.start()


@dataclass(frozen=True, slots=True)
class Restart(Fault):
    """SIGTERM of the registry, then a new start."""

    async def begin(self, world: RegistryWorld) -> None:
        """Stops."""
        await world.registry.stop()

    async def end(self, world: RegistryWorld) -> None:
        """Is started again."""
        await world.registry.start()


@dataclass(frozen=True, slots=True)
class Pause(Fault):
    """SIGSTOP of the registry, then SIGCONT."""

    async def begin(self, world: RegistryWorld) -> None:
        """Stands still."""
        world.registry.pause()

    async def end(self, world: RegistryWorld) -> None:
        """Goes on."""
        world.registry.resume()


@dataclass(frozen=True, slots=True)
class CutOff(Fault):
    """Nothing gets from these to the registry, nor back."""

    who: tuple[str, ...]

    async def begin(self, world: RegistryWorld) -> None:
        """Cut apart."""
        for name in self.who:
            world.part(name)

    async def end(self, world: RegistryWorld) -> None:
        """Together again."""
        for name in self.who:
            world.join(name)


@dataclass(frozen=True, slots=True)
class Reset(Fault):
    """All connections between one and the registry are reset, once."""

    who: str

    async def begin(self, world: RegistryWorld) -> None:
        """Reset."""
        world.cut(self.who)


@dataclass(frozen=True, slots=True)
class Full(Fault):
    """The disk is full: commits fail."""

    async def begin(self, world: RegistryWorld) -> None:
        """Full."""
        world.registry.fill()

    async def end(self, world: RegistryWorld) -> None:
        """There is room again."""
        world.registry.clear()


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """Commits take up to `longest` seconds."""

    longest: float

    async def begin(self, world: RegistryWorld) -> None:
        """Slow."""
        world.registry.slow_down(self.longest)

    async def end(self, world: RegistryWorld) -> None:
        """As before."""
        world.registry.speed_up()


@dataclass(frozen=True, slots=True)
class Jump(Fault):
    """The registry's wall clock is set by so many seconds."""

    by: float

    async def begin(self, world: RegistryWorld) -> None:
        """Set; it stays so."""
        world.registry.jump(self.by)


def draw(rng: random.Random, until: float, everybody: list[str], owners: list[str]) -> tuple[Fault, ...]:
    """Some faults, none to six, that do not overlap where they concern the registry's process; sorted."""
    faults: list[Fault] = []
    at = rng.uniform(2.0, 8.0)
    for _ in range(rng.choice((0, 1, 2, 4, 6))):
        if at > until - 2.0:
            break
        fault = _draw_one(rng, at, everybody, owners)
        faults.append(fault)
        at += fault.seconds + rng.uniform(0.5, until / 6)
    return tuple(faults)


def _draw_one(rng: random.Random, at: float, everybody: list[str], owners: list[str]) -> Fault:
    seconds = rng.choice((0.1, 1.0, 4.0, 12.0)) * rng.uniform(0.5, 1.5)
    kind = rng.choice((Kill, Kill, Kill, Restart, Pause, CutOff, CutOff, Reset, Full, Slow, Jump))
    if kind is CutOff:
        among = rng.choice((everybody, owners))
        return CutOff(at, seconds, tuple(rng.sample(among, rng.randint(1, len(among)))))
    if kind is Reset:
        return Reset(at, 0.0, rng.choice(everybody))
    if kind is Slow:
        return Slow(at, seconds, rng.choice((0.3, 2.0)))
    if kind is Jump:
        return Jump(at, 0.0, rng.choice((-1.0, 1.0)) * rng.choice((1.4, 5.0, 1e6)))
    if kind is Kill:
        return Kill(at, min(seconds, 4.0))
    if kind is Restart:
        return Restart(at, min(seconds, 4.0))
    return Pause(at, seconds) if kind is Pause else Full(at, seconds)
