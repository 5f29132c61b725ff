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
from atomesh.registry.operations import Revision, Transition


@dataclass(frozen=True, slots=True)
class Changes:
    """What one revision changed for a selector."""

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

    @property
    def waiting(self) -> bool:
        """Whether there is something to tell."""
        return self._reset is not None or bool(self._queue)

    def restart(self, reason: ResetReason) -> None:
        """All that waits is void: next comes a snapshot of whatever is true then."""
        self._queue.clear()
        self._size = 0
        self._reset = reason

    def offer(self, revision: int, transitions: Iterable[Transition]) -> bool:
        """Whether a revision means anything to this watcher; it then waits to be told."""
        changes = tuple(change for step in transitions if (change := seen_by(self.selector, step)))
        if not changes:
            return False
        if self._reset is not None:
            return True  # the snapshot to come shows it
        if self._size + len(changes) > self._limit:
            self.restart(ResetReason.SLOW_WATCHER)
            return True
        self._queue.append(Changes(revision, changes))
        self._size += len(changes)
        return True

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


class Hub:
    """All watchers, found by the agent that they ask for."""

    def __init__(self) -> None:
        """Nobody watches yet."""
        self._watchers: dict[str, dict[Watcher, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many watch."""
        return self._count

    def join(self, watcher: Watcher) -> None:
        """The watcher is told of what comes."""
        self._watchers.setdefault(watcher.selector.agent, {})[watcher] = None
        self._count += 1

    def leave(self, watcher: Watcher) -> None:
        """The watcher is told of nothing more; one that has left stays so."""
        watchers = self._watchers.get(watcher.selector.agent, {})
        if watcher not in watchers:
            return
        del watchers[watcher]
        self._count -= 1
        if not watchers:
            del self._watchers[watcher.selector.agent]

    def publish(self, revision: Revision) -> list[Watcher]:
        """Offers a revision to whom it may concern; those that it does concern."""
        by_agent: dict[str, list[Transition]] = {}
        for transition in revision.transitions:
            by_agent.setdefault(transition.agent, []).append(transition)
        concerned = [w for w in self._watchers.get("", ()) if w.offer(revision.number, revision.transitions)]
        for agent, transitions in by_agent.items():
            concerned += [w for w in self._watchers.get(agent, ()) if w.offer(revision.number, transitions)]
        return concerned
