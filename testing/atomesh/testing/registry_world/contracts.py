"""Contracts of a registry's worlds: which of them go together is known, and not asked of the library."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import descriptor_pb2

from atomesh.core.contract import ContractDescriptor
from atomesh.v1 import agent_pb2

_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
_OPTIONAL = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract, and the name under which an endpoint shows it."""

    proto: agent_pb2.Contract
    hash: str


def _make(**fields: descriptor_pb2.FieldDescriptorProto.Type.ValueType) -> Contract:
    """`world.v1.In` with these fields, to `world.v1.Out`."""
    file = descriptor_pb2.FileDescriptorProto(name="world/v1/world.proto", package="world.v1", syntax="proto3")
    message = file.message_type.add(name="In")
    for number, (name, kind) in enumerate(fields.items(), start=1):
        message.field.add(name=name, number=number, type=kind, label=_OPTIONAL)
    file.message_type.add(name="Out")
    files = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    proto = agent_pb2.Contract(input_type="world.v1.In", output_type="world.v1.Out", descriptor_set=files)
    return Contract(proto, ContractDescriptor.from_proto(proto).hash)


PLAIN = _make(text=_STRING)
WIDER = _make(text=_STRING, count=_INT64)
"""A field more: goes together with PLAIN."""
BROKEN = _make(text=_INT64)
"""A field of another type: goes together with neither."""

CONTRACTS = (PLAIN, WIDER, BROKEN)
BREAKING = ((PLAIN.hash, BROKEN.hash), (WIDER.hash, BROKEN.hash))
