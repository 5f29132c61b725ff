"""Watches: each selector's own view of the changes, ordered, each once.

As etcd's watch: ordered, unique, reliable, atomic (all changes of one revision
in one step), resumable, bookmarkable. What cannot be kept is said: a watcher
whose queue is full gets a Reset with the state at that moment instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from atomesh.core.selector import Selector
from atomesh.core.updates import Added, Change, Changed, Removed, RemovedReason, ResetReason
from atomesh.registry.operations import Transition


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Changes:
    """What one revision changed for a selector: one object for all its watchers, so that it is encoded once."""

    revision: int
    changes: tuple[Change, ...]


class Watcher:
    """One watch: what waits to be told, at most `limit` changes of it."""

    def __init__(self, selector: Selector, limit: int) -> None:
        """Begins with nothing to tell; `restart` or `offer` give it something."""
        self.selector = selector
        self._limit = limit
        self._queue: deque[Changes] = deque()
        self._size = 0
        self._reset: ResetReason | None = None

    def restart(self, reason: ResetReason) -> None:
        """All that waits is void: next comes a snapshot of whatever is true then."""
        self._queue.clear()
        self._size = 0
        self._reset = reason

    def offer(self, changes: Changes) -> None:
        """What a revision means to this watcher waits to be told."""
        if self._reset is not None:
            return  # the snapshot to come shows it
        if self._size + len(changes.changes) > self._limit:
            self.restart(ResetReason.SLOW_WATCHER)
            return
        self._queue.append(changes)
        self._size += len(changes.changes)

    def take(self) -> ResetReason | Changes | None:
        """What to tell next: a snapshot for this reason, the changes of one revision, or nothing."""
        if self._reset is not None:
            reason, self._reset = self._reset, None
            return reason
        if not self._queue:
            return None
        changes = self._queue.popleft()
        self._size -= len(changes.changes)
        return changes


def seen(selector: Selector, number: int, transitions: Iterable[Transition]) -> Changes | None:
    """What a revision looks like through a selector; None where nothing of it is to be seen."""
    changes = tuple(change for step in transitions if (change := seen_by(selector, step)))
    return Changes(number, changes) if changes else None


def seen_by(selector: Selector, transition: Transition) -> Change | None:
    """What a transition looks like through a selector: entering is Added, leaving is Removed."""
    old, new = transition.old, transition.new
    was = old is not None and selector.matches(old)
    if new is not None and selector.matches(new):
        return Changed(new) if was else Added(new)
    if not was or old is None:
        return None
    reason = transition.reason if new is None else RemovedReason.NO_LONGER_MATCHES
    return Removed(old.agent, old.address, old.instance_id, reason)
