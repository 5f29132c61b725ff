"""What the plainest rules say of a zero value, without a trial.

Compiling a message's rules for its first trial takes some milliseconds, and a
plan compares hundreds of types of which most state lengths and ranges only.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor

from atomesh.core.places import Place, message_rules, unknown

_NUMBERS = frozenset((
    "int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64",
    "float", "double",
))  # fmt: skip


@functools.lru_cache(maxsize=16384)
def said_of_unset(place: Place) -> str | None:
    """The rule that a field breaks unset, empty where it breaks none; None where only a trial tells."""
    if place.takes_all:
        return ""
    if place.root.has_presence:
        return "it is required" if place.rules.required else ""
    holder = place.root.containing_type
    if holder is None or message_rules(holder).oneof:
        return None  # members of such a group are passed over at zero
    if place.rules.required:
        return "it is required"
    return "" if _passed_over(place) else _said(place)


@functools.lru_cache(maxsize=16384)
def said_of_zero(place: Place) -> str | None:
    """The same of a scalar's zero that is set: in a field that tracks presence, or as an item, key or value."""
    if place.takes_all:
        return ""
    if place.where:
        return "" if _passed_over(place) else _said(place)
    return _said(place) if place.root.has_presence else said_of_unset(place)


def _passed_over(place: Place) -> bool:
    return place.rules.ignore == validate_pb2.IGNORE_IF_ZERO_VALUE


def _said(place: Place) -> str | None:
    rules, kind = place.type_rules, place.kind
    if place.expressions or unknown(place.rules) or (rules is not None and unknown(rules)):
        return None
    if kind == "":
        return ""
    if kind in ("repeated", "map"):
        least = "min_items" if kind == "repeated" else "min_pairs"
        return f"{least} is {getattr(rules, least)}" if getattr(rules, least) else ""
    if kind in ("string", "bytes"):
        if rules.pattern or rules.WhichOneof("well_known"):
            return None
        return next(_broken_by_empty(rules, kind), "")
    if kind in _NUMBERS or (kind == "bool" and place.field.type == FieldDescriptor.TYPE_BOOL):
        return next(_broken_by_zero(rules), "")
    return None


def _broken_by_empty(rules: Any, kind: str) -> Iterator[str]:
    empty: Any = "" if kind == "string" else b""
    for name in ("len", "min_len", "len_bytes", "min_bytes", "prefix", "suffix", "contains"):
        if value := getattr(rules, name, 0):
            yield f"{name} is {value!r:.60}"
    yield from _broken_by_sets(rules, empty)


def _broken_by_zero(rules: Any) -> Iterator[str]:
    yield from _broken_by_sets(rules, 0)
    if not hasattr(rules, "gt"):
        return
    low = next((name for name in ("gt", "gte") if rules.HasField(name)), "")
    high = next((name for name in ("lt", "lte") if rules.HasField(name)), "")
    above = not low or (rules.gt < 0 if low == "gt" else rules.gte <= 0)
    below = not high or (rules.lt > 0 if high == "lt" else rules.lte >= 0)
    outside = low and high and getattr(rules, high) < getattr(rules, low)
    if not (above or below if outside else above and below):
        stated = [f"{name} is {getattr(rules, name):,}" for name in (low, high) if name]
        yield " and ".join(stated)


def _broken_by_sets(rules: Any, zero: Any) -> Iterator[str]:
    if rules.HasField("const") and rules.const != zero:
        yield f"const is {rules.const!r:.60}"
    members, banned = getattr(rules, "in", ()), getattr(rules, "not_in", ())
    if members and zero not in members:
        yield "it is not in the list"
    if zero in banned:
        yield "it is in not_in"
