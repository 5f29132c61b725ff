"""The analytics of a batch, kept in a fixed amount of memory however long it is: pure, in the caller's time."""

from __future__ import annotations

import math
from dataclasses import dataclass

from atomesh.balancer.quantiles import LatencyQuantiles
from atomesh.pipelines.batch.model import (
    BatchItem,
    BatchSettings,
    BatchStatus,
    BatchSummary,
    Ended,
    ItemError,
    Outcome,
    Progress,
    Share,
    error_type,
)

OTHER = "other"
MAX_NAMES = 200
"""Endpoints, targets and kinds of errors that are told apart; authors may give errors any
number of reasons. What comes later counts as "other"."""
MAX_ERRORS = 100
"""Errors that are kept in words: more than anybody reads, a few kB each at most."""
_MESSAGE = 1000  # characters of each


@dataclass(slots=True)
class _Tally:
    items: int = 0
    failed: int = 0
    seconds: float = 0.0

    def add(self, item: BatchItem) -> None:
        self.items += 1
        self.failed += item.outcome is not Outcome.SUCCESS
        self.seconds += item.seconds

    def share(self) -> Share:
        return Share(self.items, self.failed, self.seconds / self.items)


class _Level:
    """A number that changes, and its integral over time; below a ceiling."""

    __slots__ = ("_since", "most", "total", "value")

    def __init__(self, now: float) -> None:
        self.value = self.most = 0
        self.total = 0.0
        self._since = now

    def set(self, value: int, now: float) -> None:
        self.total = self.until(now)
        self._since = now
        self.value, self.most = value, max(self.most, value)

    def until(self, now: float) -> float:
        return self.total + self.value * (now - self._since)


class Analysis:
    """Takes what happens in a batch; `summary` is what it comes to."""

    def __init__(self, batch_id: str, target: str, settings: BatchSettings, now: float, total: int | None) -> None:
        """A batch that begins now; `total` is how many inputs there are, where that is known."""
        self._id = batch_id
        self._target = target
        self._settings = settings
        self._begun = now
        self._known = total
        self._read = 0
        self._counts = dict.fromkeys(Outcome, 0)
        self._begun_items = 0
        self._seconds = 0.0
        self._waits = 0.0
        self._times = LatencyQuantiles(math.inf)  # nothing of a batch is old
        self._outstanding = _Level(now)
        self._slots = _Level(now)
        self._by_target: dict[str, int] = {}
        """Slots."""
        self._busy = self._busy_fed = 0.0
        self._fed_until: float | None = None
        self._slots_fed = 0.0
        self._tallies: dict[str, dict[str, _Tally]] = {"endpoint": {}, "target": {}, "error": {}}
        self._errors: list[ItemError] = []
        self.ended: Ended | None = None
        self.inputs_error = ""
        self._over: float | None = None

    @property
    def read(self) -> int:
        """Inputs that were read."""
        return self._read

    @property
    def items(self) -> int:
        """Items that have ended."""
        return sum(self._counts.values())

    def progress(self, outstanding: int, now: float) -> Progress:
        """How far it is."""
        until = now if self._over is None else self._over
        over = self._over is not None
        return Progress(self._known, self.items, self.succeeded, outstanding, until - self._begun, over)

    @property
    def succeeded(self) -> int:
        """Those with an output."""
        return self._counts[Outcome.SUCCESS]

    def took_in(self) -> None:
        """An input was read."""
        self._read += 1

    def slots(self, target: str, slots: int, now: float) -> None:
        """So many slots of a target can be picked from now on."""
        self._by_target[target] = slots
        together = sum(self._by_target.values())
        cap = self._settings.max_concurrency
        self._slots.set(together if cap is None else min(cap, together), now)

    def outstanding(self, calls: int, now: float) -> None:
        """So many calls are outstanding from now on."""
        self._outstanding.set(calls, now)

    def fed(self, now: float) -> None:
        """There is nothing left to begin."""
        if self._fed_until is None:
            self._fed_until = now
            self._slots_fed = self._slots.until(now)

    def item(self, item: BatchItem, now: float) -> None:
        """An item ended."""
        self._counts[item.outcome] += 1
        if item.seconds > 0:  # it was begun
            self._begun_items += 1
            self._seconds += item.seconds
            self._waits += item.queue_wait
            self._times.record(item.seconds, now)
        self._count("target", item.target, item)
        self._count("endpoint", item.endpoint, item)
        self._busy += item.execution
        late = 0.0 if self._fed_until is None else now - self._fed_until
        self._busy_fed += max(0.0, item.execution - late)
        if item.error is not None:
            self._count("error", item.error_type, item)
            if len(self._errors) < MAX_ERRORS:
                self._errors.append(_told(item, item.error))

    def over(self, now: float) -> None:
        """Nothing happens any more."""
        self.fed(now)
        self._slots.set(self._slots.value, now)
        self._outstanding.set(0, now)
        self._over = now

    def summary(self, now: float) -> BatchSummary:
        """What it has come to by now."""
        now = now if self._over is None else self._over
        duration, items = now - self._begun, self.items
        total = max(self._read, self._known or 0)
        available = self._slots.until(now)
        until, fed = (now, available) if self._fed_until is None else (self._fed_until, self._slots_fed)
        begun = max(1, self._begun_items)
        over = self._over is not None
        return BatchSummary(
            batch_id=self._id,
            target=self._target,
            status=self._status(total),
            ended=self.ended,
            total=total,
            succeeded=self.succeeded,
            failed=self._counts[Outcome.FAILED],
            timed_out=self._counts[Outcome.TIMED_OUT],
            cancelled=self._counts[Outcome.CANCELLED],
            not_run=total - items if over else 0,
            success_rate=_ratio(self.succeeded, total if over else items),
            duration=duration,
            mean_seconds=self._seconds / begun,
            p50_seconds=self._times.p50,
            p99_seconds=self._times.quantile(0.99),
            mean_queue_wait=self._waits / begun,
            concurrency_mean=_ratio(self._outstanding.until(now), duration),
            concurrency_max=self._outstanding.most,
            slots_mean=_ratio(available, duration),
            throughput=_ratio(items, duration),
            efficiency=min(1.0, _ratio(self._busy, available)),
            efficiency_fed=min(1.0, _ratio(self._busy_fed, fed)) if until > self._begun else 0.0,
            by_endpoint=self._shares("endpoint"),
            by_target=self._shares("target"),
            by_error={name: tally.items for name, tally in self._tallies["error"].items()},
            errors=tuple(self._errors),
            inputs_error=self.inputs_error,
        )

    def _status(self, total: int) -> BatchStatus:
        if self._over is None:
            return BatchStatus.RUNNING
        if self.succeeded == total and self.ended is Ended.INPUTS:
            return BatchStatus.SUCCESS
        enough = total and self.succeeded >= self._settings.min_success * total
        return BatchStatus.PARTIAL if enough else BatchStatus.FAILED

    def _count(self, by: str, name: str, item: BatchItem) -> None:
        if name:
            tallies = self._tallies[by]
            if name not in tallies and len(tallies) >= MAX_NAMES:
                name = OTHER
            tallies.setdefault(name, _Tally()).add(item)

    def _shares(self, by: str) -> dict[str, Share]:
        return {name: tally.share() for name, tally in self._tallies[by].items()}


def _told(item: BatchItem, error: Exception) -> ItemError:
    return ItemError(item.index, item.key, item.target, error_type(error), str(error)[:_MESSAGE])


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
