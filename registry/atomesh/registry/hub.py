"""Who watches what: a revision is looked at once per selector, however many watch by it.

Selectors are found by what each of their endpoints must have: the agent, or
where none is named one of the capabilities. So a change costs what concerns
it, and not what there is: one look per selector that could mean it, and one
append per watcher of those that do.
"""

from __future__ import annotations

from typing import TypeAlias

from atomesh.core.endpoint import Endpoint
from atomesh.core.selector import Selector
from atomesh.registry.operations import Revision, Transition
from atomesh.registry.watch import Watcher, seen

_Mark: TypeAlias = tuple[str, str]
"""What all endpoints of a selector have: ("agent", its name), ("capability", one of them), or ("", "")."""

_ANY: _Mark = ("", "")


class Hub:
    """All watchers, found by what they ask for."""

    def __init__(self) -> None:
        """Nobody watches yet."""
        self._groups: dict[_Mark, dict[Selector, dict[Watcher, None]]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many watch."""
        return self._count

    def join(self, watcher: Watcher) -> None:
        """The watcher is told of what comes."""
        groups = self._groups.setdefault(_mark_of(watcher.selector), {})
        groups.setdefault(watcher.selector, {})[watcher] = None
        self._count += 1

    def leave(self, watcher: Watcher) -> None:
        """The watcher is told of nothing more; one that has left stays so."""
        mark = _mark_of(watcher.selector)
        groups = self._groups.get(mark, {})
        watchers = groups.get(watcher.selector, {})
        if watcher not in watchers:
            return
        del watchers[watcher]
        self._count -= 1
        if not watchers:
            del groups[watcher.selector]
        if not groups:
            del self._groups[mark]

    def publish(self, revision: Revision) -> list[Watcher]:
        """Offers a revision to whom it concerns; those."""
        concerned: list[Watcher] = []
        for mark, transitions in self._by_mark(revision.transitions).items():
            for selector, watchers in self._groups[mark].items():
                changes = seen(selector, revision.number, transitions)
                if changes is not None:
                    for watcher in watchers:
                        watcher.offer(changes)
                    concerned += watchers
        return concerned

    def _by_mark(self, transitions: tuple[Transition, ...]) -> dict[_Mark, list[Transition]]:
        """The transitions under each mark that somebody asks for and one of their endpoints has, in their order."""
        marked: dict[_Mark, list[Transition]] = {}
        if not self._groups:
            return marked
        for transition in transitions:
            for mark in dict.fromkeys((*_marks(transition.old), *_marks(transition.new))):
                if mark in self._groups:
                    marked.setdefault(mark, []).append(transition)
        return marked


def _mark_of(selector: Selector) -> _Mark:
    if selector.agent:
        return ("agent", selector.agent)
    return ("capability", selector.capabilities[0]) if selector.capabilities else _ANY


def _marks(endpoint: Endpoint | None) -> list[_Mark]:
    if endpoint is None:
        return []
    return [_ANY, ("agent", endpoint.agent), *(("capability", each.name) for each in endpoint.capabilities)]
