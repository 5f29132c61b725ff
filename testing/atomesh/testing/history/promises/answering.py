"""Answers: in time, for a reason, to everybody who should be told, and not before a registry is warm."""

from __future__ import annotations

from collections.abc import Iterator

from atomesh.testing.history.evidence import Evidence, Run
from atomesh.testing.history.facts import (
    LOST,
    UNAVAILABLE,
    Asked,
    Deregister,
    Discover,
    GetContract,
    Register,
    Renew,
    Update,
    WatchTold,
)
from atomesh.testing.history.streams import Stream
from atomesh.testing.history.values import Shown
from atomesh.testing.history.violation import Violation

_REASONS: dict[type[Asked], tuple[str, ...]] = {
    Register: ("INCOMPATIBLE_CONTRACT", UNAVAILABLE),
    Update: ("UNKNOWN_LEASE", "SUPERSEDED", UNAVAILABLE),
    Deregister: ("UNKNOWN_LEASE", "SUPERSEDED", UNAVAILABLE),
    GetContract: ("NOT_FOUND", "UNKNOWN_AGENT", UNAVAILABLE),
    Renew: (UNAVAILABLE,),
    Discover: (UNAVAILABLE,),
}


def for_a_reason(evidence: Evidence) -> Iterator[Violation]:
    """What is right in itself is refused only for what the promises name; UNAVAILABLE only where something is wrong."""
    for call in evidence.calls:
        if not call.refused or (call.outcome == "INVALID_ARGUMENT" and _wrong(evidence, call)):
            continue
        if call.outcome not in _REASONS[type(call)]:
            yield Violation(call.ended, f"{_what(call)} is answered with {call.outcome}")
        elif call.outcome == UNAVAILABLE and not evidence.troubled("disk", call.began, call.ended):
            yield Violation(call.ended, f"{_what(call)} is refused as unavailable, and nothing is wrong")
    for stream in evidence.streams:
        if stream.ended is None or stream.ended.why == "left":
            continue
        at = stream.ended.at
        if not evidence.troubled(stream.began.who, stream.began.at, at) or stream.ended.why not in (
            "ended",
            LOST,
            UNAVAILABLE,
        ):
            yield Violation(at, f"{stream.name} ends with {stream.ended.why}, and nothing is wrong")


def checked(evidence: Evidence) -> Iterator[Violation]:
    """What is wrong in itself is refused: ttls out of bounds, addresses that nobody can dial, the registry's own words."""
    for call in evidence.calls:
        if call.done and (wrong := _wrong(evidence, call)):
            yield Violation(call.ended, f"{_what(call)} is done, with {wrong}")


def _wrong(evidence: Evidence, call: Asked) -> str:
    """What is wrong in a request; empty where nothing is."""
    rules = evidence.rules
    if isinstance(call, Register):
        if call.ttl and not rules.min_ttl <= call.ttl <= rules.max_ttl:
            return f"a ttl of {call.ttl:g} s"
        if call.spec.address.startswith("0.0.0.0:"):
            return f"the address {call.spec.address}"
    if isinstance(call, Update):
        if call.state == "SUSPECT":
            return "the state SUSPECT, which is the registry's own word"
        if call.slots == 0:
            return "no slots"
    return ""


def in_time(evidence: Evidence) -> Iterator[Violation]:
    """Where nothing is wrong, everybody is answered."""
    for call in evidence.calls:
        late = call.outcome == LOST or (call.done and call.ended - call.began > evidence.rules.slack)
        excused = evidence.troubled(call.who, call.began, call.ended, *(["disk"] if _writes(call) else []))
        if late and not excused and not _cold(evidence, call.began):
            said = "not answered" if call.outcome == LOST else "answered"
            yield Violation(
                call.ended, f"{_what(call)} is {said} after {call.ended - call.began:.3f} s, and nothing is wrong"
            )


def complete(evidence: Evidence) -> Iterator[Violation]:
    """Every renewal of a batch is answered."""
    for call in evidence.renews:
        if call.done and len(call.statuses) != len(call.leases):
            yield Violation(call.ended, f"{_what(call)} of {len(call.leases)} leases has {len(call.statuses)} statuses")


def told_soon(evidence: Evidence) -> Iterator[Violation]:
    """A watcher who reads is told of what was acknowledged, at once."""
    slack = evidence.rules.slack
    for call in (*evidence.registers, *evidence.updates, *evidence.deregisters):
        if call.place is None:
            continue
        log, revision = evidence.log(call.place.store), call.place.revision
        before, after = log.states.get(revision - 1), log.states.get(revision)
        if revision not in log.steps or before is None or after is None:
            continue
        for stream in evidence.streams:
            if not _listens(evidence, stream, call.ended, call.ended + slack):
                continue
            wanted = stream.began.wanted
            if evidence.project(wanted, before) == evidence.project(wanted, after):
                continue
            if not any(told.place.revision >= revision for told in _told_by(stream, call.ended + slack)):
                what = f"{stream.name} is not told of revision {revision}, acknowledged at {call.ended:.3f} s"
                yield Violation(call.ended + slack, what)


def warm(evidence: Evidence) -> Iterator[Violation]:
    """A restarted registry shows nobody before it has heard of everybody, or has waited for so long."""
    for run in evidence.runs[1:]:
        if not run.kept:
            continue
        until = run.began + evidence.rules.warm_within
        shown = [(c.ended, _what(c), c.shown) for c in evidence.discovers if c.done and run.served <= c.began]
        shown += [
            (told.at, stream.name, told.shown)
            for stream in evidence.streams
            if stream.began.at >= run.served
            for told in stream.told[:1]
        ]
        for at, who, endpoints in shown:
            unheard = [each for each in endpoints if not _heard(evidence, run, each, at)] if at < until - 1e-6 else []
            if unheard and at <= run.ended:
                yield Violation(
                    at, f"{who} shows {unheard[0].instance}, of whom the registry has not heard since its start"
                )


def _heard(evidence: Evidence, run: Run, shown: Shown, by: float) -> bool:
    """Whether the registry may have heard of an endpoint since its start."""
    lease = evidence.leases.shown(shown)
    if lease is None or evidence.leases.latest(lease.register) >= run.began:
        return True
    calls = [*lease.renewed, *lease.perhaps, *lease.updates]
    return any(call.began <= by and evidence.leases.latest(call) >= run.began for call in calls)


def _listens(evidence: Evidence, stream: Stream, began: float, ended: float) -> bool:
    """Whether a watch had begun, reads, and has not ended, for all of a time."""
    first = stream.told[0].at if stream.told else float("inf")
    run = evidence.run_of(stream)
    return (
        first <= began
        and ended < min(stream.until, run.ended)
        and not evidence.troubled(stream.began.who, began, ended)
    )


def _told_by(stream: Stream, at: float) -> list[WatchTold]:
    return [told for told in stream.told if told.at <= at][-1:]


def _cold(evidence: Evidence, at: float) -> bool:
    """Whether a registry may hold its answers at a time, for having started anew."""
    hold = evidence.rules.warm_within + evidence.rules.slack
    return any(run.began <= at <= run.served + hold for run in evidence.runs[1:])


def _writes(call: Asked) -> bool:
    return isinstance(call, Register | Update | Deregister)


def _what(call: Asked) -> str:
    return f"{call.who}'s {type(call).__name__} (call {call.number})"
