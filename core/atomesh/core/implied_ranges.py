"""Ranges: every value that the producer's bounds let through lies within the consumer's.

As protovalidate has it, an upper bound below the lower one turns the range
inside out: what lies between the two is refused. Not-a-number breaks every
bound.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from math import inf
from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor

from atomesh.core.places import Gap, Place

Number: TypeAlias = int | float
Bound: TypeAlias = tuple[Number, int]
"""A value and 0; 1 just above it, -1 just below it."""
Span: TypeAlias = tuple[Bound, Bound]

_INT32, _INT64 = range(-(2**31), 2**31), range(-(2**63), 2**63)
_UINT32, _UINT64 = range(2**32), range(2**64)
INTEGERS = {
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
}
_MOMENTS = ("google.protobuf.Duration", "google.protobuf.Timestamp")


def range_gap(given: Place, taken: Place) -> Gap | None:
    """What the consumer's bounds refuse of the producer's values but zero."""
    wanted = taken.type_rules
    if not _bounded(wanted) and not getattr(wanted, "finite", False):
        return None
    within, stated = spans(taken), spans(given)
    nonzero = map(_without_zero, stated) if given.field.type in INTEGERS else stated
    rules = given.type_rules
    sure = not _may_be_nan(given) or (rules is not None and (_bounded(rules) or rules.finite))
    if sure and all(span[0] > span[1] or any(_inside(span, other) for other in within) for span in nonzero):
        return None
    text = "finite numbers are taken" if not _bounded(wanted) else f"values {_text(taken, within)} are taken"
    says = rules is not None and (_bounded(rules) or getattr(rules, "finite", False))
    return Gap(text, f"gives values {_text(given, stated)}" if says else "states no limit")


@functools.lru_cache(maxsize=16384)
def spans(place: Place) -> list[Span]:
    """The ranges that the bounds of a place let through; an integer's end at the values of its type."""
    rules, kinds = place.type_rules, INTEGERS.get(place.field.type)
    lowest, highest = ((kinds[0], 0), (kinds[-1], 0)) if kinds else ((-inf, 0), (inf, 0))
    if getattr(rules, "finite", False):
        lowest, highest = (-inf, 1), (inf, -1)
    discrete = kinds is not None or _is_moment(place)
    low, high = _bound(rules, "gt", "gte", discrete), _bound(rules, "lt", "lte", discrete)
    if low is not None and high is not None and _stated(rules, "lt", "lte") < _stated(rules, "gt", "gte"):
        found = [(lowest, high), (low, highest)]
    else:
        found = [(max(low or lowest, lowest), min(high or highest, highest))]
    return [span for span in found if not span[0] > span[1]]


def few_integers(place: Place) -> list[Any] | None:
    """The values but zero, where a range of integers leaves no more than can be tried one by one."""
    if place.field.type not in INTEGERS or (place.field.is_repeated and place.where == ""):
        return None
    found = spans(place)
    if sum(high[0] - low[0] + 1 for low, high in found) > 64:
        return None
    return [value for low, high in found for value in range(int(low[0]), int(high[0]) + 1)]


def nanoseconds(moment: Any) -> int:
    """Of a Duration or a Timestamp."""
    return int(moment.seconds) * 10**9 + int(moment.nanos)


def _may_be_nan(place: Place) -> bool:
    kind = place.field.message_type
    if kind is not None:
        return kind.full_name in ("google.protobuf.FloatValue", "google.protobuf.DoubleValue")
    return place.field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)


def _is_moment(place: Place) -> bool:
    kind = place.field.message_type
    return kind is not None and kind.full_name in _MOMENTS


def _bounded(rules: Any) -> bool:
    return any(rules.HasField(name) for name in ("lt", "lte", "gt", "gte"))


def _stated(rules: Any, *names: str) -> Number:
    value = next(getattr(rules, name) for name in names if rules.HasField(name))
    return nanoseconds(value) if hasattr(value, "nanos") else value


def _bound(rules: Any, strict: str, closed: str, discrete: bool) -> Bound | None:
    if rules is None or not (rules.HasField(strict) or rules.HasField(closed)):
        return None
    value, step = _stated(rules, strict, closed), 1 if strict == "gt" else -1
    if not rules.HasField(strict):
        return value, 0
    return (value + step, 0) if discrete else (value, step)


def _without_zero(span: Span) -> Span:
    """Zeros are judged apart, as what is unset is read as one."""
    low, high = span
    return ((1, 0) if low == (0, 0) else low), ((-1, 0) if high == (0, 0) else high)


def _inside(span: Span, other: Span) -> bool:
    return other[0] <= span[0] and span[1] <= other[1]


def _text(place: Place, found: list[Span]) -> str:
    return " or ".join(_span_text(place, span) for span in found) or "that no number has"


def _span_text(place: Place, span: Span) -> str:
    (low, above), (high, below) = span
    kinds = INTEGERS.get(place.field.type)
    lowest, highest = (kinds[0], kinds[-1]) if kinds else (-inf, inf)
    parts = list(_ends(place, low != lowest and (low, above), high != highest and (high, below)))
    return " ".join(parts) or "of any size"


def _ends(place: Place, low: Bound | bool, high: Bound | bool) -> Iterator[str]:
    if not isinstance(low, bool):
        yield f"{'above' if low[1] else 'from'} {_shown(place, low[0])}"
    if not isinstance(high, bool):
        yield f"{'below' if high[1] else 'up to'} {_shown(place, high[0])}"


def _shown(place: Place, value: Number) -> str:
    return f"{value / 10**9:g} s" if _is_moment(place) else f"{value:,}"
