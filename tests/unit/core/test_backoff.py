"""Delays between tries."""

from __future__ import annotations

import random

import pytest

from atomesh.core.backoff import Backoff


@pytest.mark.parametrize("failures", [1, 2, 3, 5, 8, 61, 10**9])
def test_a_delay_lies_in_the_upper_half_of_what_doubling_gives_and_never_above_the_cap(failures: int) -> None:
    backoff, rng = Backoff(base=0.1, cap=2.0), random.Random(failures)
    full = min(2.0, 0.1 * 2.0 ** min(failures - 1, 100))
    delays = [backoff.delay(failures, rng) for _ in range(200)]
    assert all(full / 2 <= delay <= full for delay in delays)
    assert max(delays) - min(delays) > full / 4, "a fleet that lost the same peer must not come back in step"


def test_the_same_seed_gives_the_same_delays() -> None:
    backoff = Backoff(0.1, 2.0)
    first, second = random.Random(7), random.Random(7)
    assert [backoff.delay(n, first) for n in range(1, 9)] == [backoff.delay(n, second) for n in range(1, 9)]
