"""A small model of the registry: every revision is what one known operation must have made of the state before it."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import replace

from atomesh.testing.history.evidence import Evidence
from atomesh.testing.history.facts import Asked, Deregister, Register, Update
from atomesh.testing.history.leases import Lease
from atomesh.testing.history.log import Log
from atomesh.testing.history.streams import View
from atomesh.testing.history.values import Key, Shown
from atomesh.testing.history.violation import Violation


def explained(evidence: Evidence) -> Iterator[Violation]:
    """Every change is somebody's who asked for it and was not refused, and is what was asked for."""
    model = _Model(evidence)
    for log in evidence.logs.values():
        for revision, step in sorted(log.steps.items()):
            last = step[-1] if step else None
            old = log.states.get(revision - 1, {}).get(last.key) if last is not None else None
            if last is None:
                continue
            if last.reason == "DEREGISTERED":
                why = model.farewell(log, revision, old)
            elif last.kind == "added" or (last.shown is not None and old is not None and last.shown.call != old.call):
                why = model.registration(log, revision, last.shown, [change.kind for change in step])
            elif last.kind == "changed" and old is not None and last.shown is not None and not _doubt(old, last.shown):
                why = model.update(log, revision, old, last.shown)
            else:
                why = ""
            if why:
                yield Violation(log.when(revision), f"revision {revision}: {why}")


def effective(evidence: Evidence) -> Iterator[Violation]:
    """What was acknowledged is there in its revision, and stays until somebody asks for something else."""
    for log in evidence.logs.values():
        revisions = sorted(log.states)
        calls: list[Register | Update | Deregister] = [*evidence.registers, *evidence.updates, *evidence.deregisters]
        for call in calls:
            if call.place is None or call.place.store != log.store:
                continue
            for revision in revisions[bisect.bisect_left(revisions, call.place.revision) :][:1]:
                exact = revision == call.place.revision
                if why := _ineffective(evidence, call, log.states[revision], exact=exact):
                    yield Violation(call.ended, f"{_what(call)}, done in {call.place.revision}, {why} at {revision}")


def kept(evidence: Evidence) -> Iterator[Violation]:
    """Whenever somebody looks at all there is, everything is there that was acknowledged and has not ended."""
    newest = _acknowledged(evidence)
    for wanted, known in evidence.views:
        if not wanted.whole:
            continue
        for key, (revisions, leases) in newest.get(known.store, {}).items():
            place = bisect.bisect_right(revisions, known.last)
            if not place:
                continue
            lease, shown = leases[place - 1], known.view.get(key)
            number = str(lease.register.number)
            if shown is None or shown.call != number:
                gone = evidence.log(known.store).gone.get(number, known.last + 1) <= known.last  # judged elsewhere
                if not gone and not _may_be_gone(evidence, lease, known.at):
                    what = f"{known.who} at revision {known.last} does not show {_named(lease.register.spec)}"
                    done = f"acknowledged in {revisions[place - 1]}, and nothing ended it"
                    yield Violation(known.at, f"{what}, {done}")
            elif why := _back_again(lease, known.store, known.first):
                yield Violation(known.at, f"{known.who} at revision {known.last} shows {_named(shown)}, which {why}")


def _acknowledged(evidence: Evidence) -> dict[str, dict[Key, tuple[list[int], list[Lease]]]]:
    """Acknowledged leases by store and key, with their revisions in order. A later one has ended those before."""
    found: dict[str, dict[Key, tuple[list[int], list[Lease]]]] = {}
    for lease in sorted(evidence.leases.by_name.values(), key=lambda lease: lease.revision):
        if lease.register.place is not None:
            revisions, leases = found.setdefault(lease.register.place.store, {}).setdefault(lease.key, ([], []))
            revisions.append(lease.revision)
            leases.append(lease)
    return found


def untouched(evidence: Evidence) -> Iterator[Violation]:
    """What was refused has left no trace, and nobody is shown who never asked to be."""
    refused = {str(call.number): call for call in evidence.registers if call.refused}
    asked = {str(call.number) for call in evidence.registers}
    told: set[str] = set()
    for _, known in evidence.views:
        for shown in known.view.values():
            if shown.call in told or not shown.call:
                continue
            if (call := refused.get(shown.call)) is not None:
                told.add(shown.call)
                what = f"{known.who} shows {_named(shown)}, whose registration was refused ({call.outcome})"
                yield Violation(known.at, what)
            elif shown.call not in asked:
                told.add(shown.call)
                yield Violation(known.at, f"{known.who} shows {_named(shown)}, whom nobody registered")


