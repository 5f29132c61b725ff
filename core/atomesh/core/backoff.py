"""When to try again: exponential, jittered, capped.

Jitter over the whole upper half keeps a fleet that lost the same peer from
coming back in step (AWS Architecture Blog, "Exponential Backoff And Jitter",
2015: equal jitter).
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds: `base`, doubled by each failure, at most `cap`."""

    base: float
    cap: float

    def delay(self, failures: int, rng: random.Random) -> float:
        """How long to wait after so many failures in a row (1 or more)."""
        # 2**1023 is the last that a float holds; the cap is reached long before.
        full = min(self.cap, self.base * 2.0 ** min(failures - 1, 60))
        return full * (0.5 + rng.random() / 2)
