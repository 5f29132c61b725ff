"""Processes of agents that come and go, a registry that dies and is back, and what a Prometheus makes of it.

Every process has a life: when it was ready, when it ended and how, when it was
first scraped, when it was no target any more. What is promised of that (found
soon, dropped soon, never lost in between) is held against the clock here,
purely; whoever runs the processes tells it what happened.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Promises:
    """Within how many seconds of what a Prometheus with these intervals knows of it."""

    found: float
    """After a process is ready, it is scraped."""
    dropped: float
    """After a process has drained, it is no target."""
    expired: float
    """After a process was killed, it is no target: its lease's ttl more."""


@dataclass(slots=True)
class Life:
    """One process, in monotonic seconds; None where it has not come to that."""

    address: str
    """Of its metrics."""
    ready: float
    found: float | None = None
    ended: float | None = None
    killed: bool = False
    dropped: float | None = None


@dataclass(slots=True)
class Churn:
    """All lives, and what went against the promises."""

    promises: Promises
    lives: dict[str, Life] = field(default_factory=dict)
    past: list[Life] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    told: set[tuple[str, str]] = field(default_factory=set)
    registry_back: float = 0.0
    """Since when the registry has been up and warm; infinite while it is not."""

    def began(self, address: str, now: float) -> None:
        """A process is ready, and registered."""
        if (before := self.lives.pop(address, None)) is not None:
            self.past.append(before)  # a port that came round again
        self.lives[address] = Life(address, now)

    def ended(self, address: str, now: float, *, killed: bool) -> None:
        """A process has been killed, or told to leave."""
        self.lives[address].ended, self.lives[address].killed = now, killed

    def seen(self, targets: Collection[str], up: Mapping[str, float], now: float) -> None:
        """What Prometheus knows now: whom it scrapes, and who answered."""
        for address, life in list(self.lives.items()):
            if life.ended is not None:
                self._after(life, address in targets, now)
            elif address in targets:
                self._during(life, up.get(address) == 1, now)
            elif life.found is not None:
                self._violated(life, f"lost {now - life.found:.1f} s after it was found")
            else:
                self._during(life, False, now)
            if life.dropped is not None:
                self.past.append(self.lives.pop(address))

    def _during(self, life: Life, answers: bool, now: float) -> None:
        if life.found is None and answers:
            life.found = now
        if life.found is None and now > max(life.ready, self.registry_back) + self.promises.found:
            self._violated(life, f"not found {now - life.ready:.1f} s after it was ready")

    def _after(self, life: Life, target: bool, now: float) -> None:
        ended = life.ended or now
        if not target:
            life.dropped = now
        within = self.promises.expired if life.killed else self.promises.dropped
        if target and now > max(ended, self.registry_back) + within:
            self._violated(
                life, f"still a target {now - ended:.1f} s after it {'was killed' if life.killed else 'left'}"
            )

    def _violated(self, life: Life, what: str) -> None:
        key = (life.address, what.split(" ")[0])
        if key not in self.told:  # once for each, not at every look
            self.told.add(key)
            self.violations.append(f"{life.address}: {what}")

    def found_after(self) -> list[float]:
        """Seconds from ready to scraped, of every process that was."""
        return [life.found - life.ready for life in self._all() if life.found is not None]

    def dropped_after(self, *, killed: bool) -> list[float]:
        """Seconds from its end to no target, of those that were killed or left."""
        gone = (life for life in self._all() if life.killed is killed)
        return [life.dropped - life.ended for life in gone if life.dropped is not None and life.ended is not None]

    def _all(self) -> Iterable[Life]:
        return [*self.past, *self.lives.values()]


def spread(seconds: list[float]) -> str:
    """`12, 3.1 s in the middle, 7.0 at most`."""
    if not seconds:
        return "none"
    return f"{len(seconds)}, {statistics.median(seconds):.1f} s in the middle, {max(seconds):.1f} at most"
