"""A contract with every kind of field, made from descriptors alone, and plans over it and the text agent's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.message import Message

from atomesh.core.contract import ContractDescriptor, describe
from atomesh.pipelines.errors import PipelineInvalid
from atomesh.pipelines.plan import Bound, Plan, wants
from atomesh.pipelines.planner import make_plan
from atomesh.pipelines.reading import read_pipeline
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

_Field = descriptor_pb2.FieldDescriptorProto
_WELL_KNOWN: tuple[Any, ...] = (timestamp_pb2, duration_pb2, struct_pb2, wrappers_pb2, any_pb2)
_SCALARS = ["double", "float", "int64", "uint64", "int32", "uint32", "bool", "string", "bytes"]
_ENCODINGS = ["fixed32", "fixed64", "sfixed32", "sfixed64", "sint32", "sint64"]
_OTHERS = {
    "at": "Timestamp",
    "took": "Duration",
    "struct": "Struct",
    "value": "Value",
    "listed": "ListValue",
    "wrapped": "StringValue",
    "wrapped_bytes": "BytesValue",
    "any": "Any",
}
_MAPS = {
    "words": (_Field.TYPE_STRING, _Field.TYPE_STRING, ""),
    "by_number": (_Field.TYPE_INT32, _Field.TYPE_MESSAGE, ".lab.v1.Inner"),
    "colored": (_Field.TYPE_STRING, _Field.TYPE_ENUM, ".lab.v1.Color"),
}


def lab_file() -> descriptor_pb2.FileDescriptorProto:
    """`lab.v1.Everything`, which has a field of every kind, `a_string` and `many_string` and so on."""
    file = descriptor_pb2.FileDescriptorProto(name="lab/v1/lab.proto", package="lab.v1", syntax="proto3")
    file.dependency.extend(module.DESCRIPTOR.name for module in _WELL_KNOWN)
    color = file.enum_type.add(name="Color")
    for number, name in enumerate(("COLOR_UNSPECIFIED", "COLOR_RED", "COLOR_BLUE")):
        color.value.add(name=name, number=number)
    inner = file.message_type.add(name="Inner")
    inner.field.add(name="text", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    inner.field.add(name="number", number=2, type=_Field.TYPE_INT32, label=_Field.LABEL_OPTIONAL)
    _fill(file.message_type.add(name="Everything"))
    return file


def _fill(message: descriptor_pb2.DescriptorProto) -> None:
    def add(name: str, kind: Any, type_name: str = "", label: Any = _Field.LABEL_OPTIONAL, **more: Any) -> None:
        number = len(message.field) + 1
        message.field.add(name=name, number=number, type=kind, type_name=type_name or None, label=label, **more)

    for kind in (*_SCALARS, *_ENCODINGS):
        add(f"a_{kind}", getattr(_Field, f"TYPE_{kind.upper()}"))
        add(f"many_{kind}", getattr(_Field, f"TYPE_{kind.upper()}"), label=_Field.LABEL_REPEATED)
    add("color", _Field.TYPE_ENUM, ".lab.v1.Color")
    add("colors", _Field.TYPE_ENUM, ".lab.v1.Color", _Field.LABEL_REPEATED)
    add("inner", _Field.TYPE_MESSAGE, ".lab.v1.Inner")
    add("inners", _Field.TYPE_MESSAGE, ".lab.v1.Inner", _Field.LABEL_REPEATED)
    for name, other in _OTHERS.items():
        add(name, _Field.TYPE_MESSAGE, f".google.protobuf.{other}")
    for name, (key, value, type_name) in _MAPS.items():
        entry = message.nested_type.add(name="".join(word.title() for word in name.split("_")) + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=key, label=_Field.LABEL_OPTIONAL)
        entry.field.add(name="value", number=2, type=value, type_name=type_name or None, label=_Field.LABEL_OPTIONAL)
        add(name, _Field.TYPE_MESSAGE, f".lab.v1.Everything.{entry.name}", _Field.LABEL_REPEATED)
    message.oneof_decl.add(name="either")
    add("left", _Field.TYPE_STRING, oneof_index=0)
    add("right", _Field.TYPE_MESSAGE, ".lab.v1.Inner", oneof_index=0)
    message.oneof_decl.add(name="_perhaps")
    add("perhaps", _Field.TYPE_INT32, oneof_index=1, proto3_optional=True)


def classes_of(file: descriptor_pb2.FileDescriptorProto) -> dict[str, type[Message]]:
    """The classes of a file's messages, in a pool of their own, as another process would have them."""
    pool = descriptor_pool.DescriptorPool()
    for module in _WELL_KNOWN:
        known = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(known)
        pool.Add(known)
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{message.name}"))
        for message in file.message_type
    }


class Lab:
    """Plans of agents `lab` (Everything to Everything) and `text` (the text agent's contract)."""

    def __init__(self) -> None:
        self.classes = classes_of(lab_file())
        self.everything: Any = self.classes["Everything"]
        self.contracts = {
            "lab": describe(self.everything, self.everything),
            "text": describe(TextInput, TextOutput),
        }

    def plan(self, text: str | Mapping[str, Any], *, name: str = "", idempotent: bool = False) -> Plan:
        """The plan of a pipeline whose agents are `lab` and `text`."""
        spec, source = read_pipeline(text if isinstance(text, str) else json.dumps(text), name)
        bound = {
            want.key: Bound(agent := want.agent or "text", self.contract(agent), want.version, idempotent)
            for want in wants(spec)
        }
        return make_plan(spec, bound, source)

    def contract(self, agent: str) -> ContractDescriptor:
        return self.contracts[agent]

    def problems(self, text: str | Mapping[str, Any]) -> list[str]:
        """What is wrong with it, each in one line."""
        with pytest.raises(PipelineInvalid) as caught:
            self.plan(text)
        said = list(map(str, caught.value.problems))
        assert all("\n" not in line for line in said), "a problem is one line"
        return said

    def of(self, *stages: Mapping[str, Any], **settings: Any) -> Plan:
        """The plan of these stages."""
        return self.plan({"name": "p", "stages": list(stages), **settings})

    def wrong(self, *stages: Mapping[str, Any], **settings: Any) -> list[str]:
        """What is wrong with these stages, without the line, which is the first: it is JSON in one line."""
        found = self.problems({"name": "p", "stages": list(stages), **settings})
        return [problem.removeprefix("line 1: ") for problem in found]

    def filled(self, mapping: Any, **given: Any) -> Any:
        """What a stage `b` is given by its mapping, where the stage `a` before it gave a message with `given`."""
        made = self.mapped(mapping)
        output = self.in_plan(made, self.everything(**given))
        return made.steps[1].fill({"a": output, "input": output})

    def mapped(self, mapping: Any) -> Plan:
        """The plan of a stage `a` and a stage `b` with this input."""
        return self.of({"id": "a", "agent": "lab"}, {"id": "b", "agent": "lab", "input": mapping})

    def unmapped(self, mapping: Any) -> str:
        """The one thing that is wrong with the input of `b`."""
        (problem,) = self.wrong({"id": "a", "agent": "lab"}, {"id": "b", "agent": "lab", "input": mapping})
        return problem.removeprefix("stages.b.input")

    @staticmethod
    def in_plan(plan: Plan, message: Message) -> Any:
        """The message in the plan's own class of Everything."""
        return plan.contract.input.FromString(message.SerializeToString())


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()
