"""Leases: how long they last at least, and at most; what SUSPECT means, and when a registry may doubt itself."""

from __future__ import annotations

from collections.abc import Iterator

from atomesh.testing.history.evidence import Evidence
from atomesh.testing.history.facts import Discover, Renew
from atomesh.testing.history.leases import Lease
from atomesh.testing.history.log import Log
from atomesh.testing.history.values import Shown
from atomesh.testing.history.violation import Violation

_HIDES_DOUBT = ("DRAINING", "NOT_SERVING")
"""States that are shown whether or not the lease is in doubt."""
_ROUNDING = 1e-6
_ANY = 1_000_000
"""More leases than there are."""


def granted(evidence: Evidence) -> Iterator[Violation]:
    """A lease has the ttl that was asked for, or the registry's own; its id is nobody else's."""
    for call in evidence.registers:
        asked = call.ttl or evidence.rules.default_ttl
        if call.done and abs(call.granted - asked) > _ROUNDING:
            yield Violation(call.ended, f"{call.who} asks for a lease of {asked:g} s and is granted {call.granted:g} s")
    for call in evidence.leases.twice:
        yield Violation(call.ended, f"{call.who} is granted {call.lease}, which somebody had before")


def not_early(evidence: Evidence) -> Iterator[Violation]:
    """No lease ends, or is doubted, before its ttl from its last renewal, counted from when that was asked for.

    A registry that did not listen gives that time back, one that starts gives
    all of it, and a lease in doubt has ten ttls more (`suspect_ttls`).
    """
    for log, revision, old, new in _judged(evidence):
        lease = evidence.leases.shown(old)
        if lease is None or (new is not None and new.state != "SUSPECT"):
            continue
        at = log.when(revision)
        decided = min(at, evidence.judged_at(log, revision))  # whoever renews while that is committed is too late
        until = evidence.leases.must_last(lease, decided, doubted=new is None and old.state == "SUSPECT")
        if at + _ROUNDING < until:
            what = "is doubted" if new is not None else "expires"
            yield Violation(at, f"{_named(old)} {what} in revision {revision}; its lease lasts until {until:.3f} s")


def not_late(evidence: Evidence) -> Iterator[Violation]:
    """A lease that nobody renews ends within a tick; one in doubt, after as many ttls as that may last."""
    for call in evidence.discovers:
        for shown in call.shown:
            lease = evidence.leases.shown(shown)
            if lease is None or not call.done:
                continue
            doubted = shown.state == "SUSPECT" or shown.state in _HIDES_DOUBT
            until = evidence.leases.may_last(lease, call.ended, doubted=doubted)
            if call.began > until:
                what = f"{_named(shown)} is shown {shown.state}; its lease was over by {until:.3f} s"
                yield Violation(call.began, what)


def heard_again(evidence: Evidence) -> Iterator[Violation]:
    """Whoever renews is doubted no more."""
    if evidence.rules.probing:
        return
    for call in evidence.discovers:
        for shown in call.shown:
            lease = evidence.leases.shown(shown) if shown.state == "SUSPECT" else None
            if lease is None:
                continue
            settled = [each for each in lease.renewed if each.ended + evidence.rules.slack < call.began]
            last = max(settled, key=lambda each: each.ended, default=None)
            if last is None or evidence.troubled("disk", last.began, call.ended):
                continue
            if call.ended < last.began + evidence.leases.ttl(lease):
                yield Violation(call.ended, f"{_named(shown)} is SUSPECT still, renewed at {last.ended:.3f} s")


def enough_to_doubt(evidence: Evidence) -> Iterator[Violation]:
    """Leases are doubted only where there are enough of them, and too many ran out, or nearly, at once."""
    rules = evidence.rules
    if rules.probing:
        return
    for log, revision, old, new in _judged(evidence):
        if new is None or new.state != "SUSPECT" or revision - 1 not in log.states:
            continue
        at, held = log.when(revision), log.states[revision - 1]
        gone = _expired(evidence, log, revision, at - rules.preservation_window - rules.slack - evidence.deaf(0, at))
        total = len(held) + gone
        if total < rules.preservation_minimum:
            what = f"{_named(old)} is doubted among {total} leases; below {rules.preservation_minimum} expiry is plain"
            yield Violation(at, what)
        decided = min(at, evidence.judged_at(log, revision))
        doubtful = gone + sum(_may_be_in_doubt(evidence, shown, decided, at) for shown in held.values())
        if doubtful <= rules.preservation_ratio * total:
            yield Violation(at, f"{_named(old)} is doubted, with at most {doubtful} of {total} leases in doubt")


