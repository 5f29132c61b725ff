"""Watches folded: what each watcher knew, and from which revision to which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from atomesh.testing.history.facts import (
    Change,
    WatchBegan,
    WatchEnded,
    WatchTold,
)
from atomesh.testing.history.values import (
    Key,
    Place,
    Shown,
)

View = dict[Key, Shown]
"""All that a selector shows, by agent and address."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a selector showed from one revision of a store to another, both included, as `who` knew at `at`."""

    store: str
    first: int
    last: int
    view: View
    at: float
    who: str


@dataclass(slots=True)
class Stream:
    """One watch from its beginning to its end."""

    began: WatchBegan
    told: list[WatchTold] = field(default_factory=list)
    ended: WatchEnded | None = None
    mistakes: list[tuple[float, str]] = field(default_factory=list)
    """What does not fit what was told before: when, and what."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.began.who}'s watch {self.began.number}"

    @property
    def until(self) -> float:
        """When it ended; for ever where it did not."""
        return self.ended.at if self.ended is not None else float("inf")

    def steps(self) -> Iterator[tuple[Place | None, WatchTold]]:
        """Each message with the position before it: that of the one before, or from which it was resumed."""
        before = self.began.after
        for told in self.told:
            yield before, told
            before = told.place

    def fold(self, base: View | None) -> list[Known]:
        """What it knew after each message, on top of what was known where it was resumed (None: unknown)."""
        self.mistakes.clear()
        known: list[Known] = []
        view = None if base is None else dict(base)
        for before, told in self.steps():
            if told.kind == "reset":
                view = {shown.key: shown for shown in told.shown}
                known.append(
                    Known(told.place.store, told.place.revision, told.place.revision, view, told.at, self.name)
                )
                continue
            if view is None or before is None or before.store != told.place.store:
                continue
            if told.kind == "changes":
                known.append(Known(before.store, before.revision, told.place.revision - 1, view, told.at, self.name))
                view = self._changed(view, told)
                known.append(Known(before.store, told.place.revision, told.place.revision, view, told.at, self.name))
            else:
                known.append(Known(before.store, before.revision, told.place.revision, view, told.at, self.name))
        return known

    def _changed(self, view: View, told: WatchTold) -> View:
        after = dict(view)
        for change in told.changes:
            if why := _misfit(after, change):
                self.mistakes.append((told.at, f"{self.name} is told at revision {told.place.revision} {why}"))
            if change.shown is None:
                after.pop(change.key, None)
            else:
                after[change.key] = change.shown
        return after


def _misfit(view: View, change: Change) -> str:
    """Why a change cannot be one to this view; empty where it can."""
    agent, address = change.key
    old = view.get(change.key)
    if change.kind == "added" and old is not None:
        return f"that {agent} at {address} is added, which it knew already"
    if change.kind == "changed" and old is None:
        return f"that {agent} at {address} changed, which it did not know"
    if change.kind == "removed":
        if old is None:
            return f"that {agent} at {address} is gone, which it did not know"
        if old.instance != change.instance:
            return f"that {change.instance} of {agent} at {address} is gone, where it knew {old.instance}"
    new = change.shown
    if change.kind == "changed" and old is not None and new is not None and replace(old, revision=new.revision) == new:
        return f"that {agent} at {address} changed, and nothing of it did"
    return ""
