"""Strings and bytes: lengths, parts, patterns and formats of the producer's that imply the consumer's."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

from atomesh.core.places import Gap, Place

# Formats with texts of known lengths; all others but those of _MAY_BE_EMPTY have one character or more.
_SIZES = {"uuid": (36, 36), "tuuid": (32, 32), "ulid": (26, 26), "ipv4": (7, 15)}
_BYTE_SIZES = {"uuid": (16, 16), "ipv4": (4, 4), "ipv6": (16, 16), "ip": (4, 16)}
_MAY_BE_EMPTY = ("uri_ref", "well_known_regex")

# Each format, and the wider ones that all its texts have as well.
_WIDER = {
    "ipv4": ("ip", "address"),
    "ipv6": ("ip", "address"),
    "ip": ("address",),
    "hostname": ("address",),
    "uri": ("uri_ref",),
    "ipv4_with_prefixlen": ("ip_with_prefixlen",),
    "ipv6_with_prefixlen": ("ip_with_prefixlen",),
    "ipv4_prefix": ("ip_prefix", "ipv4_with_prefixlen", "ip_with_prefixlen"),
    "ipv6_prefix": ("ip_prefix", "ipv6_with_prefixlen", "ip_with_prefixlen"),
    "ip_prefix": ("ip_with_prefixlen",),
}


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths that rules leave, in characters and in bytes of UTF-8; of bytes both are the same."""

    fewest: int
    most: float
    fewest_bytes: int
    most_bytes: float


def text_gaps(given: Place, taken: Place) -> Iterator[Gap]:
    """What the consumer's rules for a text refuse of the producer's texts but the empty one."""
    rules, wanted = given.type_rules, taken.type_rules
    is_text = hasattr(wanted, "not_contains")
    lengths = _lengths(given, is_text)
    yield from _length_gaps(lengths, wanted, is_text)
    yield from _part_gaps(rules, wanted)
    if wanted.pattern and (rules is None or rules.pattern != wanted.pattern):
        stated = f"states {_short(rules.pattern)}" if rules is not None and rules.pattern else "states no pattern"
        yield Gap(f"the pattern {_short(wanted.pattern)} must match", stated)
    form, other = _format(wanted), _format(rules)
    if form and not _has_format(form, wanted, other, rules):
        yield Gap(f"the format {form} is taken", f"states the format {other}" if other else "states no format")


def _length_gaps(lengths: Lengths, wanted: Any, is_text: bool) -> Iterator[Gap]:
    unit = "characters" if is_text else "bytes"
    pairs = [(("len", "min_len", "max_len"), (lengths.fewest, lengths.most), unit)]
    if is_text:
        pairs.append((("len_bytes", "min_bytes", "max_bytes"), (lengths.fewest_bytes, lengths.most_bytes), "bytes"))
    for (exact, least, most), (fewest, longest), word in pairs:
        low, high = (_number(wanted, exact, least, 0), _number(wanted, exact, most, inf))
        if fewest < low:
            yield Gap(f"at least {low:,} {word} are taken", f"states at least {fewest:,}" if fewest else "states none")
        if longest > high:
            says = f"states at most {longest:,}" if longest != inf else "states no limit"
            yield Gap(f"at most {high:,} {word} are taken", says)


def _part_gaps(rules: Any, wanted: Any) -> Iterator[Gap]:
    """Prefix, suffix, and what is in the text or must not be."""
    none = wanted.prefix[:0]
    prefix, suffix, part = (rules.prefix, rules.suffix, rules.contains) if rules is not None else (none, none, none)
    if wanted.prefix and not prefix.startswith(wanted.prefix):
        yield Gap(f"the prefix {_short(wanted.prefix)} is needed", "does not state it")
    if wanted.suffix and not suffix.endswith(wanted.suffix):
        yield Gap(f"the suffix {_short(wanted.suffix)} is needed", "does not state it")
    if wanted.contains and not any(wanted.contains in text for text in (prefix, suffix, part)):
        yield Gap(f"{_short(wanted.contains)} must be in it", "does not state it")
    if banned := getattr(wanted, "not_contains", ""):
        stated = rules.not_contains if rules is not None else ""
        if not stated or stated not in banned:
            yield Gap(f"{_short(banned)} must not be in it", "does not state it")


@functools.lru_cache(maxsize=16384)
def _lengths(place: Place, is_text: bool) -> Lengths:
    """Of all texts that a place's rules let through; the empty one is judged apart, but inside a wrapper."""
    rules = place.type_rules
    fewest, most = (0 if place.field.message_type is not None else 1), inf
    fewest_bytes, most_bytes = fewest, inf
    if rules is not None:
        parts = (rules.prefix, rules.suffix, rules.contains)
        shortest, longest = _format_size(rules, is_text)
        fewest = max(fewest, _number(rules, "len", "min_len", 0), shortest, *map(len, parts))
        most = min(_number(rules, "len", "max_len", inf), longest)
        if is_text:
            sizes = (len(part.encode()) for part in parts)
            fewest_bytes = max(fewest_bytes, _number(rules, "len_bytes", "min_bytes", 0), *sizes)
            most_bytes = _number(rules, "len_bytes", "max_bytes", inf)
    if not is_text:
        return Lengths(fewest, most, fewest, most)
    # A character is 1 to 4 bytes of UTF-8 (RFC 3629).
    fewest, fewest_bytes = max(fewest, -(-fewest_bytes // 4)), max(fewest_bytes, fewest)
    return Lengths(fewest, min(most, most_bytes), fewest_bytes, min(most_bytes, 4 * most))


def _number(rules: Any, exact: str, bound: str, default: Any) -> Any:
    for name in (exact, bound):
        if rules.HasField(name):
            return getattr(rules, name)
    return default


def _format(rules: Any) -> str:
    """The well-known format that is asked for; one that is stated as false is not."""
    name = rules.WhichOneof("well_known") if rules is not None else None
    return name if name and getattr(rules, name) else ""


def _format_size(rules: Any, is_text: bool) -> tuple[int, float]:
    form = _format(rules)
    if not form or form in _MAY_BE_EMPTY:
        return 0, inf
    return (_SIZES if is_text else _BYTE_SIZES).get(form, (1, inf))


def _has_format(form: str, wanted: Any, other: str, rules: Any) -> bool:
    if form == "well_known_regex":
        same = other == form and rules.well_known_regex == wanted.well_known_regex
        return bool(same and rules.strict == wanted.strict and rules.HasField("strict") == wanted.HasField("strict"))
    return form == other or form in _WIDER.get(other, ())


def _short(text: str | bytes) -> str:
    shown = repr(text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text)
    return re.sub(r"(?s)^(.{60}).{20,}$", r"\1...", shown)
