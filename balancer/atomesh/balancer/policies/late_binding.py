"""Late binding: a call is bound to an endpoint when one has a slot for it, and no earlier.

While nobody waits, a call goes at once where a slot is believed free: to the
heaviest endpoint, then to the one with the largest share of its slots free. A
wrong belief costs one refusal of a round trip. Where all are taken the call
stays with the client, and a demand goes to every endpoint; the first slot that
comes free anywhere is granted to it (see `atomesh.rpc.mux`). So no call waits
behind a slow one while another endpoint is idle, and waits are those of one
central queue: under costs that differ a thousandfold their p99 is within a
third of it, where two random choices are at 5 to 90 times.

With many slots free, calls are packed onto one endpoint: its frames hold more
of them, and each costs less.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from atomesh.balancer.candidate import LOAD_NEWS_SECONDS, Candidate
from atomesh.balancer.policies.base import NONE_TRIED, Picker

LATE_BINDING = "late_binding"

PACKED_FREE = 32
"""Free slots from which on an endpoint is gone on with. Half would pack agents of
ordinary size, whose executions share a processor; twice spreads what could
travel together."""


class LateBinding:
    """Keeps where the last scan began, and the endpoint that is being packed."""

    def __init__(self, rng: random.Random) -> None:
        """Begins anywhere: clients that all began with the first would meet there."""
        self._start = rng.randrange(1 << 16)
        self.packed: Candidate | None = None

    def picker(self, candidates: Sequence[Candidate]) -> Picker:
        """A picker over these endpoints."""
        made = _Free(self, tuple(candidates))
        if self.packed is not None and (self.packed not in candidates or self.packed.weight < made.heaviest):
            self.packed = None
        return made

    def next_start(self, size: int) -> int:
        """Where the next scan begins."""
        self._start = (self._start + 1) % size
        return self._start


class _Free:
    __slots__ = ("_candidates", "_policy", "_twice", "heaviest")

    def __init__(self, policy: LateBinding, candidates: tuple[Candidate, ...]) -> None:
        self._policy = policy
        self._candidates = candidates
        self.heaviest = max((candidate.weight for candidate in candidates), default=0.0)
        self._twice = candidates + candidates  # so that a rotated scan is one slice

    def pick(self, now: float, tried: Collection[Candidate] = NONE_TRIED, key: str = "") -> Candidate | None:
        """One that is believed to have a slot free: the heaviest, then the one with the largest share free."""
        size = len(self._candidates)
        if not size:
            return None
        fresh = now - LOAD_NEWS_SECONDS
        packed = self._policy.packed
        if packed is not None and packed.free(fresh) >= PACKED_FREE and packed.takes(now) and packed not in tried:
            return packed
        start = self._policy.next_start(size)
        best: Candidate | None = None
        most = weight = 0.0
        for candidate in self._twice[start : start + size]:
            # Candidate.takes and Candidate.free, inlined: this loop is the price of every call.
            own, slots = candidate.in_flight, candidate.slots
            if own >= slots or candidate.shut_until > now or (own and candidate.ejection.probing):
                continue
            share = (slots - own - candidate.others if candidate.others_at > fresh else slots - own) / slots
            if share <= 0 or candidate.weight < weight:
                continue
            if (share > most or candidate.weight > weight) and (not tried or candidate not in tried):
                best, most, weight = candidate, share, candidate.weight
                if share == 1 and weight >= self.heaviest:
                    break  # nothing is freer than all of it
        if best is not None and best.free(fresh) >= PACKED_FREE:
            self._policy.packed = best
        return best
