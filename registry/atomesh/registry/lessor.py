"""Leases: who is alive, by the renewals heard, and when to doubt that.

A lease lasts its ttl from its last renewal, in monotonic time; what wall
clocks do is nothing to it. Three things keep it honest:

- Time in which the registry did not listen (its process stopped, its loop
  blocked) is nobody's fault: every lease gets it back.
- Self-preservation (Netflix Eureka's idea): when more than 15 % of at least 20
  leases are in doubt at once, the network is the likelier culprit. A lease is
  in doubt when it has missed a renewal (less than a third of its ttl is left,
  where owners renew at two thirds), has run out, or expired within the window
  just past. Because a missed renewal counts before the lease runs out, leases
  cut off at one moment are doubted before the first of them would expire.
- Then what runs out is SUSPECT instead of expired, for ten ttls at most. So no
  lease outlives its last renewal by more than eleven ttls and a tick.

One heap entry per lease that counts; a renewal only writes the new deadline,
and the heap learns of it when the old one comes up: O(1) to renew, O(log n) to
grant and to expire, O(n) to judge, and that only when something ran out.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from atomesh.registry.settings import RegistrySettings

MISSED = 1 / 3
"""The share of its ttl that a lease has left when a renewal is surely missed."""


def fingerprint(lease_id: str) -> str:
    """SHA-256 of a lease id, 64 hex digits: all that the registry keeps of it.

    A lease id is a bearer secret of 128 random bits, so a plain hash is enough
    that neither a copy of the store nor a look-up's timing gives one away.
    """
    return hashlib.sha256(lease_id.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True)
class _Lease:
    ttl: float
    deadline: float
    suspect: bool = False
    queued: float = 0.0
    """Its entry in the heap; others of the same lease are void."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What should become of leases that ran out; nothing has, until it is committed."""

    expired: tuple[str, ...] = ()
    suspected: tuple[str, ...] = ()


class Lessor:
    """The leases of one registry, by fingerprint."""

    def __init__(self, settings: RegistrySettings, now: float) -> None:
        """`now` is when it began to listen."""
        self._settings = settings
        self._leases: dict[str, _Lease] = {}
        self._heap: list[tuple[float, str]] = []
        self.recovered: dict[str, None] = {}
        """Leases that were SUSPECT and renewed, until a commit has said so. Not to be changed."""
        self._lapsed: set[str] = set()
        self._expiries: deque[tuple[float, int]] = deque()
        self._listened = now
        self._deaf = 0.0

    def __len__(self) -> int:
        """How many leases there are, suspect ones included."""
        return len(self._leases)

    def __contains__(self, lease: str) -> bool:
        """Whether the lease has neither ended nor been revoked."""
        return lease in self._leases

    def is_suspect(self, lease: str) -> bool:
        """Whether it ran out and was doubted rather than expired."""
        known = self._leases.get(lease)
        return known is not None and known.suspect

    def grant(self, lease: str, ttl: float, now: float, *, suspect: bool = False) -> None:
        """Begins a lease, or after a restart begins it anew with its full ttl."""
        known = self._leases[lease] = _Lease(ttl, self._listen(now) + ttl, suspect)
        self._queue(lease, known)

    def renew(self, lease: str, now: float) -> bool:
        """Whether the lease lasts its full ttl again; False where there is none."""
        heard = self._listen(now)
        known = self._leases.get(lease)
        if known is None:
            return False
        known.deadline = heard + known.ttl
        if known.suspect or lease in self._lapsed:
            if known.suspect:
                self.recovered[lease] = None
            known.suspect = False
            self._lapsed.discard(lease)
            self._queue(lease, known)
        return True

    def revoke(self, lease: str) -> None:
        """Ends a lease; one that is unknown stays so."""
        self._leases.pop(lease, None)
        self._lapsed.discard(lease)
        self.recovered.pop(lease, None)

    def judge(self, now: float) -> Verdict:
        """What ran out, and what should become of it. Asking twice gives the same answer."""
        heard = self._listen(now)
        self._collect(heard)
        if not self._lapsed:
            return Verdict()
        fresh = [lease for lease in sorted(self._lapsed) if not self._leases[lease].suspect]
        worn = [lease for lease in sorted(self._lapsed) if self._leases[lease].suspect]
        if fresh and self._doubtful(heard):
            return Verdict(expired=tuple(worn), suspected=tuple(fresh))
        return Verdict(expired=(*worn, *fresh))

    def carry_out(self, verdict: Verdict, now: float) -> None:
        """The verdict is committed: the expired are gone, the suspected are so unless they renewed meanwhile."""
        heard = self._listen(now)
        plain = sum(not self.is_suspect(lease) for lease in verdict.expired)
        if plain:
            self._expiries.append((heard, plain))
        for lease in verdict.expired:
            self.revoke(lease)
        for lease in verdict.suspected:
            known = self._leases.get(lease)
            if lease in self._lapsed and known is not None:
                known.suspect = True
                self._lapsed.discard(lease)
                self._queue(lease, known)
            elif known is not None:
                self.recovered[lease] = None

    def told(self, recovered: Iterable[str]) -> None:
        """It is committed that these are not SUSPECT any more."""
        for lease in recovered:
            self.recovered.pop(lease, None)

    def _listen(self, now: float) -> float:
        """Time as far as the registry listened: what it slept through does not count."""
        gap = now - self._listened
        if gap > self._settings.deaf_after:
            self._deaf += gap
        self._listened = max(now, self._listened)
        return self._listened - self._deaf

    def _collect(self, heard: float) -> None:
        """Moves what ran out from the heap; what was renewed meanwhile goes back with its real end."""
        while self._heap and self._heap[0][0] <= heard:
            queued, lease = heapq.heappop(self._heap)
            known = self._leases.get(lease)
            if known is None or queued != known.queued:
                continue
            if self._end_of(known) > heard:
                self._queue(lease, known)
            else:
                self._lapsed.add(lease)

    def _end_of(self, known: _Lease) -> float:
        """When it has to be judged: at its deadline, or where it is SUSPECT when that must end."""
        return known.deadline + (known.ttl * self._settings.suspect_ttls if known.suspect else 0.0)

    def _queue(self, lease: str, known: _Lease) -> None:
        known.queued = self._end_of(known)
        heapq.heappush(self._heap, (known.queued, lease))

    def _doubtful(self, heard: float) -> bool:
        """Whether so many are in doubt that the registry should doubt itself."""
        settings = self._settings
        while self._expiries and self._expiries[0][0] <= heard - settings.preservation_window:
            self._expiries.popleft()
        recent = sum(count for _, count in self._expiries)
        total = len(self._leases) + recent
        if total < settings.preservation_minimum:
            return False
        in_doubt = recent + _count_missed(self._leases.values(), heard)
        return in_doubt > settings.preservation_ratio * total


def _count_missed(leases: Iterable[_Lease], heard: float) -> int:
    return sum(lease.deadline - heard < lease.ttl * MISSED for lease in leases)
