"""Whether two contracts can live side by side under one agent's name.

While a new version rolls out, callers of the old contract reach endpoints of
the new one and the other way round. So the rule is symmetric: a field number
that both know must have the same name, type and cardinality on both sides; a
field that only one knows is fine (protobuf hands unknown fields on). It is
buf's WIRE_JSON without its rules on deletion, which concern sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from google.protobuf import descriptor_pb2

from atomesh.core.contract import ContractDescriptor, descriptor_files

_Field = descriptor_pb2.FieldDescriptorProto
_Type: TypeAlias = descriptor_pb2.DescriptorProto | descriptor_pb2.EnumDescriptorProto
_Types: TypeAlias = dict[str, _Type]


def incompatibility(old: ContractDescriptor, new: ContractDescriptor) -> str | None:
    """The first difference that breaks somebody, in words; None where there is none."""
    for what in ("input_type", "output_type"):
        ours, theirs = getattr(old, what), getattr(new, what)
        if ours != theirs:
            return f"{what.replace('_', ' ')} is {theirs}, was {ours}"
    if old.hash == new.hash:
        return None
    old_types, new_types = _index(old), _index(new)
    pending, seen = [old.input_type, old.output_type], set[str]()
    while pending:
        name = pending.pop()
        if name in seen or name not in old_types or name not in new_types:
            continue
        seen.add(name)
        if difference := _difference(name, old_types[name], new_types[name]):
            return difference
        pending += _types_used(old_types[name])
    return None


def _difference(name: str, ours: _Type, theirs: _Type) -> str | None:
    if isinstance(ours, descriptor_pb2.DescriptorProto) and isinstance(theirs, descriptor_pb2.DescriptorProto):
        return _message_difference(name, ours, theirs)
    if isinstance(ours, descriptor_pb2.EnumDescriptorProto) and isinstance(theirs, descriptor_pb2.EnumDescriptorProto):
        return _enum_difference(name, ours, theirs)
    return f"{name} is a message on one side and an enum on the other"


def _types_used(kind: _Type) -> list[str]:
    if not isinstance(kind, descriptor_pb2.DescriptorProto):
        return []
    return sorted({field.type_name.lstrip(".") for field in kind.field if field.type_name}, reverse=True)


def _message_difference(
    name: str, ours: descriptor_pb2.DescriptorProto, theirs: descriptor_pb2.DescriptorProto
) -> str | None:
    new_fields = {field.number: field for field in theirs.field}
    new_names = {field.name: field.number for field in theirs.field}
    for field in ours.field:
        if new_names.get(field.name, field.number) != field.number:
            return f"field {name}.{field.name} has number {new_names[field.name]}, was {field.number}"
        if (other := new_fields.get(field.number)) is None:
            continue
        if other.name != field.name:
            return f"field {field.number} of {name} is named {other.name}, was {field.name}"
        if (now := _shape(theirs, other)) != (was := _shape(ours, field)):
            return f"field {name}.{field.name} is {now}, was {was}"
    return None


def _enum_difference(
    name: str, ours: descriptor_pb2.EnumDescriptorProto, theirs: descriptor_pb2.EnumDescriptorProto
) -> str | None:
    new_values = {value.number: value.name for value in theirs.value}
    for value in ours.value:
        if new_values.get(value.number, value.name) != value.name:
            return f"value {value.number} of {name} is named {new_values[value.number]}, was {value.name}"
    return None


def _shape(message: descriptor_pb2.DescriptorProto, field: descriptor_pb2.FieldDescriptorProto) -> str:
    """A field's cardinality and type, and its oneof where that changes what parses."""
    label = {_Field.LABEL_REPEATED: "repeated ", _Field.LABEL_REQUIRED: "required "}.get(field.label, "")
    kind = field.type_name.lstrip(".") or _Field.Type.Name(field.type).removeprefix("TYPE_").lower()
    inside = field.HasField("oneof_index") and not field.proto3_optional
    return label + kind + (f" in oneof {message.oneof_decl[field.oneof_index].name}" if inside else "")


def _index(contract: ContractDescriptor) -> _Types:
    types: _Types = {}
    for file in descriptor_files(contract.descriptor_set):
        types.update(_walk(file.package, file.message_type))
        types.update({_join(file.package, enum.name): enum for enum in file.enum_type})
    return types


def _walk(prefix: str, messages: Iterable[descriptor_pb2.DescriptorProto]) -> Iterator[tuple[str, _Type]]:
    for message in messages:
        name = _join(prefix, message.name)
        yield name, message
        yield from _walk(name, message.nested_type)
        yield from ((_join(name, enum.name), enum) for enum in message.enum_type)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