class _Model:
    """Says why an operation cannot have made a revision; empty where it can."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._registers = {str(call.number): call for call in evidence.registers}
        self._refused: dict[str, list[Update]] = {}
        for update in evidence.updates:
            if update.refused:
                self._refused.setdefault(update.lease, []).append(update)

    def registration(self, log: Log, revision: int, shown: Shown | None, kinds: list[str]) -> str:
        """An endpoint that came, or came again."""
        call = self._registers.get(shown.call) if shown is not None else None
        if shown is None or call is None:
            return "somebody is there whom nobody registered"
        if why := self._timely(call, log, revision):
            return f"{_named(shown)} {why}"
        before = log.states.get(revision - 1)
        old = before.get(shown.key) if before is not None else None
        if before is not None and kinds != (expected := _kinds(old, shown)):
            return f"the registration of {_named(shown)} is told as {kinds}, and should be {expected}"
        again = old is not None and old.instance == shown.instance
        states = {"SERVING"} | ({old.state} if again and old is not None else set()) - {"SUSPECT"}
        asked = replace(call.spec, revision=revision, registered_at=shown.registered_at, state=shown.state)
        if asked != shown or shown.state not in states:
            return f"{_named(shown)} is shown as something else than it registered: {_differs(asked, shown)}"
        return ""

    def farewell(self, log: Log, revision: int, old: Shown | None) -> str:
        """An endpoint that said goodbye."""
        if old is None or (lease := self._evidence.leases.shown(old)) is None:
            return ""
        for call in lease.goodbyes:
            if not self._timely(call, log, revision):
                return ""
        # Whoever was never told its lease cannot have used it.
        return f"{_named(old)} is gone, as if it had said goodbye, and it did not"

    def update(self, log: Log, revision: int, old: Shown, new: Shown) -> str:
        """An endpoint that changed."""
        lease = self._evidence.leases.shown(old)
        updates = lease.updates if lease is not None else []
        timely = [call for call in updates if not self._timely(call, log, revision)]
        if not timely:
            return f"{_named(old)} changed, and its owner did not ask for that"
        if any(_updated(old, new, call) for call in timely):
            return ""
        return f"{_named(old)} changed into something else than its owner asked for: {_differs(old, new)}"

    def _timely(self, call: Asked, log: Log, revision: int) -> str:
        """Why a call cannot have made a revision: it was refused, asked for later, or done in another one."""
        if call.refused:
            return "is there, and was refused"
        if call.began > log.when(revision):
            return "is there before it was asked for"
        if call.place is not None and (call.place.store, call.place.revision) != (log.store, revision):
            return f"is there, and was told revision {call.place.revision}"
        return ""


def _kinds(old: Shown | None, new: Shown) -> list[str]:
    if old is None:
        return ["added"]
    return ["changed"] if old.instance == new.instance else ["removed", "added"]


def _updated(old: Shown, new: Shown, call: Update) -> bool:
    """Whether an update makes one of the other. A lease in doubt hides SERVING."""
    states = {call.state or old.state}
    if "SERVING" in states or "SUSPECT" in states:
        states = {"SERVING", "SUSPECT"}
    slots = old.slots if call.slots is None else call.slots
    labels = old.labels if call.labels is None else call.labels
    asked = replace(old, slots=slots, labels=labels, state=new.state, revision=new.revision)
    return asked == new and new.state in states


def _doubt(old: Shown, new: Shown) -> bool:
    """Whether nothing but the registry's own doubt changed."""
    same = replace(old, state=new.state, revision=new.revision) == new
    return same and old.state != new.state and "SUSPECT" in (old.state, new.state)


def _ineffective(evidence: Evidence, call: Register | Update | Deregister, state: View, *, exact: bool) -> str:
    """Why a state does not have in it what was done; empty where it does, or where it may be gone since."""
    key, number = _whose(evidence, call)
    shown = state.get(key)
    there = shown is not None and shown.call == number
    if isinstance(call, Deregister):
        return "is there still" if there and number else ""
    if not exact or shown is None or not there:
        return "is not there" if exact and number and not there else ""
    if isinstance(call, Update):
        plain = replace(shown, state="SERVING" if shown.state == "SUSPECT" else shown.state)
        if call.slots not in (None, shown.slots) or call.labels not in (None, shown.labels):
            return "does not show the slots or labels that it asked for"
        if call.state not in ("", plain.state):
            return f"is {shown.state}"
    return ""


def _whose(evidence: Evidence, call: Register | Update | Deregister) -> tuple[Key, str]:
    if isinstance(call, Register):
        return call.spec.key, str(call.number)
    lease = evidence.leases.by_name.get(call.lease)
    return (lease.key, str(lease.register.number)) if lease is not None else (("", ""), "")


def _may_be_gone(evidence: Evidence, lease: Lease, at: float) -> bool:
    """Whether something may have ended it by a time: its owner, another at its address, or its ttl."""
    if any(call.began <= at for call in lease.goodbyes):
        return True
    own = lease.register.place
    for claim in evidence.leases.claims[lease.key]:
        older = claim.place is not None and own is not None and claim.place.revision < own.revision
        if claim is not lease.register and claim.began <= at and not (older and claim.done):
            return True
    return at >= evidence.leases.must_last(lease, at) - 1e-6


def _back_again(lease: Lease, store: str, first: int) -> str:
    """Whether it was given up, and acknowledged so, in a revision before the one that shows it."""
    for call in lease.goodbyes:
        if call.place is not None and call.place.store == store and call.place.revision <= first:
            return f"was given up in revision {call.place.revision}"
    return ""


def _differs(one: Shown, other: Shown) -> str:
    names = [name for name in Shown.__dataclass_fields__ if name != "executions"]
    return ", ".join(
        f"{name} {getattr(one, name)!r} and {getattr(other, name)!r}"
        for name in names
        if getattr(one, name) != getattr(other, name)
    )


def _named(shown: Shown) -> str:
    return f"{shown.instance} of {shown.agent} at {shown.address}"


def _what(call: Asked) -> str:
    return f"{call.who}'s {type(call).__name__} (call {call.number})"