def doubts_itself(evidence: Evidence) -> Iterator[Violation]:
    """Where enough leases ran out, or nearly, at once, they are doubted and do not expire."""
    rules = evidence.rules
    for log, revision, old, new in _judged(evidence):
        if new is not None or old.state != "SERVING" or revision - 1 not in log.states:
            continue
        at, held = evidence.committed_at(log, revision), log.states[revision - 1]
        since = at - rules.preservation_window
        if at == float("inf") or evidence.troubled("disk", since - rules.slack, at):
            continue
        gone = _expired(evidence, log, revision, since + rules.slack, plain=True)
        total = len(held) + gone
        doubtful = gone + sum(_must_be_in_doubt(evidence, shown, at) for shown in held.values())
        if total >= rules.preservation_minimum and doubtful > rules.preservation_ratio * total:
            yield Violation(at, f"{_named(old)} expires, with at least {doubtful} of {total} leases in doubt")


def says_doubt(evidence: Evidence) -> Iterator[Violation]:
    """A registry that doubts leases says so, and one that does not does not."""
    for call in evidence.discovers:
        states = {shown.state for shown in call.shown}
        if not call.done or evidence.rules.probing:
            continue
        if "SUSPECT" in states and not call.doubting:
            yield Violation(
                call.ended, f"{call.who} is shown SUSPECT endpoints by a registry that says it doubts nothing"
            )
        if call.doubting and call.wanted.whole and states <= {"SERVING"}:
            yield Violation(call.ended, f"{call.who} is told that the registry doubts itself, and nobody is SUSPECT")


def told_loads(evidence: Evidence) -> Iterator[Violation]:
    """Discover shows the load that the last renewal told, or one that was lost and came after it."""
    for call in evidence.loads:
        run = evidence.run_at(call.ended)  # who asked while none ran was answered by the next
        for shown in call.shown if run is not None else ():
            lease = evidence.leases.shown(shown)
            told = _loads(evidence, lease, run.served, call) if lease is not None and run is not None else []
            if told and (shown.executions is None or shown.executions < min(told)):
                what = f"{_named(shown)} is shown with {shown.executions} executions; its owner told {told[0]}"
                yield Violation(call.ended, what)


def _loads(evidence: Evidence, lease: Lease, served: float, call: Discover) -> list[int]:
    """What may be shown at least: the load that was told last, and those of lost renewals that may have come later."""
    name = lease.register.lease
    renewed = [
        (each, load)
        for each, status, load in evidence.renewals.get(name, ())
        if status == "RENEWED" and served <= each.began and each.ended < call.began and load is not None
    ]
    if not renewed:
        return []
    last, told = max(renewed, key=lambda pair: pair[0].ended)
    strayed = [each for each in lease.perhaps if evidence.leases.latest(each) >= last.began and isinstance(each, Renew)]
    return [told, *(load for each in strayed for load in each.executions if load is not None)]


def _judged(evidence: Evidence) -> Iterator[tuple[Log, int, Shown, Shown | None]]:
    """Endpoints that expired, were doubted, or are no longer: what they were and what they are."""
    for log in evidence.logs.values():
        for revision, step in sorted(log.steps.items()):
            before = log.states.get(revision - 1, {})
            for change in step:
                old = before.get(change.key)
                if old is None:
                    continue
                if change.reason == "EXPIRED" or (change.shown is not None and _doubt_only(old, change.shown)):
                    yield log, revision, old, change.shown


def _doubt_only(old: Shown, new: Shown) -> bool:
    return old.call == new.call and {old.state, new.state} == {"SERVING", "SUSPECT"}


def _expired(evidence: Evidence, log: Log, before: int, since: float, *, plain: bool = False) -> int:
    """How many expired in earlier revisions, since a time; `plain`: only those that surely were not in doubt before."""
    count = 0
    for revision in range(before - 1, 0, -1):
        if (evidence.committed_at(log, revision) if plain else log.when(revision)) < since:
            break
        if revision not in log.steps and not plain:
            return _ANY  # nobody has told of it: it may have been anything
        for change in log.steps.get(revision, ()):
            old = log.states.get(revision - 1, {}).get(change.key)
            if change.reason == "EXPIRED" and not (plain and (old is None or old.state != "SERVING")):
                count += 1
    return count


def _may_be_in_doubt(evidence: Evidence, shown: Shown, heard: float, at: float) -> bool:
    """Whether it may have missed a renewal by a time, going by those that were answered up to another."""
    lease = evidence.leases.shown(shown)
    if lease is None:
        return True
    ttl = evidence.leases.ttl(lease)
    return at + evidence.rules.slack > evidence.leases.must_last(lease, heard) - ttl / 3


def _must_be_in_doubt(evidence: Evidence, shown: Shown, at: float) -> bool:
    """Whether it surely has missed a renewal by a time."""
    lease = evidence.leases.shown(shown)
    if lease is None:
        return False
    ttl = evidence.leases.ttl(lease)
    since = evidence.leases.heard_last(lease, at)
    return at - evidence.rules.slack > since + ttl * 2 / 3 + evidence.absent(since, at)


def _named(shown: Shown) -> str:
    return f"{shown.instance} of {shown.agent} at {shown.address}"
