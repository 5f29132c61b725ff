"""Leases as a history shows them: who was granted one, what was asked with it, and how long it must and may last."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from atomesh.testing.history.facts import LEFT, LOST, Asked, Deregister, Register, Update
from atomesh.testing.history.values import Key, Shown

if TYPE_CHECKING:
    from atomesh.testing.history.evidence import Evidence


@dataclass(slots=True)
class Lease:
    """What one Register call began. Its lease has no name where the answer was lost."""

    register: Register
    renewed: list[Asked] = field(default_factory=list)
    """Renewals that were answered with RENEWED."""
    perhaps: list[Asked] = field(default_factory=list)
    """Renewals whose answers were lost."""
    goodbyes: list[Deregister] = field(default_factory=list)
    """Not those that were refused."""
    updates: list[Update] = field(default_factory=list)
    """Not those that were refused."""

    @property
    def key(self) -> Key:
        """The agent and the address."""
        return self.register.spec.key

    @property
    def revision(self) -> int:
        """In which it became visible; -1 where nobody was told."""
        return self.register.place.revision if self.register.place is not None else -1


class Leases:
    """All leases, by name and by the call that began them."""

    def __init__(self, evidence: Evidence) -> None:
        """Refused registrations are none."""
        self._evidence = evidence
        self._rules = evidence.rules
        self.by_call: dict[str, Lease] = {}
        self.by_name: dict[str, Lease] = {}
        self.twice: list[Register] = []
        """Registrations that were granted a lease that somebody had."""
        self.claims: dict[Key, list[Register]] = defaultdict(list)
        """Registrations of an address that were not refused, by their beginnings."""
        for register in sorted(evidence.registers, key=lambda call: (call.began, call.number)):
            if not register.refused:
                self._begin(register)
        self._ask()

    def ttl(self, lease: Lease) -> float:
        """Seconds, as granted, or as asked for where nobody was told."""
        return lease.register.granted or lease.register.ttl or self._rules.default_ttl

    def shown(self, shown: Shown | None) -> Lease | None:
        """Whose lease an endpoint is under."""
        return self.by_call.get(shown.call) if shown is not None else None

    def must_last(self, lease: Lease, by: float, *, doubted: bool = False) -> float:
        """Until when it lasts at least, going by what was acknowledged up to a time; `doubted`: until its doubt ends.

        A registry that starts gives all of the ttl, to who had not ended before.
        """
        ttl = self.ttl(lease)
        lasts = ttl * (1 + self._rules.suspect_ttls) if doubted else ttl
        since = lease.register.began
        runs = [run for run in self._evidence.runs if run.kept and lease.register.ended <= run.began <= by]
        for before, run in [(self._evidence.runs[run.number - 1].ended, run) for run in runs if run.number]:
            since = max([since, *(call.began for call in lease.renewed if call.ended <= before)])
            if since + lasts + self._evidence.deaf(since, before) <= before:
                break
            since = run.began
        else:
            since = max([since, *(call.began for call in lease.renewed if call.ended <= by)])
        return since + lasts + self._evidence.deaf(since, by)

    def may_last(self, lease: Lease, by: float, *, doubted: bool = False) -> float:
        """Until when it can be there at most, going by everything that may have been heard of it up to a time."""
        evidence, rules = self._evidence, self._rules
        since, ttl = self.heard_last(lease, by), self.ttl(lease)
        lasts = ttl * (1 + rules.suspect_ttls) + rules.tick if doubted else ttl
        extra = rules.tick + rules.slack
        for trouble in evidence.troubles:
            if trouble.who in ("registry", "disk") and trouble.ended >= since:
                extra += trouble.ended - max(since, trouble.began) + rules.tick + rules.slack
        return since + lasts + extra

    def heard_last(self, lease: Lease, by: float) -> float:
        """The last time, up to a time, at which the registry may have heard of it."""
        heard = [self.latest(lease.register), *(call.ended for call in lease.renewed if call.began <= by)]
        heard += [self.latest(call) for call in lease.perhaps if call.began <= by]
        heard += [run.served for run in self._evidence.runs if run.began <= by and lease.register.began <= run.began]
        return max(heard)

    def latest(self, call: Asked) -> float:
        """When a call was done at the latest, if it was: what was lost may arrive after everybody gave it up."""
        if call.outcome not in (LOST, LEFT):
            return call.ended
        cut = [
            trouble.ended
            for trouble in self._evidence.troubles
            if trouble.who in (call.who, "registry") and trouble.began <= call.ended and call.began <= trouble.ended
        ]
        return max([call.ended, *cut]) + self._rules.straggling

    def gone_by(self, lease: Lease, at: float) -> str:
        """Why it had surely ended at a time; empty where it may not have."""
        if any(call.done and call.ended < at for call in lease.goodbyes):
            return "was given up"
        for claim in self.claims[lease.key]:
            if claim.done and claim.ended < at and claim is not lease.register and self._follows(claim, lease):
                return "was followed by another registration"
        if self._on_lost_store(lease, at):
            return "was of a store that is no more"
        return ""

    def alive_until(self, lease: Lease, began: float, ended: float) -> bool:
        """Whether it surely was there from one time to another: nobody may have ended it, and it cannot have run out."""
        if not lease.register.done or lease.register.ended > began:
            return False
        if any(call.began <= ended for call in lease.goodbyes) or self._on_lost_store(lease, ended):
            return False
        rivals = [call for call in self.claims[lease.key] if call is not lease.register and call.began <= ended]
        if any(not call.done or self._follows(call, lease) for call in rivals):
            return False
        heard = [lease.register.began, *(call.began for call in lease.renewed if call.ended <= began)]
        return max(heard) + self.ttl(lease) > ended

    def _follows(self, claim: Register, lease: Lease) -> bool:
        """Whether it took the address after the lease was granted."""
        place, own = claim.place, lease.register.place
        if place is None or own is None or place.store != own.store:
            return claim.began > lease.register.ended
        return place.revision > own.revision

    def _on_lost_store(self, lease: Lease, at: float) -> bool:
        return any(not run.kept and lease.register.ended < run.began <= at for run in self._evidence.runs[1:])

    def _begin(self, register: Register) -> None:
        lease = Lease(register)
        self.by_call[str(register.number)] = lease
        self.claims[lease.key].append(register)
        if register.done:
            if register.lease in self.by_name:
                self.twice.append(register)
            self.by_name[register.lease] = lease

    def _ask(self) -> None:
        evidence = self._evidence
        for renew in evidence.renews:
            statuses = renew.statuses or ("",) * len(renew.leases)
            for name, status in zip(renew.leases, statuses, strict=False):
                if (lease := self.by_name.get(name)) is None:
                    continue
                if status == "RENEWED":
                    lease.renewed.append(renew)
                elif not renew.done and not renew.refused:
                    lease.perhaps.append(renew)
        for goodbye in evidence.deregisters:
            if not goodbye.refused and goodbye.lease in self.by_name:
                self.by_name[goodbye.lease].goodbyes.append(goodbye)
        for update in evidence.updates:
            if not update.refused and update.lease in self.by_name:
                self.by_name[update.lease].updates.append(update)
