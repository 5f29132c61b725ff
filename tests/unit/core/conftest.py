"""Contracts made of descriptors alone, as strangers send them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import pytest
from buf.validate import validate_pb2
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, struct_pb2, text_format, wrappers_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

from atomesh.core.contract import ContractDescriptor
from atomesh.v1 import agent_pb2

Messages: TypeAlias = Sequence[descriptor_pb2.DescriptorProto]
_TYPES = {"string": Field.TYPE_STRING, "int32": Field.TYPE_INT32, "int64": Field.TYPE_INT64, "bytes": Field.TYPE_BYTES}


def field(number: int, name: str, kind: str = "string", **options: Any) -> Field:
    """A field; a `kind` that begins with a dot is a message, with `enum.` before it an enum."""
    made = Field(number=number, name=name, label=options.pop("label", Field.LABEL_OPTIONAL), **options)
    if kind.startswith("enum."):
        made.type, made.type_name = Field.TYPE_ENUM, kind.removeprefix("enum")
    elif kind.startswith("."):
        made.type, made.type_name = options.get("type", Field.TYPE_MESSAGE), kind
    else:
        made.type = _TYPES[kind]
    return made


def message(name: str, *fields: Field, **more: Any) -> descriptor_pb2.DescriptorProto:
    return descriptor_pb2.DescriptorProto(name=name, field=fields, **more)


def contract(*messages: Any, **more: Any) -> ContractDescriptor:
    """`t.In` -> `t.Out` in one file. What is not given of the two is empty."""
    given = [kind for kind in messages if isinstance(kind, descriptor_pb2.DescriptorProto)]
    enums = [kind for kind in messages if isinstance(kind, descriptor_pb2.EnumDescriptorProto)]
    missing = [message(name) for name in ("In", "Out") if name not in {kind.name for kind in given}]
    file = descriptor_pb2.FileDescriptorProto(
        name=more.pop("name", "t.proto"),
        package="t",
        syntax=more.pop("syntax", "proto3"),
        message_type=[*given, *missing],
        enum_type=enums,
        **more,
    )
    descriptors = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    proto = agent_pb2.Contract(input_type="t.In", output_type="t.Out", descriptor_set=descriptors)
    return ContractDescriptor.from_proto(proto)


class Protos:
    """The three builders; test modules cannot import each other."""

    field = staticmethod(field)
    message = staticmethod(message)
    contract: Callable[..., ContractDescriptor] = staticmethod(contract)


@pytest.fixture
def protos() -> type[Protos]:
    return Protos


_LINE = re.compile(
    r"(?:(?P<label>optional|repeated|required) )?(?:map<(?P<key>\w+), (?P<held>[\w.]+)>|(?P<kind>[\w.]+)) (?P<name>\w+) = (?P<number>\d+)"
    r"(?: in (?P<oneof>\w+))?(?: (?P<rules>\{.*\}))?"
)
_LABELS = {"repeated": Field.LABEL_REPEATED, "required": Field.LABEL_REQUIRED}


def _known_files() -> list[descriptor_pb2.FileDescriptorProto]:
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def collect(file: Any) -> None:
        for dependency in file.dependencies:
            collect(dependency)
        files.setdefault(file.name, descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb))

    for module in (validate_pb2, wrappers_pb2, any_pb2, struct_pb2):
        collect(module.DESCRIPTOR)
    return list(files.values())


_KNOWN = _known_files()


class Ruled:
    """Builds messages from lines as a `.proto` has them, with rules as text behind them.

    ruled("string a = 1 {string {min_len: 3}}", "map<string, int32> b = 2", "Part c = 3 in choice",
          types={"Part": ["bytes x = 1"], "Color": {"RED": 0}}, rules="oneof {...}", required=["choice"])
    """

    def __call__(self, *lines: str, **more: Any) -> Descriptor:
        name = more.get("name", "In")
        return self.pool(*lines, **more).FindMessageTypeByName(f"t.{name}")

    def pool(self, *lines: str, **more: Any) -> descriptor_pool.DescriptorPool:
        pool = descriptor_pool.DescriptorPool()
        for file in self.files(*lines, **more):
            pool.Add(file)
        return pool

    def files(self, *lines: str, **more: Any) -> list[descriptor_pb2.FileDescriptorProto]:
        """The files of a message, `t.In` unless it has another `name`, dependencies first."""
        syntax = more.get("syntax", "proto3")
        file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax=syntax)
        file.dependency.extend(known.name for known in _KNOWN)
        types: Mapping[str, Any] = {more.get("name", "In"): lines, **more.get("types", {})}
        for name, content in types.items():
            if isinstance(content, dict):
                enum = file.enum_type.add(name=name)
                for word, number in content.items():
                    enum.value.add(name=word, number=number)
                enum.options.allow_alias = len(set(content.values())) < len(content)
            else:
                self._message(file, name, content, types, syntax)
        own = next(message for message in file.message_type if message.name == more.get("name", "In"))
        if rules := more.get("rules"):
            text_format.Parse(rules, own.options.Extensions[validate_pb2.message])
        for oneof in own.oneof_decl:
            if oneof.name in more.get("required", ()):
                oneof.options.Extensions[validate_pb2.oneof].required = True
        return [*_KNOWN, file]

    def _message(self, file: Any, name: str, lines: Sequence[str], types: Mapping[str, Any], syntax: str) -> None:
        made = file.message_type.add(name=name)
        for line in sorted(lines, key=lambda line: line.startswith("optional")):  # synthetic oneofs come last
            match = _LINE.fullmatch(line)
            assert match is not None, f"no field: {line}"
            field = made.field.add(name=match["name"], number=int(match["number"]))
            field.label = _LABELS.get(match["label"], Field.LABEL_OPTIONAL)
            if match["key"]:
                field.label = Field.LABEL_REPEATED
                self._map(made, field, match, types)
            else:
                self._type(field, match["kind"], types)
            if match["oneof"] or (match["label"] == "optional" and syntax == "proto3"):
                oneof = match["oneof"] or f"_{match['name']}"
                names = [each.name for each in made.oneof_decl]
                if oneof not in names:
                    made.oneof_decl.add(name=oneof)
                    names.append(oneof)
                field.oneof_index = names.index(oneof)
                field.proto3_optional = not match["oneof"]
            if match["rules"]:
                text_format.Parse(match["rules"][1:-1], field.options.Extensions[validate_pb2.field])

    def _map(self, made: Any, field: Any, match: re.Match[str], types: Mapping[str, Any]) -> None:
        name = match["name"].title() + "Entry"
        entry = made.nested_type.add(name=name)
        entry.options.map_entry = True
        for number, (word, kind) in enumerate((("key", match["key"]), ("value", match["held"])), start=1):
            self._type(entry.field.add(name=word, number=number, label=Field.LABEL_OPTIONAL), kind, types)
        field.type, field.type_name = Field.TYPE_MESSAGE, f".t.{made.name}.{name}"

    def _type(self, field: Any, kind: str, types: Mapping[str, Any]) -> None:
        if hasattr(Field, f"TYPE_{kind.upper()}"):
            field.type = getattr(Field, f"TYPE_{kind.upper()}")
            return
        field.type = Field.TYPE_ENUM if isinstance(types.get(kind), dict) else Field.TYPE_MESSAGE
        field.type_name = f".{kind}" if "." in kind else f".t.{kind}"


@pytest.fixture(scope="session")
def ruled() -> Ruled:
    return Ruled()
