"""Contracts made of descriptors alone, as strangers send them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pytest
from google.protobuf import descriptor_pb2
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
