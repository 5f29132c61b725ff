"""Quantiles of latencies: right within a bucket's width, and of late."""

import math
import random

import pytest

from atomesh.balancer.quantiles import HALF_LIFE_SECONDS, OCTAVES, PER_OCTAVE, SHORTEST, LatencyQuantiles

NOW = 1_000.0
WIDTH = 2 ** (1 / PER_OCTAVE)


def of(*samples: float, now: float = NOW) -> LatencyQuantiles:
    made = LatencyQuantiles()
    for seconds in samples:
        made.record(seconds, now)
    return made


def test_of_nothing_everything_is_zero() -> None:
    empty = LatencyQuantiles()
    assert (empty.p50, empty.p95, empty.mean, empty.weight(NOW)) == (0, 0, 0, 0)


@pytest.mark.parametrize("seconds", [2e-5, 0.0003, 0.1, 0.125, 1.0, 37.5, 999.0])
def test_one_sample_is_every_quantile_within_a_bucket(seconds: float) -> None:
    one = of(seconds)
    for share in (0.01, 0.5, 0.95, 1.0):
        assert seconds / WIDTH <= one.quantile(share) <= seconds * WIDTH
    assert one.mean == pytest.approx(seconds)


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_are_those_of_the_sorted_samples_within_a_bucket(seed: int) -> None:
    rng = random.Random(seed)
    samples = [rng.lognormvariate(-3, 2) for _ in range(2_000)]
    found = of(*samples)
    samples.sort()
    for share in (0.1, 0.5, 0.9, 0.95, 0.99):
        exact = samples[int(share * len(samples))]
        assert exact / WIDTH < found.quantile(share) < exact * WIDTH
    assert found.mean == pytest.approx(sum(samples) / len(samples))


@pytest.mark.parametrize("seed", range(3))
def test_quantiles_grow_with_their_share(seed: int) -> None:
    rng = random.Random(seed)
    found = of(*(rng.lognormvariate(-3, 2) for _ in range(300)))
    read = [found.quantile(n / 100) for n in range(1, 101)]
    assert read == sorted(read)


def test_what_lies_outside_of_the_buckets_counts_in_the_first_or_the_last() -> None:
    assert of(0.0, 1e-9).p50 <= SHORTEST
    longest = SHORTEST * 2**OCTAVES
    assert of(1e6).p50 == pytest.approx(longest, rel=0.1)


def test_a_sample_counts_half_after_a_half_life() -> None:
    old = of(*(0.1 for _ in range(100)))
    assert old.weight(NOW) == pytest.approx(100)
    assert old.weight(NOW + HALF_LIFE_SECONDS) == pytest.approx(50)
    later = NOW + 3 * HALF_LIFE_SECONDS
    for _ in range(20):  # against 12.5 that are left of a hundred
        old.record(10.0, later)
    assert old.p50 > 9
    assert old.mean == pytest.approx((12.5 * 0.1 + 20 * 10) / 32.5)


def test_quantiles_do_not_fade_only_what_they_rest_on_does() -> None:
    quiet = of(*(0.2 for _ in range(50)))
    assert quiet.weight(NOW + 100 * HALF_LIFE_SECONDS) < 1e-20
    assert quiet.p95 == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("gap", [100 * HALF_LIFE_SECONDS, 1e9])
def test_after_a_long_silence_only_what_came_since_counts_and_nothing_overflows(gap: float) -> None:
    found = of(*(5.0 for _ in range(1_000)))
    found.record(0.1, NOW + gap)
    assert found.p95 == pytest.approx(0.1, rel=0.1)
    assert found.mean == pytest.approx(0.1)
    assert found.weight(NOW + gap) == pytest.approx(1)


def test_over_months_of_steady_calls_the_weights_stay_finite_and_right() -> None:
    found = LatencyQuantiles()
    for hour in range(24 * 90):
        found.record(0.1 if hour % 20 else 1.0, NOW + hour * 3600)
    assert found.weight(NOW + 24 * 90 * 3600) < 2
    busy = LatencyQuantiles(half_life=10)
    for tick in range(20_000):
        busy.record(0.1, NOW + tick / 10)
    assert busy.weight(NOW + 1_999.9) == pytest.approx(10 * 10 / math.log(2), rel=0.01), "rate times time constant"


def test_a_clock_that_goes_back_loses_nothing() -> None:
    found = of(0.1)
    found.record(0.1, NOW - 30)
    assert found.p50 == pytest.approx(0.1, rel=0.1)
