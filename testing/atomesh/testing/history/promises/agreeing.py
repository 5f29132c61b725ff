"""What all who looked must agree on: one state per revision, and one operation per revision."""

from __future__ import annotations

from collections.abc import Iterator

from atomesh.testing.history.evidence import Evidence
from atomesh.testing.history.facts import (
    Change,
)
from atomesh.testing.history.log import Log
from atomesh.testing.history.streams import View
from atomesh.testing.history.values import (
    Key,
    Shown,
)
from atomesh.testing.history.violation import Violation


def agreeing(evidence: Evidence) -> Iterator[Violation]:
    """Whoever looks at a revision, by whatever selector and by whatever way, sees the same state."""
    for log in evidence.logs.values():
        for at, what in log.quarrels:
            yield Violation(at, what)
    seen: dict[tuple[object, str, int], View] = {}
    for wanted, known in evidence.views:
        log = evidence.log(known.store)
        for revision in range(known.first, known.last + 1):
            if revision not in log.states:
                continue
            place = (wanted, known.store, revision)
            if place not in seen:
                seen[place] = evidence.project(wanted, log.states[revision])
            if known.view != seen[place]:
                what = f"{known.who} shows revision {revision} with {_difference(known.view, seen[place])}"
                yield Violation(known.at, what)
                break


def snapshots_sorted(evidence: Evidence) -> Iterator[Violation]:
    """A snapshot is ordered by agent, then address, and has each endpoint once."""
    shown = [(call.ended, f"{call.who}'s Discover", call.shown) for call in evidence.discovers]
    for stream in evidence.streams:
        shown += [(told.at, stream.name, told.shown) for told in stream.told if told.kind == "reset"]
    for at, who, endpoints in shown:
        keys = [each.key for each in endpoints]
        if keys != sorted(set(keys)):
            yield Violation(at, f"{who} shows endpoints out of order, or twice")


def one_operation(evidence: Evidence) -> Iterator[Violation]:
    """A revision is what one operation changed, whole: nothing more, and nothing left for the next."""
    for log in evidence.logs.values():
        for revision, step in sorted(log.steps.items()):
            if why := _no_operation(log, revision, step):
                yield Violation(log.when(revision), f"revision {revision} is no operation's: {why}")


def _no_operation(log: Log, revision: int, step: tuple[Change, ...]) -> str:
    before = log.states.get(revision - 1, {})
    kinds = [(each.kind, each.reason) for each in step]
    if kinds in ([("added", "")], [("removed", "SUPERSEDED"), ("added", "")], [("removed", "DEREGISTERED")]):
        if len(kinds) == 2 and step[0].key != step[1].key:
            return "the one that came is at another address than the one that was superseded"
        return ""
    if kinds == [("changed", "")]:
        return _no_change(before.get(step[0].key), step[0].shown)
    judged = [each for each in step if (each.kind, each.reason) == ("removed", "EXPIRED") or _doubt(before, each)]
    if len(judged) != len(step) or not step:
        return f"its changes are {kinds}"
    return "" if len({each.key for each in step}) == len(step) else "one endpoint changes twice"


def _no_change(old: Shown | None, new: Shown | None) -> str:
    """What cannot be changed in an endpoint, apart from a registration that is said again."""
    if old is None or new is None or old.call != new.call:
        return ""
    fixed = ("instance", "version", "capabilities", "zone", "metadata", "contract", "registered_at", "idempotent")
    changed = [name for name in fixed if getattr(old, name) != getattr(new, name)]
    return f"{', '.join(changed)} of an endpoint changed without a registration" if changed else ""


def _doubt(before: View, change: Change) -> bool:
    """Whether it only becomes SUSPECT, or no longer is."""
    old, new = before.get(change.key), change.shown
    if change.kind != "changed" or new is None:
        return False
    return old is None or "SUSPECT" in (old.state, new.state)


def numbered(evidence: Evidence) -> Iterator[Violation]:
    """An endpoint shows the revision of its last change, never one that is still to come, and with it what it is."""
    for log in evidence.logs.values():
        for revision, step in sorted(log.steps.items()):
            for change in step:
                if change.shown is not None and change.shown.revision != revision:
                    what = f"{_named(change.key)} changes in revision {revision} and shows {change.shown.revision}"
                    yield Violation(log.when(revision), what)
    first: dict[tuple[str, Key, int], Shown] = {}
    for _, known in evidence.views:
        for shown in known.view.values():
            if shown.revision > known.last:
                what = f"{known.who} shows {_named(shown.key)} of revision {shown.revision} at revision {known.last}"
                yield Violation(known.at, what)
            if first.setdefault((known.store, shown.key, shown.revision), shown) != shown:
                what = f"{known.who} shows {_named(shown.key)} of revision {shown.revision} as others did not"
                yield Violation(known.at, what)


def _difference(seen: View, true: View) -> str:
    for key in sorted({*seen, *true}):
        if seen.get(key) != true.get(key):
            return f"{_named(key)} {_state(seen.get(key))}, which others saw {_state(true.get(key))}"
    return "nothing wrong"


def _state(shown: Shown | None) -> str:
    return "not there" if shown is None else f"{shown.state} of {shown.instance} since {shown.revision}"


def _named(key: Key) -> str:
    return f"{key[0]} at {key[1]}"
