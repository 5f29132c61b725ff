"""What the rules of a place say of one value: protovalidate itself is asked.

So formats, patterns and CEL need no second reading here. A trial costs about
10 us, the first one of a message type up to some milliseconds (its rules are
compiled); both are remembered.
"""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import protovalidate
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from atomesh.core.places import Place, entry
from atomesh.core.zeros import said_of_unset, said_of_zero

Value: TypeAlias = bool | int | float | str | bytes
"""A scalar; for a message of a well-known type its bytes."""

# Rules that do not compile or cannot be evaluated; a value that its field cannot
# hold; a field whose name hides what Python's messages have, such as DESCRIPTOR.
_NO_TRIAL = (protovalidate.CompilationError, protovalidate.EvaluationError, ValueError, TypeError, AttributeError)
_UNTRIED = "its rules cannot be tried"


def refusal(place: Place, value: Value) -> str | None:
    """Why a consumer refuses a value there; None where it takes it. What cannot be tried is refused."""
    return None if place.takes_all else _tried(place.root, place.where, value, _kind(value))


def can_give(place: Place, value: Value) -> bool:
    """Whether a producer may give a value there. What cannot be tried may be given."""
    return refusal(place, value) in (None, _UNTRIED)


def zero_refusal(place: Place, zero: Value) -> str | None:
    """Why a consumer refuses the zero of a scalar there, set; None where it takes it."""
    known = said_of_zero(place) if str(zero) != "-0.0" else None
    return refusal(place, zero) if known is None else known or None


def can_give_zero(place: Place, zero: Value) -> bool:
    """Whether a producer may set a zero there."""
    return zero_refusal(place, zero) in (None, _UNTRIED)


def unset_refusal(place: Place) -> str | None:
    """Why a consumer refuses the field unset; None where it takes it."""
    if (known := said_of_unset(place)) is not None:
        return known or None
    said = _said_of_empty(_holder(place.root))
    return _UNTRIED if said is None else said.get(place.root.number)


def can_leave_unset(place: Place) -> bool:
    """Whether a producer may leave the field unset."""
    return unset_refusal(place) in (None, _UNTRIED)


def empty_is_taken(message: Descriptor) -> bool:
    """Whether no rule of the whole message is broken where no field is set."""
    said = _said_of_empty(message)
    return said is not None and 0 not in said


def _holder(field: FieldDescriptor) -> Descriptor:
    """The message that a field is in; extensions, which have none, never come here."""
    assert field.containing_type is not None
    return field.containing_type


def _kind(value: Value) -> str:
    return repr(value) if isinstance(value, float) else type(value).__name__


@functools.lru_cache(maxsize=65536)
def _tried(root: FieldDescriptor, where: str, value: Value, kind: str) -> str | None:
    del kind  # part of the key: True, 1 and 1.0 are equal, as 0.0 and -0.0 are, and each is a value of its own
    try:
        broken = _validator(_holder(root)).collect_violations(_filled(root, where, value))
    except _NO_TRIAL:
        return _UNTRIED
    for violation in (each.proto for each in broken):
        path = violation.field.elements if violation.field is not None else ()
        if not path or path[0].field_number != root.number:
            continue
        inside = path[0].subscript is not None
        found = "" if not inside else "key" if violation.for_key else "value" if where in ("key", "value") else "item"
        if found == where:
            return violation.message or violation.rule_id
    return None


@functools.lru_cache(maxsize=4096)
def _said_of_empty(message: Descriptor) -> dict[int, str] | None:
    """What is said of each field where none is set, and under 0 of the whole; None where it cannot be tried."""
    empty = message_factory.GetMessageClass(message)()
    try:
        broken = _validator(message).collect_violations(empty)
    except _NO_TRIAL:
        return None
    said: dict[int, str] = {}
    for violation in (each.proto for each in broken):
        path = violation.field.elements if violation.field is not None else ()
        said.setdefault(path[0].field_number if path else 0, violation.message or violation.rule_id)
    return said


@functools.lru_cache(maxsize=1024)
def _validator(message: Descriptor) -> protovalidate.Validator:
    """One of its own for each type: it caches by full name, across pools."""
    del message  # it is the cache's key
    return protovalidate.Validator()


def _filled(root: FieldDescriptor, where: str, value: Value) -> Message:
    """A message with the value there and nothing else. By keyword: a field may be named as a method is."""
    content: Any
    if where in ("key", "value"):
        key, inside = entry(root)
        content = {value: _default(inside)} if where == "key" else {key.default_value: _held(inside, value)}
    else:
        content = _held(root, value) if where == "" else [_held(root, value)]
    return message_factory.GetMessageClass(_holder(root))(**{root.name: content})


def _default(field: FieldDescriptor) -> Any:
    return field.default_value if field.message_type is None else message_factory.GetMessageClass(field.message_type)()


def _held(field: FieldDescriptor, value: Value) -> Any:
    """The value as its field takes it: a wrapper around it, or the message of its bytes."""
    if field.message_type is None:
        return value
    made = message_factory.GetMessageClass(field.message_type)
    if isinstance(value, bytes) and field.message_type.full_name != "google.protobuf.BytesValue":
        return made.FromString(value)
    return made(value=value)
