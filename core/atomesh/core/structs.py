"""Mappings to google.protobuf.Struct and back, without a way to fail.

Struct is JSON: its numbers are doubles, so an int above 2**53 comes back
rounded. What JSON has no word for goes as its `str`: an author who raises an
error with a datetime among its details must not raise another one instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import struct_pb2

_DEEPEST = 32
"""Levels. protobuf parses 100 and a level here is three of its own; what lies deeper goes as its `str`."""


def to_struct(mapping: Mapping[str, Any]) -> struct_pb2.Struct:
    """The mapping as a Struct."""
    return _struct(mapping, _DEEPEST)


def from_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """The Struct as a mapping; whole numbers come back as int."""
    return {key: _plain(value) for key, value in struct.fields.items()}


def _struct(mapping: Mapping[Any, Any], room: int) -> struct_pb2.Struct:
    return struct_pb2.Struct(fields={_text(key): _value(value, room - 1) for key, value in mapping.items()})


def _value(value: object, room: int) -> struct_pb2.Value:
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**1000):
        return struct_pb2.Value(number_value=value)
    if isinstance(value, Mapping) and room > 0:
        return struct_pb2.Value(struct_value=_struct(value, room))
    if isinstance(value, list | tuple) and room > 0:
        items = [_value(item, room - 1) for item in value]
        return struct_pb2.Value(list_value=struct_pb2.ListValue(values=items))
    return struct_pb2.Value(string_value=_text(value))


def _text(value: object) -> str:
    """Its `str`; a lone surrogate, which no message can hold, becomes a question mark."""
    return str(value).encode("utf-8", "replace").decode()


def _plain(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    return {"bool_value": value.bool_value, "string_value": value.string_value}.get(kind or "")
