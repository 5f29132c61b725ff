"""Ownership: a lease's id is the proof, its owner's alone, and what became of it is said."""

from __future__ import annotations

from collections.abc import Iterator

from atomesh.testing.history.evidence import Evidence
from atomesh.testing.history.facts import Asked
from atomesh.testing.history.leases import Lease
from atomesh.testing.history.log import Log
from atomesh.testing.history.violation import Violation

ACCEPTED = ("RENEWED", "OK")
UNKNOWN = ("UNKNOWN", "UNKNOWN_LEASE")


def uses(evidence: Evidence) -> Iterator[tuple[str, Asked, str]]:
    """Every use of a lease that was answered: which, the call, and what was said of it."""
    for renew in evidence.renews:
        for lease, status in zip(renew.leases, renew.statuses, strict=False):
            yield lease, renew, status
    answered = ("OK", "UNKNOWN_LEASE", "SUPERSEDED")
    yield from ((call.lease, call, call.outcome) for call in evidence.updates if call.outcome in answered)
    yield from ((call.lease, call, call.outcome) for call in evidence.deregisters if call.outcome in answered)


def owners_only(evidence: Evidence) -> Iterator[Violation]:
    """Nothing is done with an id that was never granted, or whose lease is over."""
    for name, call, said in uses(evidence):
        if said not in ACCEPTED:
            continue
        lease = evidence.leases.by_name.get(name)
        if lease is None:
            yield Violation(call.ended, f"{_what(call)} is accepted with {name}, which was never granted")
        elif why := evidence.leases.gone_by(lease, call.began) or _expired(evidence, lease, call.began):
            yield Violation(call.ended, f"{_what(call)} is accepted with {name}, which {why}")


def owners_heard(evidence: Evidence) -> Iterator[Violation]:
    """Whoever holds a live lease is not refused."""
    for name, call, said in uses(evidence):
        lease = evidence.leases.by_name.get(name)
        if said in ACCEPTED or lease is None:
            continue
        if evidence.leases.alive_until(lease, call.began, call.ended):
            yield Violation(call.ended, f"{_what(call)} with {name} is answered with {said}, and it is live")


def superseded_said(evidence: Evidence) -> Iterator[Violation]:
    """Whoever was followed by a newer instance is told so, after restarts too, and nobody else is."""
    newest = {log.store: _supersessions(evidence, log) for log in evidence.logs.values()}
    for name, call, said in uses(evidence):
        lease = evidence.leases.by_name.get(name)
        if lease is None:
            if said == "SUPERSEDED":
                yield Violation(call.ended, f"{_what(call)} with {name}, never granted, is answered with SUPERSEDED")
            continue
        place = lease.register.place
        known = newest.get(place.store, {}) if place is not None else {}
        if said == "SUPERSEDED":
            if not _rival(evidence, lease, call.ended):
                yield Violation(call.ended, f"{_what(call)} with {name} is answered with SUPERSEDED, by nobody")
            elif name in known and place is not None:
                later = evidence.log(place.store).superseded_since(
                    known[name] + 1, evidence.seen_before(place, call.began)
                )
                if later > evidence.rules.superseded_kept:
                    what = f"{later} others were superseded since, and {evidence.rules.superseded_kept} are remembered"
                    yield Violation(call.ended, f"{_what(call)} with {name} is answered with SUPERSEDED; {what}")
        elif said in UNKNOWN and name in known:
            revision = known[name]
            log = evidence.log(place.store) if place is not None else None
            lost = any(not run.kept and run.began <= call.ended for run in evidence.runs[1:])
            later = log.superseded_since(revision, unknown=1) if log is not None else 0
            if log is None or lost or log.when(revision) >= call.began or later >= evidence.rules.superseded_kept:
                continue
            what = f"{_what(call)} with {name} is answered with {said}; it was superseded in revision {revision}"
            yield Violation(call.ended, what)


def kept_secret(evidence: Evidence) -> Iterator[Violation]:
    """No answer gives away a lease's id, other than to whom it is granted."""
    for call in evidence.calls:
        if call.secrets:
            yield Violation(call.ended, f"{_what(call)} is answered with the ids of {', '.join(call.secrets)}")
    for stream in evidence.streams:
        for told in stream.told:
            if told.secrets:
                yield Violation(told.at, f"{stream.name} is told the ids of {', '.join(told.secrets)}")


def _supersessions(evidence: Evidence, log: Log) -> dict[str, int]:
    """Leases that were superseded, each with the revision in which it was."""
    found = {}
    for revision, step in log.steps.items():
        for change in step:
            old = log.states.get(revision - 1, {}).get(change.key)
            lease = evidence.leases.shown(old)
            if change.reason == "SUPERSEDED" and lease is not None and lease.register.done:
                found[lease.register.lease] = revision
    return found


def _rival(evidence: Evidence, lease: Lease, by: float) -> bool:
    """Whether another instance may have registered at its address by a time."""
    own = lease.register
    return any(
        claim.spec.instance != own.spec.instance and claim.began <= by and evidence.leases.latest(claim) >= own.began
        for claim in evidence.leases.claims[lease.key]
    )


def _expired(evidence: Evidence, lease: Lease, by: float) -> str:
    """Whether it was seen to expire before a time."""
    place = lease.register.place
    if place is None:
        return ""
    log = evidence.log(place.store)
    revision = log.gone.get(str(lease.register.number))
    return f"ended in revision {revision}" if revision is not None and log.when(revision) < by else ""


def _what(call: Asked) -> str:
    return f"{call.who}'s {type(call).__name__} (call {call.number})"
