"""What a watch promises, looked at in each watch by itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from atomesh.testing.history.evidence import Evidence
from atomesh.testing.history.facts import (
    WatchTold,
)
from atomesh.testing.history.streams import Stream
from atomesh.testing.history.values import (
    Place,
)
from atomesh.testing.history.violation import Violation


def ordered(evidence: Evidence) -> Iterator[Violation]:
    """Revisions only go up in a watch, each comes once, and all of them are of one store."""
    for stream in evidence.streams:
        for before, told in stream.steps():
            if before is None or (told.kind == "reset" and told.reason == "FOREIGN_POSITION"):
                continue
            there = f"{stream.name} is told of {_said(told)} after {_position(before)}"
            if told.place.store != before.store:
                yield Violation(told.at, f"{there}, of another store, without a Reset that says so")
            elif told.kind == "changes" and told.place.revision <= before.revision:
                yield Violation(told.at, f"{there}: a revision comes again, or the watch goes back in time")
            elif told.place.revision < before.revision:
                yield Violation(told.at, f"{there}: it goes back in time")


def reliable(evidence: Evidence) -> Iterator[Violation]:
    """A watch of everything is told of every revision: each changes something, so none may be left out."""
    for stream in evidence.streams:
        if not stream.began.wanted.whole:
            continue
        for before, told in stream.steps():
            if before is None or told.kind == "reset":
                continue
            first = before.revision + 1
            last = told.place.revision if told.kind == "bookmark" else told.place.revision - 1
            if last >= first:
                missing = f"{first}" if first == last else f"{first} to {last}"
                yield Violation(told.at, f"{stream.name} is told of {_said(told)} and was never told of {missing}")


def folding(evidence: Evidence) -> Iterator[Violation]:
    """Added is what was not there, Changed what was and is another, Removed the instance that was."""
    for stream in evidence.streams:
        for at, what in stream.mistakes:
            yield Violation(at, what)


def begun_rightly(evidence: Evidence) -> Iterator[Violation]:
    """A watch begins with a Reset, or goes on where it was resumed; and says rightly why it did not."""
    for stream in evidence.streams:
        if stream.told:
            yield from _beginning(evidence, stream, stream.told[0])
        for told in stream.told[1:]:
            if told.kind == "reset" and told.reason != "SLOW_WATCHER":
                yield Violation(told.at, f"{stream.name} is reset in the middle, for {told.reason}")


def _beginning(evidence: Evidence, stream: Stream, first: WatchTold) -> Iterator[Violation]:
    after, reason = stream.began.after, first.reason
    said = f"{stream.name}, resumed after {_position(after)}," if after is not None else f"{stream.name}, a new one,"
    if after is None:
        if first.kind != "reset" or reason not in ("FIRST", "SLOW_WATCHER"):
            yield Violation(first.at, f"{said} begins with {_said(first)} and not with a first Reset")
        return
    foreign = after.store != first.place.store or _in_future(evidence, after)
    if foreign and not (first.kind == "reset" and reason == "FOREIGN_POSITION"):
        yield Violation(first.at, f"{said} begins with {_said(first)}: a foreign position needs a Reset that says so")
    elif not foreign and reason == "FOREIGN_POSITION" and after.revision <= first.place.revision:
        yield Violation(first.at, f"{said} is told that its position is foreign, at {_position(first.place)}")
    elif not foreign and reason == "FIRST":
        yield Violation(first.at, f"{said} is reset without a reason")
    elif not foreign and reason == "COMPACTED" and not _compacted(evidence, stream, after, first):
        yield Violation(first.at, f"{said} is told COMPACTED, and fewer changes than are kept came since")


def _in_future(evidence: Evidence, after: Place) -> bool:
    """Whether nobody was ever told of a revision as high as that, not even later."""
    return after.revision > evidence.log(after.store).seen_by(float("inf"))


def _compacted(evidence: Evidence, stream: Stream, after: Place, first: WatchTold) -> bool:
    """Whether the history may have lost a position: too many changes, or a restart, since."""
    run = evidence.run_of(stream)
    log = evidence.log(after.store)
    if run.number > 0 and after.revision <= log.seen_by(run.served):
        # From before this registry ran: only the very last position of the one before can be resumed.
        return after.revision < log.seen_by(run.began) or first.place.revision > after.revision
    steps = [log.steps.get(r) for r in range(after.revision + 1, first.place.revision + 1)]
    known = [len(step) for step in steps if step is not None]
    return len(known) < len(steps) or sum(known) > evidence.rules.history_changes


def slow_said(evidence: Evidence) -> Iterator[Violation]:
    """SLOW_WATCHER is said to whom more changes wait for than its queue holds, and to nobody else."""
    for stream in evidence.streams:
        for before, told in stream.steps():
            if before is None or told.reason != "SLOW_WATCHER" or told.kind != "reset":
                continue
            log = evidence.log(told.place.store)
            steps = [log.steps.get(r) for r in range(before.revision + 1, told.place.revision + 1)]
            waiting = sum(len(step) for step in steps if step is not None)
            if None not in steps and waiting <= evidence.rules.watch_queue:
                what = f"{stream.name} is told that it is too slow, with {waiting} changes waiting"
                yield Violation(told.at, what)


def bounded(evidence: Evidence) -> Iterator[Violation]:
    """What waits for a watcher that does not read is bounded: what is too much becomes a Reset."""
    limit = evidence.rules.watch_queue + evidence.rules.in_transit
    for stream in evidence.streams:
        last = stream.began.at
        for number, told in enumerate(stream.told):
            if told.at - last > evidence.rules.slack and told.kind == "changes":
                waited = _waited(evidence, stream.told[number:])
                if waited > limit:
                    what = f"{stream.name} is told of {waited} changes that waited for it; at most {limit} may"
                    yield Violation(told.at, what)
            last = told.at


def _waited(evidence: Evidence, told: list[WatchTold]) -> int:
    """How many changes that somebody had when the first of these was read come before a Reset."""
    behind = evidence.log(told[0].place.store).seen_by(told[0].at)
    waited = 0
    for each in told:
        if each.kind == "reset" or each.place.revision > behind:
            break
        waited += len(each.changes)
    return waited


def bookmarked(evidence: Evidence) -> Iterator[Violation]:
    """An idle watch is told its position: between two messages lies no more than a bookmark's interval."""
    rules = evidence.rules
    allowed = rules.bookmark_interval + rules.slack
    for stream in evidence.streams:
        run = evidence.run_of(stream)
        until = min(stream.until, evidence.end, run.ended)
        times = [told.at for told in stream.told] or [until]
        for last, following in itertools.pairwise([*times, until]):
            if following - last > allowed and not evidence.troubled(stream.began.who, last, last + allowed):
                what = (
                    f"{stream.name} is told nothing for {following - last:.3f} s; a bookmark is due after {allowed:g}"
                )
                yield Violation(last + allowed, what)


def _said(told: WatchTold) -> str:
    reason = f" ({told.reason})" if told.reason else ""
    return f"{told.kind} {told.place.revision}{reason}"


def _position(place: Place | None) -> str:
    return f"{place.store[:8]}/{place.revision}" if place is not None else "nothing"
