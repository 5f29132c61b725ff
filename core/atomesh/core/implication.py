"""Whether the rules of one place imply those of another: protovalidate's rules, read as sets of values.

Sound and not complete: what is not shown to hold is reported as a gap. Where
the producer's rules leave few values (`const`, `in`, an enum's defined ones, a
short range of integers) each is tried against the consumer's own rules;
otherwise each rule of the consumer's must follow from rules of the producer's.
Zero values and unset fields are judged apart: `zero_gap` and `unset_gap`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from atomesh.core.expressions import depends_on_time, same_value_sense
from atomesh.core.implied_ranges import few_integers, nanoseconds, range_gap
from atomesh.core.implied_texts import text_gaps
from atomesh.core.places import Gap, Place, unknown
from atomesh.core.trials import Value, can_give, can_give_zero, can_leave_unset, refusal, unset_refusal, zero_refusal

_ZEROS: dict[int, Value] = {
    FieldDescriptor.CPPTYPE_STRING: "",
    FieldDescriptor.CPPTYPE_BOOL: False,
    FieldDescriptor.CPPTYPE_FLOAT: 0.0,
    FieldDescriptor.CPPTYPE_DOUBLE: 0.0,
}
_RULES_OF_SETS = ("const", "in", "not_in", "example")


def implication(given: Place, taken: Place) -> Iterator[Gap]:
    """What the consumer's rules for a value refuse of the producer's values but zero."""
    if taken.takes_all:
        return
    same = given.serialized == taken.serialized and not given.free
    if same and _same_type(given, taken) and not taken.expressions:
        return
    if not same and (unknown(given.rules) or not _comparable(given, taken)):
        given = given.unchecked()
    # What these rules ask for is in none of our tables, so no trial tells.
    if not same and (unknown(taken.rules) or (taken.type_rules is not None and unknown(taken.type_rules))):
        yield Gap("rules that are unknown here hold", "is not known to keep them")
        return
    if (values := _few(given)) is not None and not any(map(depends_on_time, taken.expressions)):
        yield from _refused(values, given, taken)
        return
    if taken.type_rules is not None and not _same_rules(given, taken):
        yield from _type_gaps(given, taken)
    stated = set(given.expressions)
    for rule, expression in _named_expressions(taken):
        if expression not in stated:
            yield Gap(f"the rule {rule} holds", "does not state it")
        elif not same_value_sense(expression, given, taken):
            yield Gap(f"the rule {rule} holds", "states it of another type")


def unset_gap(given: Place | None, taken: Place) -> Gap | None:
    """What the consumer says of the field unset, where the producer may leave it so or does not know it."""
    if (said := unset_refusal(taken)) and (given is None or can_leave_unset(given)):
        return Gap(f"it must be set ({said})", "has no such field" if given is None else "may leave it unset")
    return None


def zero_gap(given: Place, taken: Place) -> Gap | None:
    """What the consumer says of a scalar's zero that is set, where the producer may set one.

    A float's -0.0 equals zero and is set nevertheless, in fields without presence too.
    """
    if taken.takes_all or taken.field.message_type is not None or (taken.where == "" and taken.field.is_repeated):
        return None
    zero = zero_of(taken.field)
    for value in (zero, -zero) if isinstance(zero, float) else (zero,):
        explicit = taken.where or given.field.has_presence or str(value).startswith("-")
        if explicit and (said := zero_refusal(taken, value)) and can_give_zero(given, value):
            return Gap(f"{_shown(value)} is refused ({said})", "may give it")
    return None


def zero_of(field: FieldDescriptor) -> Value:
    """The zero value of a scalar."""
    return b"" if field.type == FieldDescriptor.TYPE_BYTES else _ZEROS.get(field.cpp_type, 0)


def _few(place: Place) -> list[Value] | None:
    """The values that the producer's rules leave, where they are few enough to try each."""
    field, rules = place.field, place.type_rules
    if place.where == "" and field.is_repeated:
        return None
    if field.type == FieldDescriptor.TYPE_BOOL:
        return [False, True]
    if rules is not None and place.kind != "any":
        if "const" in rules.DESCRIPTOR.fields_by_name and rules.HasField("const"):
            return [_plain(rules.const)]
        if (stated := getattr(rules, "in", ())) and place.kind != "field_mask":
            return [_plain(value) for value in stated]
    if field.enum_type is not None:
        closed = field.enum_type.is_closed or (rules is not None and rules.defined_only)
        return [value.number for value in field.enum_type.values] if closed else None
    return few_integers(place)


def _refused(values: Iterable[Value], given: Place, taken: Place) -> Iterator[Gap]:
    for value in values:
        if can_give(given, value) and (said := refusal(taken, value)):
            yield Gap(f"{_shown(value)} is refused ({said})", "may give it")


