"""Whether one field's wire form and JSON are read as another's with the same meaning; rules apart.

Integers may widen where varints do (the JSON of all integers reads as any of
them). An enum's values must be known by the same names and numbers. Messages
are compared by whoever walks them: here they are only both messages.
"""

from __future__ import annotations

import functools

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from atomesh.core.places import entry, is_map

_WIDER = {
    FieldDescriptor.TYPE_INT32: (FieldDescriptor.TYPE_INT64,),
    FieldDescriptor.TYPE_UINT32: (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_INT64),
    FieldDescriptor.TYPE_SINT32: (FieldDescriptor.TYPE_SINT64,),
}
_NAMES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in vars(FieldDescriptor)
    if name.startswith("TYPE_")
}


def name_mismatch(given: FieldDescriptor, taken: FieldDescriptor) -> str | None:
    """Why two fields of one number are not the same field."""
    if given.name != taken.name:
        return f"its number {taken.number} is {given.name}'s"
    if given.json_name != taken.json_name:
        return f"its JSON name is {taken.json_name}, not {given.json_name}"
    return None


@functools.lru_cache(maxsize=16384)
def mismatch(given: FieldDescriptor, taken: FieldDescriptor) -> str | None:
    """Why the values of one field are not values of the other; None where they are."""
    if is_map(given) and is_map(taken):
        for one, other in zip(entry(given), entry(taken), strict=True):
            if said := mismatch(one, other):
                return said
        return None
    if given.is_repeated != taken.is_repeated or is_map(given) != is_map(taken):
        return f"it is {describe(taken)}, not {describe(given)}"
    if given.type != taken.type and taken.type not in _WIDER.get(given.type, ()):
        return f"it is {describe(taken)}, not {describe(given)}"
    if given.enum_type is not None and taken.enum_type is not None:
        return _enum_mismatch(given.enum_type, taken.enum_type)
    if taken.is_required and not given.is_required:
        return "it is required, and may be unset"
    return _default_mismatch(given, taken)


def describe(field: FieldDescriptor) -> str:
    """A field's type in words: `repeated text.v1.Word`."""
    if is_map(field):
        key, value = entry(field)
        return f"map<{describe(key)}, {describe(value)}>"
    kind = field.message_type or field.enum_type
    name = kind.full_name if kind is not None else _NAMES[field.type]
    name = f"group {name}" if field.type == FieldDescriptor.TYPE_GROUP else name
    return f"repeated {name}" if field.is_repeated else str(name)


def _enum_mismatch(given: EnumDescriptor, taken: EnumDescriptor) -> str | None:
    if given is taken:
        return None
    for value in given.values:
        other = taken.values_by_name.get(value.name)
        if other is None or other.number != value.number:
            return f"{taken.full_name} has no {value.name} of number {value.number}"
        # JSON shows a number under its first name; the other side may know it as an alias, which is enough.
    if taken.is_closed and not given.is_closed:
        return f"{taken.full_name} keeps no numbers but its own"
    return None


def _default_mismatch(given: FieldDescriptor, taken: FieldDescriptor) -> str | None:
    if given.is_repeated or given.message_type is not None:
        return None
    if repr(given.default_value) != repr(taken.default_value):
        return f"unset it means {taken.default_value!r:.80}, not {given.default_value!r:.80}"
    return None
