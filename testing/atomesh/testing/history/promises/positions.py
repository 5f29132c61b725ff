"""Positions: said in every answer, never going back, each given to one operation, and none before its commit."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from atomesh.testing.history.evidence import Evidence
from atomesh.testing.history.facts import (
    Asked,
    Deregister,
    GetContract,
    Register,
)
from atomesh.testing.history.values import (
    Place,
)
from atomesh.testing.history.violation import Violation


def said(evidence: Evidence) -> Iterator[Violation]:
    """Every answer carries a store and a revision."""
    for call in evidence.calls:
        if call.done and not isinstance(call, GetContract) and (call.place is None or not call.place.store):
            yield Violation(call.ended, f"{call.who}'s {_name(call)} is answered without a position")
    for stream in evidence.streams:
        for told in stream.told:
            if not told.place.store:
                yield Violation(told.at, f"{stream.name} is told a {told.kind} without a position")


def monotone(evidence: Evidence) -> Iterator[Violation]:
    """Whoever asks after an answer was given hears of a revision at least as high: what was seen stays so.

    So whoever wrote reads what was written, and a change has a revision that
    nobody saw before it was asked for.
    """
    for call in evidence.calls:
        if call.place is None:
            continue
        before = evidence.seen_before(call.place, call.began)
        if call.place.revision < before:
            what = (
                f"{call.who}'s {_name(call)} is answered at revision {call.place.revision}, after somebody saw {before}"
            )
            yield Violation(call.ended, what)
        elif call.place.revision == before and isinstance(call, Register | Deregister):
            what = (
                f"{call.who}'s {_name(call)} is done in revision {before}, which somebody saw before it was asked for"
            )
            yield Violation(call.ended, what)
    for stream in evidence.streams:
        for told in stream.told[:1]:
            before = evidence.seen_before(told.place, stream.began.at)
            if told.kind != "changes" and told.place.revision < before:
                what = f"{stream.name} begins at revision {told.place.revision}, after somebody saw {before}"
                yield Violation(told.at, what)


def used_once(evidence: Evidence) -> Iterator[Violation]:
    """A revision is one operation's: no two that changed something share one, in one process or in two."""
    owner: dict[Place, Asked] = {}
    for call in evidence.calls:
        if call.place is None or not isinstance(call, Register | Deregister):
            continue
        other = owner.setdefault(call.place, call)
        if other is not call:
            what = f"revision {call.place.revision} is given to {other.who}'s {_name(other)} and to {call.who}'s {_name(call)}"
            yield Violation(call.ended, what)


def stores(evidence: Evidence) -> Iterator[Violation]:
    """A store that was kept has its id still, a new one has a new one."""
    ids: list[tuple[str, set[str], float]] = []
    for run in evidence.runs:
        told = {
            call.place.store: call.ended
            for call in evidence.calls
            if call.place is not None and run.served <= call.began and call.ended <= run.ended
        }
        if not told:
            continue
        at = min(told.values())
        if len(told) > 1:
            yield Violation(at, f"one registry answers under {len(told)} store ids")
        for _, before, _ in ids[-1:]:
            if run.kept and before != set(told):
                yield Violation(at, "a registry that kept its store answers under another store id")
            if not run.kept and before & set(told):
                yield Violation(at, "a registry on a new store answers under the old one's id")
        ids.append((f"run {run.number}", set(told), at))


def committed_first(evidence: Evidence) -> Iterator[Violation]:
    """Nothing is answered, and nothing told, at a revision that storage has not committed by then."""
    if not evidence.rules.watched_commits:
        return
    times: list[float] = []
    highest: list[int] = []
    for commit in sorted((each for each in evidence.commits if each.well), key=lambda each: each.ended):
        times.append(commit.ended)
        highest.append(max(commit.revision, highest[-1] if highest else 0))
    answers = [(call.ended, call.place, f"{call.who}'s {_name(call)} is answered") for call in evidence.calls]
    for stream in evidence.streams:
        answers += [(told.at, told.place, f"{stream.name} is told") for told in stream.told]
    for at, place, what in answers:
        place_in_time = bisect.bisect_right(times, at)
        durable = highest[place_in_time - 1] if place_in_time else 0
        if place is not None and place.revision > durable and _one_store(evidence):
            yield Violation(at, f"{what} at revision {place.revision}, and storage has committed {durable} by then")


def _one_store(evidence: Evidence) -> bool:
    return all(run.kept for run in evidence.runs[1:])


def _name(call: Asked) -> str:
    return f"{type(call).__name__} (call {call.number})"
