"""A history, sorted out: who asked what, who watched what, and what is known of each store at each revision."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from atomesh.testing.history.facts import (
    Asked,
    Committed,
    Deregister,
    Discover,
    Fact,
    GetContract,
    Register,
    Renew,
    Rules,
    Started,
    Stopped,
    Trouble,
    Update,
    WatchBegan,
    WatchEnded,
    WatchTold,
)
from atomesh.testing.history.leases import Leases
from atomesh.testing.history.log import Log
from atomesh.testing.history.streams import Known, Stream, View
from atomesh.testing.history.values import (
    Place,
    Shown,
    Wanted,
)

_F = TypeVar("_F")


@dataclass(frozen=True, slots=True)
class Run:
    """One registry process: from its start until it was told to stop or killed."""

    number: int
    began: float
    served: float
    kept: bool
    """Whether it is on the store of the one before."""
    ended: float
    killed: bool


class Evidence:
    """What validators look at. Nothing in it is decided yet."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        """Raises ValueError where the history does not begin with its Rules."""
        self.facts = list(facts)
        if not self.facts or not isinstance(self.facts[0], Rules):
            raise ValueError("a history begins with its Rules; the recorder of this one noted none")
        self.rules = self.facts[0]
        self._same: dict[Shown, Shown] = {}
        self.registers = self._of(Register)
        self.renews = self._of(Renew)
        self.updates = self._of(Update)
        self.deregisters = self._of(Deregister)
        self.discovers = [replace(each, shown=self._interned(each.shown)) for each in self._of(Discover)]
        self.loads = self._of(Discover)
        """Snapshots with the loads in them, which `discovers` are without."""
        self.contracts = self._of(GetContract)
        self.commits = self._of(Committed)
        self.troubles = self._of(Trouble)
        self.calls: list[Asked] = sorted(
            (
                *self.registers,
                *self.renews,
                *self.updates,
                *self.deregisters,
                *self.discovers,
                *self.contracts,
            ),
            key=lambda call: (call.began, call.number),
        )
        self.runs = _runs(self._of(Started), self._of(Stopped))
        self.streams = self._streams()
        self.end = max((_when(fact) for fact in self.facts if not isinstance(fact, Rules)), default=0.0)
        self._matched: dict[tuple[Wanted, int], bool] = {}
        self.logs: dict[str, Log] = {}
        self.views: list[tuple[Wanted, Known]] = []
        self._learn()

    @functools.cached_property
    def leases(self) -> Leases:
        """What is known of leases."""
        return Leases(self)

    def log(self, store: str) -> Log:
        """What is known of a store."""
        return self.logs.setdefault(store, Log(store))

    def seen_before(self, place: Place, at: float) -> int:
        """The highest revision of a place's store that an answer had had strictly before a time."""
        return self.log(place.store).seen_by(at - 1e-9)

    def shows(self, wanted: Wanted, shown: Shown) -> bool:
        """Whether a selector shows an endpoint."""
        known = self._matched.get((wanted, id(shown)))
        if known is None:
            known = self._matched[wanted, id(shown)] = wanted.matches(shown)
        return known

    def project(self, wanted: Wanted, state: View) -> View:
        """What a selector shows of a state."""
        return {key: shown for key, shown in state.items() if self.shows(wanted, shown)}

    def run_at(self, at: float) -> Run | None:
        """Which registry ran, or began to, at a time; the last one that began before."""
        before = [run for run in self.runs if run.began <= at]
        return before[-1] if before else None

    def run_of(self, stream: Stream) -> Run:
        """Which registry a watch was of: the first that served after it began, or while it did."""
        later = [run for run in self.runs if run.ended >= stream.began.at]
        return later[0] if later else self.runs[-1]

    def troubled(self, who: str, began: float, ended: float, *also: str) -> bool:
        """Whether something was wrong with somebody, the registry, or one of `also`, between two times."""
        whose = {who, "registry", *also}
        return any(each.who in whose and each.began <= ended and began <= each.ended for each in self.troubles)

    def deaf(self, began: float, ended: float) -> float:
        """Seconds between two times that the registry surely did not listen, and that leases get back."""
        paused = [each for each in self.troubles if each.kind == "pause" and each.who == "registry"]
        long = [each for each in paused if each.ended - each.began > self.rules.deaf_after]
        return sum(max(0.0, min(ended, each.ended) - max(began, each.began)) for each in long)

    def absent(self, began: float, ended: float) -> float:
        """Seconds between two times that the registry may not have listened, at most."""
        paused = [
            each for each in self.troubles if each.who == "registry" and each.began <= ended and began <= each.ended
        ]
        return sum(each.ended - each.began + self.rules.tick for each in paused)

    def committed_at(self, log: Log, revision: int) -> float:
        """When a revision was committed, where that was noted; else when it was first seen."""
        if self.rules.watched_commits:
            commit = self._commit_of.get(revision)
            return commit.ended if commit is not None else float("inf")
        return log.when(revision)

    def judged_at(self, log: Log, revision: int) -> float:
        """When it was decided that a revision should be: at the earliest, as far as is known."""
        if self.rules.watched_commits and (commit := self._commit_of.get(revision)) is not None:
            return commit.began
        return log.when(revision) - self.rules.slack

    @functools.cached_property
    def renewals(self) -> dict[str, list[tuple[Renew, str, int | None]]]:
        """Renewals by lease, each with what was said of it and the load that it told."""
        found: dict[str, list[tuple[Renew, str, int | None]]] = {}
        for renew in self.renews:
            for lease, status, load in zip(renew.leases, renew.statuses, renew.executions, strict=False):
                found.setdefault(lease, []).append((renew, status, load))
        return found

    @functools.cached_property
    def _commit_of(self) -> dict[int, Committed]:
        found: dict[int, Committed] = {}
        last = 0
        for commit in sorted((each for each in self.commits if each.well), key=lambda each: each.revision):
            found.update((revision, commit) for revision in range(last + 1, commit.revision + 1))
            last = max(last, commit.revision)
        return found

    def _of(self, kind: type[_F]) -> list[_F]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def _interned(self, shown: Iterable[Shown]) -> tuple[Shown, ...]:
        """One object for all that are equal, so that views compare fast. What is volatile in them is dropped."""
        return tuple(self._same.setdefault(each, each) for each in shown)

    def _streams(self) -> list[Stream]:
        streams: dict[int, Stream] = {}
        for fact in self.facts:
            if isinstance(fact, WatchBegan):
                streams[fact.number] = Stream(fact)
            elif isinstance(fact, WatchTold):
                streams[fact.number].told.append(self._whole(fact))
            elif isinstance(fact, WatchEnded):
                streams[fact.number].ended = fact
        return sorted(streams.values(), key=lambda each: (each.began.at, each.began.number))

    def _whole(self, told: WatchTold) -> WatchTold:
        changes = tuple(
            replace(each, shown=self._interned((each.shown,))[0]) if each.shown is not None else each
            for each in told.changes
        )
        return replace(told, shown=self._interned(told.shown), changes=changes)

    def _learn(self) -> None:
        """Folds every watch and takes in every snapshot."""
        bases: dict[tuple[Wanted, Place], View] = {}
        for call in self.discovers:
            if call.place is not None:
                view = {shown.key: shown for shown in call.shown}
                revision = call.place.revision
                known = Known(call.place.store, revision, revision, view, call.ended, f"{call.who}'s Discover")
                self._take(call.wanted, known)
                bases.setdefault((call.wanted, call.place), view)
        for stream in self.streams:
            wanted, after = stream.began.wanted, stream.began.after
            for known in stream.fold(bases.get((wanted, after)) if after is not None else None):
                self._take(wanted, known)
                bases[wanted, Place(known.store, known.last)] = known.view
            if wanted.whole:
                for told in stream.told:
                    if told.kind == "changes":
                        self.log(told.place.store).step(told)
        for log in self.logs.values():
            log.sight(self._sightings(log.store))
            log.bury()

    def _take(self, wanted: Wanted, known: Known) -> None:
        self.views.append((wanted, known))
        if wanted.whole:
            self.log(known.store).learn(known)

    def _sightings(self, store: str) -> list[tuple[float, int]]:
        """When somebody had an answer at which revision."""
        answers = [(call.ended, call.place) for call in self.calls if call.place is not None]
        for stream in self.streams:
            died = self.run_of(stream).ended  # what is read after that was said before
            answers += [(min(told.at, died), told.place) for told in stream.told]
        return sorted((at, place.revision) for at, place in answers if place.store == store)


def _runs(started: list[Started], stopped: list[Stopped]) -> list[Run]:
    runs = []
    for number, start in enumerate(started):
        end = next((each for each in stopped if each.at >= start.began), None)
        following = started[number + 1].began if number + 1 < len(started) else float("inf")
        over = end if end is not None and end.at <= following else None
        runs.append(
            Run(
                number,
                start.began,
                start.at,
                start.kept,
                over.at if over is not None else following,
                over is not None and over.killed,
            )
        )
    return runs


def _when(fact: Any) -> float:
    return float(fact.at if hasattr(fact, "at") else fact.ended)
