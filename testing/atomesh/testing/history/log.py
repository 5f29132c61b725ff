"""One store, as far as witnesses know it: its state at each revision, what each changed, and when it was first seen."""

from __future__ import annotations

import bisect

from atomesh.testing.history.facts import Change, WatchTold
from atomesh.testing.history.streams import Known, View


class Log:
    """One store: its state, and what changed, at every revision of which somebody with the whole view told."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.states: dict[int, View] = {}
        self.steps: dict[int, tuple[Change, ...]] = {}
        self.quarrels: list[tuple[float, str]] = []
        """Where witnesses say different things of one revision: when, and what."""
        self.gone: dict[str, int] = {}
        """Registrations, by their calls, whose endpoints were seen to go, and in which revision."""
        self._seen_revisions: list[int] = []
        self._seen_times: list[float] = []

    def learn(self, known: Known) -> None:
        """A whole view is the state. The first witness stands; others are held against it elsewhere."""
        for revision in range(known.first, known.last + 1):
            self.states.setdefault(revision, known.view)

    def step(self, told: WatchTold) -> None:
        """What one revision changed, all of it."""
        said = self.steps.setdefault(told.place.revision, told.changes)
        if said != told.changes:
            what = (
                f"revision {told.place.revision} was told as different changes: {_brief(said)}, {_brief(told.changes)}"
            )
            self.quarrels.append((told.at, what))

    def bury(self) -> None:
        """Once all is learnt: who went when."""
        for revision, step in self.steps.items():
            before, after = self.states.get(revision - 1, {}), self.states.get(revision, {})
            for change in step:
                old, new = before.get(change.key), after.get(change.key)
                if old is not None and (new is None or new.call != old.call):
                    self.gone[old.call] = revision

    def superseded_since(self, first: int, last: int | None = None, *, unknown: int = 0) -> int:
        """How many were superseded from one revision to another; one of which nobody told counts as `unknown`."""
        end = int(self.seen_by(float("inf"))) if last is None else last
        return sum(_superseded(self.steps.get(revision), unknown) for revision in range(first, end + 1))

    def sight(self, sightings: list[tuple[float, int]]) -> None:
        """Sorted by time; only those that are further than all before them count."""
        for at, revision in sightings:
            if not self._seen_revisions or revision > self._seen_revisions[-1]:
                self._seen_revisions.append(revision)
                self._seen_times.append(at)

    def seen_by(self, at: float) -> int:
        """The highest revision that an answer had had by then; -1 where there was none."""
        place = bisect.bisect_right(self._seen_times, at)
        return self._seen_revisions[place - 1] if place else -1

    def when(self, revision: int) -> float:
        """When an answer first was at this revision or a later one; never: infinity."""
        place = bisect.bisect_left(self._seen_revisions, revision)
        return self._seen_times[place] if place < len(self._seen_times) else float("inf")


def _superseded(step: tuple[Change, ...] | None, unknown: int) -> int:
    return unknown if step is None else sum(change.reason == "SUPERSEDED" for change in step)


def _brief(changes: tuple[Change, ...]) -> str:
    return ", ".join(f"{each.kind} {each.key[0]} at {each.key[1]}" for each in changes) or "nothing"
