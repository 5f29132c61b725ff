"""How long an agent's calls take, of late: median, p95 and mean out of a fixed handful of numbers.

Samples are counted in buckets whose bounds grow by 2^(1/8), so that a quantile
is wrong by 9 % at most (HdrHistogram's idea; less, as it is interpolated). A sample counts
half as much after each half-life: each is entered with a weight that grows with
time, and only ratios of weights are read ("forward decay": Cormode et al.,
"Forward Decay: A Practical Time Decay Model for Streaming Systems", 2009). So
recording is O(1), reading O(buckets), and nothing is ever shifted; once in
fifty time constants the weights are scaled down.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate

SHORTEST = 1e-5
"""Seconds; the first bucket ends here. Nothing in Python over a socket is done sooner."""
PER_OCTAVE = 8
OCTAVES = 27
"""Up to 1,342 s, 217 buckets in all; what takes longer counts as that. At half
as many per octave p95 is wrong by up to 19 %; twice costs a read twice."""
HALF_LIFE_SECONDS = 60.0
"""Half follows the latest burst; twice still tells of an endpoint that was taken
away two minutes ago. At one call per second 87 samples have a say."""

_BUCKETS = PER_OCTAVE * OCTAVES + 1
_SCALE = PER_OCTAVE / math.log(2)
_OFFSET = 1 - math.log(SHORTEST) * _SCALE
_MOST_CONSTANTS = 50.0  # e^50 times the first weight: far from what a float can hold, and scaled rarely


class LatencyQuantiles:
    """Durations in seconds. `now` is monotonic seconds."""

    __slots__ = ("_buckets", "_origin", "_seconds", "_tau", "_total")

    def __init__(self, half_life: float = HALF_LIFE_SECONDS) -> None:
        """Nothing was recorded; `half_life` in seconds."""
        self._tau = half_life / math.log(2)
        self._buckets = [0.0] * _BUCKETS
        self._origin = 0.0
        self._total = 0.0
        self._seconds = 0.0

    def record(self, seconds: float, now: float) -> None:
        """Takes a sample."""
        age = (now - self._origin) / self._tau
        if age > _MOST_CONSTANTS:
            self._scale(math.exp(-age))
            self._origin, age = now, 0.0
        weight = math.exp(age)
        place = int(_OFFSET + math.log(seconds) * _SCALE) if seconds > SHORTEST else 0
        self._buckets[min(place, _BUCKETS - 1)] += weight
        self._total += weight
        self._seconds += weight * seconds

    def weight(self, now: float) -> float:
        """How many samples it rests on, each as far as it counts still."""
        return self._total * math.exp((self._origin - now) / self._tau)

    def quantile(self, share: float) -> float:
        """Seconds that this share of samples took at most; 0 where there are none."""
        if not self._total:
            return 0.0
        upto = list(accumulate(self._buckets))
        wanted = share * upto[-1]
        place = min(bisect_left(upto, wanted), _BUCKETS - 1)
        if not place:
            return SHORTEST
        inside = (wanted - upto[place - 1]) / self._buckets[place] if self._buckets[place] else 1.0
        return float(SHORTEST * 2.0 ** ((place - 1 + min(1.0, inside)) / PER_OCTAVE))

    @property
    def p50(self) -> float:
        """The median, in seconds."""
        return self.quantile(0.5)

    @property
    def p95(self) -> float:
        """What one in twenty exceeds, in seconds."""
        return self.quantile(0.95)

    @property
    def mean(self) -> float:
        """Seconds; exact, but for the decay. 0 where there are no samples."""
        return self._seconds / self._total if self._total else 0.0

    def _scale(self, factor: float) -> None:
        self._buckets = [weight * factor for weight in self._buckets]
        self._total = sum(self._buckets)
        self._seconds *= factor
