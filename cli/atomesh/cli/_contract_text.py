"""A contract as a `.proto` that people read: the messages in reach, their fields, numbers and rules.

Descriptors carry no comments, but they carry the rules (protovalidate's
options), which stand behind each field in short form.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.message import Message

from atomesh.core.contract import ContractDescriptor, descriptor_files

_Field = descriptor_pb2.FieldDescriptorProto
_Kind: TypeAlias = descriptor_pb2.DescriptorProto | descriptor_pb2.EnumDescriptorProto

_LONG = 160
"""Characters of one rule; more is a program, and that is in the .proto."""


def readable(contract: ContractDescriptor) -> str:
    """The messages that the contract's types reach, in the order in which they are reached."""
    kinds = dict(_all_kinds(contract))
    blocks = [
        "\n".join(_block(name, kinds[name], kinds)) for name in _reached(contract, kinds) if not _well_known(name)
    ]
    chunks = f"stream of {contract.chunk_type}, then " if contract.chunk_type else ""
    return f"// {contract.input_type} -> {chunks}{contract.output_type}\n\n" + "\n\n".join(blocks)


def _reached(contract: ContractDescriptor, kinds: dict[str, _Kind]) -> list[str]:
    found: list[str] = []
    pending = list(contract.types)
    while pending:
        name = pending.pop(0)
        kind = kinds.get(name)
        if name in found or kind is None:
            continue
        found.append(name)
        if isinstance(kind, descriptor_pb2.DescriptorProto) and not _well_known(name):
            pending += _uses(kind, name, kinds)
    return found


def _uses(kind: descriptor_pb2.DescriptorProto, name: str, kinds: dict[str, _Kind]) -> Iterator[str]:
    """Types of the fields; of a map's, the type of its values."""
    for field in kind.field:
        used = field.type_name.lstrip(".")
        entry = kinds.get(used)
        if isinstance(entry, descriptor_pb2.DescriptorProto) and entry.options.map_entry:
            yield from _uses(entry, used, kinds)
        elif used:
            yield used


def _all_kinds(contract: ContractDescriptor) -> Iterator[tuple[str, _Kind]]:
    for file in descriptor_files(contract.descriptor_set):
        yield from _nested(file.package, file.message_type, file.enum_type)


def _nested(prefix: str, messages: Any, enums: Any) -> Iterator[tuple[str, _Kind]]:
    for enum in enums:
        yield _join(prefix, enum.name), enum
    for message in messages:
        name = _join(prefix, message.name)
        yield name, message
        yield from _nested(name, message.nested_type, message.enum_type)


def _block(name: str, kind: _Kind, kinds: dict[str, _Kind]) -> Iterator[str]:
    if isinstance(kind, descriptor_pb2.EnumDescriptorProto):
        yield f"enum {name} {{"
        yield from (f"  {value.name} = {value.number};" for value in kind.value)
        yield "}"
        return
    yield f"message {name} {{"
    for rule in _rules(kind.options, validate_pb2.message):
        yield f"  // {rule}"
    scope = name.rpartition(".")[0]
    inside: int | None = None
    for field in kind.field:
        choice = field.oneof_index if field.HasField("oneof_index") and not field.proto3_optional else None
        if choice != inside:
            if inside is not None:
                yield "  }"
            if choice is not None:
                yield f"  oneof {kind.oneof_decl[choice].name} {{"
        inside = choice
        yield f"{'    ' if choice is not None else '  '}{_field(field, scope, kinds)}"
    if inside is not None:
        yield "  }"
    yield "}"


def _field(field: _Field, scope: str, kinds: dict[str, _Kind]) -> str:
    rules = "; ".join(_rules(field.options, validate_pb2.field))
    label = "optional " if field.proto3_optional else "repeated " if field.label == _Field.LABEL_REPEATED else ""
    entry = kinds.get(field.type_name.lstrip("."))
    if isinstance(entry, descriptor_pb2.DescriptorProto) and entry.options.map_entry:
        key, value = (_type(part, scope) for part in entry.field)
        kind, label = f"map<{key}, {value}>", ""
    else:
        kind = _type(field, scope)
    return f"{label}{kind} {field.name} = {field.number};" + (f"  // {rules}" if rules else "")


def _type(field: _Field, scope: str) -> str:
    name = field.type_name.lstrip(".")
    return name.removeprefix(f"{scope}.") if name else _Field.Type.Name(field.type).removeprefix("TYPE_").lower()


def _rules(options: Any, extension: Any) -> Iterator[str]:
    """The rules in the options, each in a few words."""
    if options.HasExtension(extension):
        yield from _short(options.Extensions[extension], "")


def _short(rules: Message, path: str) -> Iterator[str]:
    for field, value in sorted(rules.ListFields(), key=lambda pair: not pair[0].name.startswith(("gt", "min"))):
        if field.name == "cel":
            yield from (_cut(cel.message or cel.expression or cel.id) for cel in value)
        elif field.is_repeated:
            yield f"{path}{field.name} {', '.join(map(str, value))}"
        elif isinstance(value, Message) and not _well_known(value.DESCRIPTOR.full_name):
            # The type's own name (`string.min_len`) says nothing that the field does not.
            yield from _short(value, f"{path}{field.name} " if field.name in ("items", "keys", "values") else path)
        elif isinstance(value, Message):
            yield f"{path}{field.name} {_plain(value)}"
        elif value is True:
            yield f"{path}{field.name}"
        else:
            yield f"{path}{field.name} {value:g}" if isinstance(value, float) else f"{path}{field.name} {value}"


def _plain(value: Message) -> str:
    return " ".join(str(value).split()) or "0"


def _cut(text: str) -> str:
    folded = " ".join(text.split())
    return folded if len(folded) <= _LONG else folded[: _LONG - 1] + "…"


def _well_known(name: str) -> bool:
    return name.startswith("google.protobuf.")


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
