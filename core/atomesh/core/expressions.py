"""CEL rules: the consumer's holds where the producer states the very same expression of the very same things.

The same words may speak of other things in another message: a field may track
presence on one side only, and two messages that differ in a field that the
consumer does not know are equal to it. So each field that an expression names
must be alike on both sides, and a message of another shape must not be looked
at as a whole.
"""

from __future__ import annotations

import functools
import re

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from atomesh.core.places import MAX_DEPTH, Place, is_map

_WORD = re.compile(r"[A-Za-z_]\w*")
_HAS = re.compile(r"\bhas\s*\(\s*[\w.]+\s*\)")
_CEL_TYPES = {
    FieldDescriptor.CPPTYPE_INT32: "int",
    FieldDescriptor.CPPTYPE_INT64: "int",
    FieldDescriptor.CPPTYPE_UINT32: "uint",
    FieldDescriptor.CPPTYPE_UINT64: "uint",
    FieldDescriptor.CPPTYPE_ENUM: "enum",
    FieldDescriptor.CPPTYPE_BOOL: "bool",
    FieldDescriptor.CPPTYPE_FLOAT: "float",
    FieldDescriptor.CPPTYPE_DOUBLE: "double",
}


def depends_on_time(expression: str) -> bool:
    """Whether what holds now may not hold later."""
    return "now" in _WORD.findall(expression)


def same_value_sense(expression: str, given: Place, taken: Place) -> bool:
    """Whether an expression says the same of the values of two places."""
    if is_map(given.root) or is_map(taken.root):
        if not (is_map(given.root) and is_map(taken.root)):
            return False
        if not given.where:
            return shape(given.field.message_type) == shape(taken.field.message_type)
    one, other = given.field, taken.field
    if one.message_type is not None and other.message_type is not None:
        if given.where == "" and one.is_repeated:
            return shape(one.message_type) == shape(other.message_type)
        return same_sense(expression, one.message_type, other.message_type)
    return one.message_type is other.message_type and _cel_type(one) == _cel_type(other)


def same_sense(expression: str, given: Descriptor, taken: Descriptor) -> bool:
    """Whether an expression says the same of two messages."""
    if shape(given) == shape(taken):
        return True
    if re.search(r"\bthis\b(?!\s*\.)", _HAS.sub(" ", expression)):
        return False
    return _agree(expression, given, taken, set())


def names(expression: str, message: Descriptor) -> set[str] | None:
    """The message's own fields that an expression may speak of; None where it may speak of all."""
    if re.search(r"\bthis\b(?!\s*\.)", expression):
        return None
    return set(_WORD.findall(expression)) & {str(name) for name in message.fields_by_name}


def _agree(expression: str, given: Descriptor, taken: Descriptor, seen: set[tuple[str, str]]) -> bool:
    if (key := (given.full_name, taken.full_name)) in seen or len(seen) > MAX_DEPTH:
        return key in seen
    seen.add(key)
    for word in set(_WORD.findall(expression)):
        one, other = given.fields_by_name.get(word), taken.fields_by_name.get(word)
        if one is None and other is None:
            continue
        if one is None or other is None or _outline(one) != _outline(other):
            return False
        if one.message_type is None or other.message_type is None:
            continue
        if shape(one.message_type) == shape(other.message_type):
            continue
        if one.is_repeated or re.search(rf"\b{word}\b(?!\s*\.)", _HAS.sub(" ", expression)):
            return False
        if not _agree(expression, one.message_type, other.message_type, seen):
            return False
    return True


def _outline(field: FieldDescriptor) -> tuple[object, ...]:
    return (_cel_type(field), field.is_repeated, field.has_presence, field.message_type is None)


def _cel_type(field: FieldDescriptor) -> object:
    return _CEL_TYPES.get(field.cpp_type, field.type)


@functools.lru_cache(maxsize=4096)
def shape(message: Descriptor | None) -> tuple[object, ...]:
    """The fields of a message and of all that it holds, without rules."""
    found: dict[str, tuple[object, ...]] = {}
    pending = [message] if message is not None else []
    while pending:
        kind = pending.pop()
        if kind.full_name in found:
            continue
        found[kind.full_name] = tuple(_line(field) for field in sorted(kind.fields, key=lambda one: one.number))
        pending += [field.message_type for field in kind.fields if field.message_type is not None]
    return (message.full_name if message is not None else "", tuple(sorted(found.items())))


def _line(field: FieldDescriptor) -> tuple[object, ...]:
    kind = field.message_type or field.enum_type
    oneof = field.containing_oneof.name if field.containing_oneof is not None else ""
    default = repr(field.default_value) if field.message_type is None and not field.is_repeated else ""
    return (
        field.number, field.name, field.type, field.is_repeated, field.has_presence,
        kind.full_name if kind is not None else "", oneof, default,
    )  # fmt: skip
