"""The messages that a pipeline makes for itself, where its author names none.

`Input` has the fields of `input_fields`; `Output` has those that `output`
fills, or one for each last stage. A field's number comes of its name, so that
a new version of the pipeline with more fields is compatible with the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from google.protobuf import descriptor_pb2

from atomesh.core.contract import default_json_name
from atomesh.pipelines.references import Wrong
from atomesh.pipelines.shapes import SCALARS, Shape
from atomesh.pipelines.typespace import TypeSpace, field_number, own_package

_Field = descriptor_pb2.FieldDescriptorProto
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MAP = re.compile(r"\s*map\s*<\s*(?P<key>\w+)\s*,\s*(?P<value>[\w.]+)\s*>\s*")
_KEYS = SCALARS.keys() - {"double", "float", "bytes"}  # what protobuf takes as the key of a map


def own_file(
    pipeline: str, inputs: Mapping[str, Shape] | None, outputs: Mapping[str, Shape] | None
) -> descriptor_pb2.FileDescriptorProto:
    """The file with the messages that are wanted."""
    package = own_package(pipeline)
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}.proto", package=package, syntax="proto3"
    )
    for name, fields in (("Input", inputs), ("Output", outputs)):
        if fields is not None:
            message = file.message_type.add(name=name)
            taken: set[int] = set()
            numbers = {field: field_number(field, taken) for field in sorted(fields)}
            for field, shape in fields.items():  # as their author has them: so they are shown
                _add(file, message, field, shape, numbers[field])
    return file


def check_names(names: Iterable[str]) -> None:
    """Names that one message can have for its fields.

    Raises:
        Wrong: one is none, or two are the same to JSON, which `a_1` and `a1` are.
    """
    seen: dict[str, str] = {}
    for name in names:
        if not _FIELD.fullmatch(name):
            raise Wrong(f"{name!r:.80} is no name of a field; take letters, digits and _, a letter first").below(name)
        if (other := seen.setdefault(default_json_name(name), name)) != name:
            raise Wrong(f"{other} and {name} are one name in JSON; rename one").below(name)


def shape_named(text: str, types: TypeSpace) -> Shape:
    """The shape that `string`, `repeated int64`, `map<string, int64>` or a message's or enum's full name stands for.

    Raises:
        Wrong: it is none of these.
    """
    if (parts := _MAP.fullmatch(text)) is not None and parts["key"] in _KEYS:
        one = _one_named(parts["value"], types)
        if one is not None:
            return replace(one, key=parts["key"])
    words = text.split()
    many = words[:1] == ["repeated"]
    one = _one_named(words[-1], types) if len(words) == 1 + many else None
    if one is not None:
        return replace(one, many=many)
    raise Wrong(
        f"{text!r:.80} is no type; write one of {', '.join(SCALARS)}, or a message or enum of the agents' contracts, "
        "one, repeated, or in a map such as map<string, int64>"
    )


def _one_named(name: str, types: TypeSpace) -> Shape | None:
    if name in SCALARS:
        return Shape(scalar=name)
    if (message := types.find(name)) is not None:
        return Shape(message=message)
    enum = types.find_enum(name)
    return None if enum is None else Shape(enum=enum)


def _add(
    file: descriptor_pb2.FileDescriptorProto,
    message: descriptor_pb2.DescriptorProto,
    name: str,
    shape: Shape,
    number: int,
) -> None:
    label = _Field.LABEL_REPEATED if shape.many or shape.key else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if shape.key:
        entry = message.nested_type.add(name=_entry_name(name))
        entry.options.map_entry = True
        _add(file, entry, "key", Shape(scalar=shape.key), 1)
        _add(file, entry, "value", shape.one, 2)
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{file.package}.{message.name}.{entry.name}"
        return
    named = shape.message or shape.enum
    if named is None:
        field.type = SCALARS[shape.scalar]
        return
    field.type = _Field.TYPE_MESSAGE if shape.message is not None else _Field.TYPE_ENUM
    field.type_name = f".{named.full_name}"
    if named.file.name not in file.dependency:
        file.dependency.append(named.file.name)


def _entry_name(field: str) -> str:
    """The name that protobuf gives the entries of a map field (MapEntryName of its compiler)."""
    return "".join(word[:1].upper() + word[1:] for word in field.split("_")) + "Entry"
