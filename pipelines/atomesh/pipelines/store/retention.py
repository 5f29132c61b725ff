"""How long runs are kept: so many days, and no more than so many.

A run that is under way is never taken away, nor a durable one that can be
resumed. One that its process left behind when it died, and that cannot be
resumed, goes as any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from atomesh.pipelines.record import RunStatus

DAY = 86_400.0

EVERY = 60.0
"""Seconds between two looks at what is too old. At ten times of it a store at
100 runs/s holds 60,000 too many for a while; a tenth only looks more often."""

CHUNK = 500
"""Runs that one transaction takes away: a few milliseconds, in which others
that have the store open wait. Ten times of it is a wait that people notice."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The limits."""

    days: float = 7.0
    runs: int = 10_000
    """The newest are kept. 10,000 runs of three stages take about 15 MB without
    outputs; ten times of it makes a list of all slow, a tenth is an hour's work."""

    def __post_init__(self) -> None:
        """Raises ValueError for limits that keep nothing."""
        if not self.days > 0:
            raise ValueError(f"retention of {self.days} days keeps nothing; say more than 0")
        if self.runs < 1:
            raise ValueError(f"retention of {self.runs} runs keeps nothing; say 1 or more")

    def cutoff(self, now: float) -> float:
        """Unix seconds; what began before is too old at `now`."""
        return now - self.days * DAY


@dataclass(frozen=True, slots=True)
class Kept:
    """What decides over one run."""

    id: str
    started_at: float
    status: RunStatus
    durable: bool
    abandoned: bool
    """Its process is gone."""

    @property
    def may_go(self) -> bool:
        """Whether nobody works on it or could go on with it."""
        return self.status.ended or (self.abandoned and not self.durable)


def expired(runs: Iterable[Kept], retention: Retention, now: float) -> list[str]:
    """The ids of those that go, oldest first."""
    newest_first = sorted(runs, key=lambda run: (run.started_at, run.id), reverse=True)
    cutoff = retention.cutoff(now)
    gone = [
        run.id
        for place, run in enumerate(newest_first)
        if run.may_go and (place >= retention.runs or run.started_at < cutoff)
    ]
    return gone[::-1]