def _type_gaps(given: Place, taken: Place) -> Iterator[Gap]:
    kind, wanted = taken.kind, taken.type_rules
    if kind in ("repeated", "map"):
        yield from _size_gaps(given, taken)
        return
    if kind in ("any", "field_mask"):
        yield from _name_gaps(given.type_rules, wanted)
        return
    yield from _set_gaps(given, taken)
    if kind in ("string", "bytes"):
        yield from text_gaps(given, taken)
    elif kind == "timestamp":
        yield from _clock_gaps(given.type_rules, wanted)
    if kind == "enum" and wanted.defined_only:
        yield Gap("only defined values are taken", "may give others")
    if "gte" in wanted.DESCRIPTOR.fields_by_name and (gap := range_gap(given, taken)):
        yield gap


def _set_gaps(given: Place, taken: Place) -> Iterator[Gap]:
    """`const`, `in` and `not_in`, where the producer's values are many."""
    wanted = taken.type_rules
    if wanted.HasField("const"):
        yield Gap(f"only {_shown(_plain(wanted.const))} is taken", "may give others")
    if members := getattr(wanted, "in", ()):
        yield Gap(f"only {_listed(members)} are taken", "may give others")
    for value in map(_plain, getattr(wanted, "not_in", ())):
        if can_give(given, value):
            yield Gap(f"{_shown(value)} is not taken", "may give it")


def _size_gaps(given: Place, taken: Place) -> Iterator[Gap]:
    """How many items or pairs; an empty list is what is unset."""
    word = "items" if taken.rules.HasField("repeated") else "pairs"
    least, most = f"min_{word}", f"max_{word}"
    rules, wanted = given.type_rules, taken.type_rules
    fewest = max(1, getattr(rules, least) if rules is not None else 0)
    longest = getattr(rules, most) if rules is not None and rules.HasField(most) else inf
    if fewest < getattr(wanted, least):
        says = f"states at least {fewest:,}" if fewest > 1 else "states none"
        yield Gap(f"at least {getattr(wanted, least):,} {word} are taken", says)
    if wanted.HasField(most) and longest > getattr(wanted, most):
        says = f"states at most {longest:,}" if longest != inf else "states no limit"
        yield Gap(f"at most {getattr(wanted, most):,} {word} are taken", says)
    if word == "items" and wanted.unique and not (rules is not None and rules.unique) and longest > 1:
        yield Gap("items must be unique", "does not state it")


def _name_gaps(rules: Any, wanted: Any) -> Iterator[Gap]:
    """The types that an Any may hold, or the paths that a mask may name."""
    is_any = wanted.DESCRIPTOR.name == "AnyRules"
    if not is_any and wanted.HasField("const"):
        yield Gap(f"only {_listed(wanted.const.paths)} is taken", "may give others")
    allowed: set[str] = set(getattr(rules, "in")) if rules is not None else set()
    if (members := set(getattr(wanted, "in"))) and not (allowed and allowed <= members):
        yield Gap(f"only {_listed(sorted(members))} are taken", "may give others")
    banned = set(rules.not_in) if rules is not None else set()
    for name in wanted.not_in:
        # A path covers those below it, so what a mask may name never tells what it cannot.
        if name not in banned and not (is_any and allowed and name not in allowed):
            yield Gap(f"{name} is not taken", "may give it")


def _clock_gaps(rules: Any, wanted: Any) -> Iterator[Gap]:
    """Times around now; what is said of them holds at the moment of giving, which is that of taking."""
    for name, words in (("lt_now", "the past"), ("gt_now", "the future")):
        if getattr(wanted, name) and not (rules is not None and getattr(rules, name)):
            yield Gap(f"times in {words} are taken", "does not state it")
    if wanted.HasField("within"):
        close = rules is not None and rules.HasField("within")
        if not close or nanoseconds(rules.within) > nanoseconds(wanted.within):
            yield Gap(f"times within {nanoseconds(wanted.within) / 10**9:g} s of now are taken", "states no such limit")


def _same_type(given: Place, taken: Place) -> bool:
    one, other = given.field, taken.field
    if one.message_type is not None or other.message_type is not None:
        return False
    return bool(one.type == other.type and one.enum_type is other.enum_type)


def _comparable(given: Place, taken: Place) -> bool:
    """Whether both state rules of the same words, as those of all integers are."""
    one, other = given.type_rules, taken.type_rules
    if one is None or other is None or given.kind == taken.kind:
        return True
    return set(one.DESCRIPTOR.fields_by_name) == set(other.DESCRIPTOR.fields_by_name)


def _same_rules(given: Place, taken: Place) -> bool:
    """The same rules of the value's type; of an enum they may mean other values."""
    kind = taken.kind
    if kind in ("enum", "repeated", "map") or kind != given.kind:
        return False
    one, other = (place.type_rules.SerializeToString(deterministic=True) for place in (given, taken))
    return bool(one == other)


def _named_expressions(place: Place) -> Iterator[tuple[str, str]]:
    for expression in place.rules.cel_expression:
        yield expression, expression
    for rule in place.rules.cel:
        yield rule.id or rule.expression, rule.expression


def _plain(value: Any) -> Value:
    plain: Value = value.SerializeToString() if hasattr(value, "DESCRIPTOR") else value
    return plain


def _shown(value: Value) -> str:
    return f"{value!r:.80}"


def _listed(values: Iterable[Any]) -> str:
    shown = [_shown(_plain(value)) for value in values]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")
