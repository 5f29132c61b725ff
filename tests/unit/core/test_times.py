"""Seconds to protobuf's times and back, whatever the number."""

from __future__ import annotations

import math
import random

import pytest
from google.protobuf import duration_pb2, timestamp_pb2

from atomesh.core.times import from_duration, from_timestamp, to_duration, to_timestamp


@pytest.mark.parametrize("seed", range(20))
def test_a_time_of_today_comes_back_to_the_last_bit(seed: int) -> None:
    seconds = random.Random(seed).uniform(1e9, 4e9)
    assert from_timestamp(to_timestamp(seconds)) == seconds
    assert from_duration(to_duration(seconds)) == seconds


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 1e-9, 0.999999999999, -0.25, -1.5, 15.0, 86_400.000000001])
def test_small_times_are_right_to_the_nanosecond_and_stay_so(seconds: float) -> None:
    once = from_duration(to_duration(seconds))
    assert once == pytest.approx(seconds, abs=1e-9)
    assert from_duration(to_duration(once)) == once, "a second trip must not move it further"
    once = from_timestamp(to_timestamp(seconds))
    assert once == pytest.approx(seconds, abs=1e-9)
    assert from_timestamp(to_timestamp(once)) == once, "a second trip must not move it further"


@pytest.mark.parametrize("seconds", [math.inf, -math.inf, math.nan, 1e300, -1e300, 2.0**63])
def test_no_number_fails_to_be_sent(seconds: float) -> None:
    for message in (to_duration(seconds), to_timestamp(seconds)):
        assert message.ToJsonString(), "it must be a valid time by protobuf's own rules"
    assert to_duration(math.nan) == duration_pb2.Duration()


@pytest.mark.parametrize("seconds", [2**63 - 1, -(2**63), 2**53 + 1])
@pytest.mark.parametrize("nanos", [0, 2**31 - 1, -(2**31)])
def test_no_message_fails_to_be_read_and_sent_on(seconds: int, nanos: int) -> None:
    duration = duration_pb2.Duration(seconds=seconds, nanos=nanos)
    assert from_duration(to_duration(from_duration(duration))) == from_duration(duration)
    timestamp = timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)
    assert from_timestamp(to_timestamp(from_timestamp(timestamp))) == from_timestamp(timestamp)


def test_a_negative_duration_has_both_parts_negative() -> None:
    assert to_duration(-1.5) == duration_pb2.Duration(seconds=-1, nanos=-500_000_000)
    assert to_timestamp(-1.5) == timestamp_pb2.Timestamp(seconds=-2, nanos=500_000_000)
