"""Seconds as floats, to and from protobuf's Timestamp and Duration, without a way to fail.

A message off the wire may hold any number in either field. The float is held
within the bounds that the two types themselves define (years 1 to 9999;
10,000 years), so that one hostile sender's number can always be sent on.
"""

from __future__ import annotations

import math

from google.protobuf import duration_pb2, timestamp_pb2

YEAR_10000 = 253_402_300_800
"""Unix seconds, where a Timestamp and a datetime end."""
_YEARS_1_TO_9999 = (-62_135_596_800, YEAR_10000 - 1)
_TEN_THOUSAND_YEARS = 315_576_000_000
_NANO = 1_000_000_000


def from_timestamp(proto: timestamp_pb2.Timestamp) -> float:
    """Unix seconds."""
    return _within(proto.seconds + proto.nanos / _NANO, *_YEARS_1_TO_9999)


def from_duration(proto: duration_pb2.Duration) -> float:
    """Seconds."""
    return _within(proto.seconds + proto.nanos / _NANO, -_TEN_THOUSAND_YEARS, _TEN_THOUSAND_YEARS)


def to_timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    """Unix seconds as a Timestamp, to the nearest nanosecond."""
    proto = timestamp_pb2.Timestamp()
    set_timestamp(proto, seconds)
    return proto


def set_timestamp(proto: timestamp_pb2.Timestamp, seconds: float) -> None:
    """Sets a Timestamp in place to Unix seconds; on the path of every call, where a copy would cost."""
    seconds = _within(seconds, *_YEARS_1_TO_9999)
    whole = math.floor(seconds)
    nanos = round((seconds - whole) * _NANO)
    proto.seconds, proto.nanos = (whole, nanos) if nanos < _NANO else (whole + 1, 0)


def to_duration(seconds: float) -> duration_pb2.Duration:
    """Seconds as a Duration, to the nearest nanosecond."""
    proto = duration_pb2.Duration()
    proto.FromNanoseconds(_nanoseconds(_within(seconds, -_TEN_THOUSAND_YEARS, _TEN_THOUSAND_YEARS)))
    return proto


def set_duration(proto: duration_pb2.Duration, seconds: float) -> None:
    """Sets a Duration in place to seconds, to the nearest nanosecond; where many are written, a copy of each would cost."""
    seconds = _within(seconds, -_TEN_THOUSAND_YEARS, _TEN_THOUSAND_YEARS)
    whole = int(seconds)  # towards zero: both parts have one sign
    nanos = round((seconds - whole) * _NANO)
    if abs(nanos) == _NANO:
        whole, nanos = whole + nanos // _NANO, 0
    proto.seconds, proto.nanos = whole, nanos


def _within(seconds: float, lowest: int, highest: int) -> float:
    """Held within the bounds; what is not a number is 0."""
    if lowest <= seconds <= highest:
        return seconds
    return 0.0 if math.isnan(seconds) else float(min(max(seconds, lowest), highest))


def _nanoseconds(seconds: float) -> int:
    # The parts apart: seconds of today times 10^9 are beyond a double's 53 bits.
    whole = math.floor(seconds)
    return whole * _NANO + round((seconds - whole) * _NANO)
