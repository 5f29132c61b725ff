"""How long executions take, and which of them fail."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Protocol


class Profile(Protocol):
    """Draws the seconds of one execution."""

    @property
    def mean(self) -> float:
        """Seconds, on average."""
        ...

    def draw(self, rng: random.Random) -> float:
        """Seconds, once."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same."""

    seconds: float

    @property
    def mean(self) -> float:
        """The same."""
        return self.seconds

    def draw(self, rng: random.Random) -> float:
        """The same."""
        del rng
        return self.seconds


@dataclass(frozen=True, slots=True)
class LogUniform:
    """Every order of magnitude between two bounds as likely as every other: a lookup beside an LLM call."""

    low: float
    high: float

    @property
    def mean(self) -> float:
        """(high - low) / ln(high / low)."""
        return (self.high - self.low) / math.log(self.high / self.low)

    def draw(self, rng: random.Random) -> float:
        """One."""
        return self.low * math.exp(rng.random() * math.log(self.high / self.low))


@dataclass(frozen=True, slots=True)
class Bimodal:
    """Mostly short, a share of them long."""

    short: float
    long: float
    share: float = 0.05

    @property
    def mean(self) -> float:
        """Of both, weighed."""
        return self.short * (1 - self.share) + self.long * self.share

    def draw(self, rng: random.Random) -> float:
        """One or the other."""
        return self.long if rng.random() < self.share else self.short


@dataclass(frozen=True, slots=True)
class Spiky:
    """Around a base, normally distributed by a tenth of it, with rare spikes on top."""

    base: float
    spike: float
    chance: float = 0.01

    @property
    def mean(self) -> float:
        """With its spikes."""
        return self.base + self.spike * self.chance

    def draw(self, rng: random.Random) -> float:
        """Never below a tenth of the base."""
        drawn = max(self.base / 10, rng.gauss(self.base, self.base / 10))
        return drawn + (self.spike if rng.random() < self.chance else 0.0)


@dataclass(frozen=True, slots=True)
class Failures:
    """A share of executions that end with the agent's own error."""

    ratio: float = 0.0

    def draw(self, rng: random.Random) -> bool:
        """Whether this one fails."""
        return bool(self.ratio) and rng.random() < self.ratio
