"""Rendezvous hashing: a session's calls go to one endpoint, for as long as it has a slot free.

Every endpoint gets a score for the session, and the highest has it (highest
random weight: Thaler and Ravishankar, "Using Name-Based Mappings to Increase
Hit Rates", 1998); with scores of -slots / ln(u) shares are in proportion to
slots (Schindelhauer and Schomaker, 2005). All clients agree without a word.
When one of n endpoints leaves, only its sessions move, a share of 1/n; they
come back with it. A session whose endpoint is full goes to its second, always
the same. Affinity is a wish and not a promise: keep no state that must be there.

The first is found in O(n), 6 us at 64 equal endpoints and 12 at unequal ones,
the whole ranking only where the first is full; both are remembered for the
sessions seen last. A call without a session goes where the smallest share of
slots is in use.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Collection, Sequence

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.hashing import BITS, stable_hash
from atomesh.balancer.policies.base import NONE_TRIED, Picker
from atomesh.balancer.policies.weighted_least_outstanding import WeightedLeastOutstanding

REMEMBERED = 4096
"""Sessions whose endpoint is remembered: half a megabyte. A session costs a
hash again where a client talks in more of them than that; rankings, which are
longer, are remembered for as many as fill another half."""

_MASK = 2**BITS - 1
_LOG_ALL = BITS * math.log(2)


class Rendezvous:
    """Ranks by address, so that an instance that restarts in its place keeps its sessions."""

    def __init__(self, rng: random.Random) -> None:
        """`rng` is for calls without a session."""
        self._others = WeightedLeastOutstanding(rng)

    def picker(self, candidates: Sequence[Candidate]) -> Picker:
        """A picker over these endpoints."""
        return _Ranked(tuple(candidates), self._others.picker(candidates))


class _Ranked:
    __slots__ = ("_candidates", "_equal", "_first", "_others", "_ranking", "_seeds", "_shares")

    def __init__(self, candidates: tuple[Candidate, ...], others: Picker) -> None:
        self._candidates = candidates
        self._others = others
        # Odd, so that h * seed mod 2^64 is a universal hash (Dietzfelbinger's multiply-shift).
        self._seeds = [stable_hash(candidate.endpoint.address) | 1 for candidate in candidates]
        self._shares = [1 / candidate.slots for candidate in candidates]
        self._equal = len(set(self._shares)) < 2
        size = max(1, len(candidates))
        self._first = functools.lru_cache(REMEMBERED)(self._find_first)
        self._ranking = functools.lru_cache(1 + 16 * REMEMBERED // size)(self._rank)

    def pick(self, now: float, tried: Collection[Candidate] = NONE_TRIED, key: str = "") -> Candidate | None:
        """The first in the session's ranking that has a slot free."""
        if not key or not self._candidates:
            return self._others.pick(now, tried)
        first = self._first(key)
        if first.takes(now) and first not in tried:
            return first
        for candidate in self._ranking(key):
            if candidate.takes(now) and candidate not in tried:
                return candidate
        return None

    def _find_first(self, key: str) -> Candidate:
        if self._equal:  # -1 / ln(u) grows with u: the largest hash wins
            hashed = stable_hash(key)
            hashes = [hashed * seed & _MASK for seed in self._seeds]
            return self._candidates[hashes.index(max(hashes))]
        scores = self._scores(key)
        return self._candidates[scores.index(min(scores))]

    def _rank(self, key: str) -> tuple[Candidate, ...]:
        scores = self._scores(key)
        return tuple(self._candidates[place] for place in sorted(range(len(scores)), key=scores.__getitem__))

    def _scores(self, key: str) -> list[float]:
        """-ln(u) / slots for each, the smallest first; u in (0, 1] is the hash over 2^64."""
        hashed, log = stable_hash(key), math.log
        weighed = zip(self._seeds, self._shares, strict=True)
        return [(_LOG_ALL - log((hashed * seed & _MASK) + 1)) * share for seed, share in weighed]
