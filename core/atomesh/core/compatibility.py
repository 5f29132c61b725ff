"""Whether two contracts can live side by side under one agent's name.

While a new version rolls out, callers of the old contract reach endpoints of
the new one and the other way round. So the rule is symmetric: a field number
that both know must have the same name, type and cardinality on both sides; a
field that only one knows is fine (protobuf hands unknown fields on) unless it
is `required`. It is buf's WIRE_JSON without its rules on deletion, which
concern sources.

Chunks go one way only, from the agent to its caller, and before an output that
is complete without them. So an agent may gain or lose them: a caller that knows
of none drops them, one that knows of them takes none. Two types of chunks are
as bad as two types of outputs: the caller could not read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from google.protobuf import descriptor_pb2

from atomesh.core.contract import ContractDescriptor, default_json_name, descriptor_files

_Field = descriptor_pb2.FieldDescriptorProto
_Type: TypeAlias = descriptor_pb2.DescriptorProto | descriptor_pb2.EnumDescriptorProto
_Types: TypeAlias = dict[str, _Type]


def incompatibility(old: ContractDescriptor, new: ContractDescriptor) -> str | None:
    """The first difference that breaks somebody, in words; None where there is none."""
    return next(differences(old, new), None)


def differences(old: ContractDescriptor, new: ContractDescriptor) -> Iterator[str]:
    """The differences that break somebody: those of the types' names, or else the first in each message and enum."""
    renamed = [text for what in ("input_type", "output_type", "chunk_type") if (text := _renamed(what, old, new))]
    yield from renamed
    if renamed or old.hash == new.hash:
        return
    old_types, new_types = _index(old), _index(new)
    pending, seen = [old.input_type, old.output_type, *_both(old.chunk_type, new.chunk_type)], set[str]()
    while pending:
        name = pending.pop()
        if name in seen or name not in old_types or name not in new_types:
            continue
        seen.add(name)
        ours, theirs = old_types[name], new_types[name]
        if difference := _difference(name, ours, theirs):
            yield difference
        pending += _types_shared(ours, theirs)


def _renamed(what: str, old: ContractDescriptor, new: ContractDescriptor) -> str:
    ours, theirs = getattr(old, what), getattr(new, what)
    return f"{what.replace('_', ' ')} is {theirs}, was {ours}" if ours != theirs and ours and theirs else ""


def _both(ours: str, theirs: str) -> tuple[str, ...]:
    """The type of chunks, where both sides have chunks: else nobody reads what the other writes."""
    return (ours,) if ours and ours == theirs else ()


def _difference(name: str, ours: _Type, theirs: _Type) -> str | None:
    if isinstance(ours, descriptor_pb2.DescriptorProto) and isinstance(theirs, descriptor_pb2.DescriptorProto):
        return _message_difference(name, ours, theirs)
    if isinstance(ours, descriptor_pb2.EnumDescriptorProto) and isinstance(theirs, descriptor_pb2.EnumDescriptorProto):
        return _enum_difference(name, ours, theirs)
    return f"{name} is a message on one side and an enum on the other"


def _types_shared(ours: _Type, theirs: _Type) -> list[str]:
    """The types of the fields that both sides know: what only one side can send never meets the other's type."""
    if not isinstance(ours, descriptor_pb2.DescriptorProto) or not isinstance(theirs, descriptor_pb2.DescriptorProto):
        return []
    shared = {field.number for field in ours.field} & {field.number for field in theirs.field}
    return sorted({f.type_name.lstrip(".") for f in ours.field if f.type_name and f.number in shared}, reverse=True)


def _message_difference(
    name: str, ours: descriptor_pb2.DescriptorProto, theirs: descriptor_pb2.DescriptorProto
) -> str | None:
    new_fields = {field.number: field for field in theirs.field}
    new_names = {field.name: field.number for field in theirs.field}
    for field in ours.field:
        if new_names.get(field.name, field.number) != field.number:
            return f"field {name}.{field.name} has number {new_names[field.name]}, was {field.number}"
        if (other := new_fields.get(field.number)) is None:
            if field.label == _Field.LABEL_REQUIRED:
                return f"field {name}.{field.name} is gone, and was required"
            continue
        if other.name != field.name:
            return f"field {field.number} of {name} is named {other.name}, was {field.name}"
        if (now := _shape(theirs, other)) != (was := _shape(ours, field)):
            return f"field {name}.{field.name} is {now}, was {was}"
    old_numbers = {field.number for field in ours.field}
    for field in theirs.field:
        if field.label == _Field.LABEL_REQUIRED and field.number not in old_numbers:
            return f"field {name}.{field.name} is new, and required"
    return None


def _enum_difference(
    name: str, ours: descriptor_pb2.EnumDescriptorProto, theirs: descriptor_pb2.EnumDescriptorProto
) -> str | None:
    old_numbers, old_names = _values(ours)
    new_numbers, new_names = _values(theirs)
    for value, number in old_numbers.items():
        if new_numbers.get(value, number) != number:
            return f"value {name}.{value} has number {new_numbers[value]}, was {number}"
    for number in sorted(old_names.keys() & new_names.keys()):
        # The first name is the one that JSON shows; the other side may know it as an alias.
        was, now = old_names[number], new_names[number]
        if was not in new_numbers or now not in old_numbers:
            return f"value {number} of {name} is named {now}, was {was}"
    return None


def _values(enum: descriptor_pb2.EnumDescriptorProto) -> tuple[dict[str, int], dict[int, str]]:
    """Numbers by name, and the first name of each number."""
    names: dict[int, str] = {}
    for value in enum.value:
        names.setdefault(value.number, value.name)
    return {value.name: value.number for value in enum.value}, names


def _shape(message: descriptor_pb2.DescriptorProto, field: descriptor_pb2.FieldDescriptorProto) -> str:
    """A field's cardinality and type, its JSON name where it is its own, and its oneof where that changes what parses."""
    label = {_Field.LABEL_REPEATED: "repeated ", _Field.LABEL_REQUIRED: "required "}.get(field.label, "")
    group = "group " if field.type == _Field.TYPE_GROUP else ""
    kind = field.type_name.lstrip(".") or _Field.Type.Name(field.type).removeprefix("TYPE_").lower()
    plain = not field.json_name or field.json_name == default_json_name(field.name)
    json = "" if plain else f" with JSON name {field.json_name}"
    inside = field.HasField("oneof_index") and not field.proto3_optional
    oneof = f" in oneof {message.oneof_decl[field.oneof_index].name}" if inside else ""
    return label + group + kind + json + oneof


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
