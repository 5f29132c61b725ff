"""The muxes that wait for slots of an agent: one queue over all of them, and the grants that are out.

First come, first served, over all muxes together: waits are those of one
central queue, and nobody is fairer than that without knowing what calls cost.
A mux has at most PLACES in it per slot, so that one client's flood is ahead of
others by so many calls and no more. Demands are levels: a mux that wants fewer
than it has places in the queue loses those in front, at once, for its calls that
have waited longest are those that were placed elsewhere. Were such a place left
to the next call that waits there, that call would overtake everybody.
"""

from __future__ import annotations

from collections import deque

from atomesh.rpc.mux.slots import GRANT_SECONDS, MUTE_SECONDS, Claim

PLACES = 4
"""Places per slot that a mux may have in the queue. At 1 a client with a burst has
its places too late, and waits longer than in one central queue (1.4 times at p99
from a cold start); at 16 nothing is better, and a flood is ahead for longer."""
MIN_PLACES = 8
_SWEEP = 64  # void places that are not worth a sweep


class Demands:
    """Who waits for a grant, and who has one. `now` is monotonic seconds."""

    __slots__ = ("_out", "_places", "_queue", "granted", "waiting")

    def __init__(self, slots: int) -> None:
        """Nobody."""
        self._places = max(MIN_PLACES, PLACES * slots)
        self._queue: deque[tuple[float, Claim]] = deque()
        self._out: deque[tuple[float, Claim]] = deque()
        self.waiting = 0
        """Demands that could be granted: those of muxes that are neither mute nor barred, and some of barred ones."""
        self.granted = 0
        """Grants that are out."""

    def want(self, claim: Claim, waiting: int, now: float) -> None:
        """So many demands of the mux wait from now on."""
        waiting = max(0, min(waiting, self._places))
        self.waiting += waiting - claim.waiting
        if waiting < claim.waiting:
            claim.void += claim.waiting - waiting
        else:
            self._queue.extend([(now, claim)] * (waiting - claim.waiting))
        claim.waiting = waiting
        if len(self._queue) > 2 * self.waiting + _SWEEP:
            self._sweep()

    def first_since(self) -> float | None:
        """Since when the one who is next has waited; None where nobody does."""
        queue = self._queue
        while queue:
            since, claim = queue[0]
            if claim.void:
                queue.popleft()
                claim.void -= 1
            elif claim.barred:
                self.want(claim, 0, since)  # it states its demands anew with its next frame
            else:
                return since
        return None

    def grant(self, now: float) -> Claim:
        """Grants a slot to the one who is next; there is one."""
        _, claim = self._queue.popleft()
        claim.waiting -= 1
        self.waiting -= 1
        self.granted += 1
        claim.granted += 1
        claim.out.append(now)
        self._out.append((now, claim))
        return claim

    def use(self, claim: Claim) -> bool:
        """A grant of the mux comes back, used or not; False where it had lapsed.

        One is as good as another: as long as one is out it is that one. Were it one
        that lapsed and was lost on its way, each later one would be late by it, and
        lapse in its turn.
        """
        if claim.out:
            claim.lapses = 0
            claim.out.popleft()
            self.granted -= 1
            return True
        if claim.lapsed:
            claim.lapses = 0
            claim.lapsed -= 1
            return False
        return False

    def lapse(self, now: float) -> bool:
        """Takes back the grants that were not used in time; whether there were any."""
        found = False
        while self._out and (self._stale() or self._out[0][0] + GRANT_SECONDS <= now):
            made, claim = self._out.popleft()
            if claim.out and claim.out[0] == made:
                claim.out.popleft()
                claim.lapsed += 1
                self.granted -= 1
                if not claim.mute:
                    claim.mute_until = now + _mute_seconds(claim.lapses)
                    claim.lapses += 1
                claim.mute = found = True
                self.want(claim, 0, now)
        return found

    def next_lapse(self) -> float | None:
        """When the oldest grant that is out lapses."""
        while self._out and self._stale():
            self._out.popleft()
        return self._out[0][0] + GRANT_SECONDS if self._out else None

    def gone(self, claim: Claim) -> None:
        """The mux has ended."""
        self.want(claim, 0, 0.0)
        self.granted -= len(claim.out)
        claim.out.clear()

    def _sweep(self) -> None:
        """Throws out void places; of each mux those in front."""
        kept: deque[tuple[float, Claim]] = deque()
        for place in self._queue:
            if place[1].void:
                place[1].void -= 1
            else:
                kept.append(place)
        self._queue = kept

    def _stale(self) -> bool:
        """Whether the oldest entry is of a grant that came back."""
        made, claim = self._out[0]
        return not claim.out or claim.out[0] > made


def _mute_seconds(lapses: int) -> float:
    """Seconds that a mux is mute at least which has let grants lapse so many times before; the first time is forgiven."""
    return min(MUTE_SECONDS, GRANT_SECONDS * 2 ** min(lapses, 10)) if lapses else 0.0
