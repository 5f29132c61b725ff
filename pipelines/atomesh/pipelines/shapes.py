"""What a value in a plan is: a scalar, an enum or a message, one or many; and what may be put where.

Widenings that lose nothing are allowed (int32 to int64, float to double, any
32-bit integer to double); everything else is said in the mapping, with CEL.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from atomesh.core.fits import structure_fit

_NAMES = {
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
}
SCALARS: dict[str, Any] = {name: kind for kind, name in _NAMES.items()}
"""Scalar types by the name that files and messages use."""

_SAME = {  # other encodings of the same numbers
    FieldDescriptor.TYPE_FIXED32: FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_FIXED64: FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SFIXED32: FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_SFIXED64: FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_SINT32: FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_SINT64: FieldDescriptor.TYPE_INT64,
}

_WIDER = {
    "int32": ("int64", "double"),
    "uint32": ("int64", "uint64", "double"),
    "float": ("double",),
}


@dataclass(frozen=True)
class Shape:
    """The type of a value."""

    scalar: str = ""
    """Its scalar type; empty for a message or an enum."""
    message: Descriptor | None = None
    enum: EnumDescriptor | None = None
    many: bool = False
    """A list of such values."""
    key: str = ""
    """The scalar type of the keys, where it is a map of such values."""

    @property
    def one(self) -> Shape:
        """An item of the list, or a value of the map."""
        return replace(self, many=False, key="")

    def __str__(self) -> str:
        """As a person would write it: `repeated string`, `map<string, text.v1.Keyword>`."""
        named = self.message or self.enum
        single = str(named.full_name) if named is not None else self.scalar
        if self.key:
            return f"map<{self.key}, {single}>"
        return f"repeated {single}" if self.many else single


def of_message(message: Any, *, many: bool = False) -> Shape:
    """The shape of a message."""
    return Shape(message=message, many=many)


def of_field(field: Any) -> Shape:
    """The shape of a field's value."""
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        inner = of_field(entry.fields_by_name["value"])
        return replace(inner, key=of_field(entry.fields_by_name["key"]).scalar)
    many = bool(field.is_repeated)
    if field.message_type is not None:
        return Shape(message=field.message_type, many=many)
    if field.enum_type is not None:
        return Shape(enum=field.enum_type, many=many)
    return Shape(scalar=_NAMES[_SAME.get(field.type, field.type)], many=many)


def misfit(given: Shape, wanted: Shape) -> str:
    """Why a value of one shape cannot be put where another is wanted; empty where it can."""
    if given.many != wanted.many or given.key != wanted.key:
        hint = "; put it into a list" if wanted.many and not given.many and not given.key else ""
        return f"{given} does not fit {wanted}{hint}"
    if given.message is not None and wanted.message is not None:
        if given.message is wanted.message or given.message.full_name == wanted.message.full_name:
            return ""
        breaches = structure_fit(given.message, wanted.message)
        return f"{given} does not fit {wanted}: {breaches[0]}" if breaches else ""
    if given.enum is not None and wanted.enum is not None and given.enum.full_name == wanted.enum.full_name:
        return ""
    if given.enum is not None and wanted.scalar in ("int32", "int64"):
        return ""
    if given.scalar and (given.scalar == wanted.scalar or wanted.scalar in _WIDER.get(given.scalar, ())):
        return ""
    return f"{given} does not fit {wanted}"
