"""Agents as a registry shows them, in one line each."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2

from atomesh.core import Capability, ContractDescriptor, Endpoint, Load
from atomesh.pipelines.assembly import Catalog
from atomesh.v1 import agent_pb2

_Field = descriptor_pb2.FieldDescriptorProto


def endpoint(agent: str, capabilities: Mapping[str, float | None] | None = None, **more: Any) -> Endpoint:
    """One endpoint; `ms`, `failures`, `in_flight` and `queued` make its load of 1,000 executions."""
    load = None
    if "ms" in more:
        ended = more.pop("executions", 1000)
        load = Load(
            slots=more.get("slots", 1),
            executions=ended,
            failures=more.pop("failures", 0),
            in_flight=more.pop("in_flight", 0),
            queued=more.pop("queued", 0),
            busy=more.pop("ms") / 1000 * ended,
        )
    return Endpoint(
        agent,
        more.pop("address", "127.0.0.1:1"),
        capabilities=tuple(Capability(name, score) for name, score in (capabilities or {}).items()),
        input_type=more.pop("takes", "t.In"),
        output_type=more.pop("gives", "t.Out"),
        load=load,
        **more,
    )


@pytest.fixture
def listed() -> Callable[..., Endpoint]:
    return endpoint


WORDS = ("title", "body", "tags", "note", "rank")
OTHERS = {"mood": ("enum", "enum", "int32"), "counts": ("map",), "inner": ("Inner", "Alike"), "moods": ("map<enum>",)}
"""Words of fields that are no strings, and what they may be."""


def random_catalog(rng: random.Random, *, agents: int, kinds: int = 6, capabilities: int = 3) -> Catalog:
    """Agents over a few message types, whose fields share names and differ in types and rules."""
    shapes = {f"K{n}": _fields(rng) for n in range(kinds)}
    endpoints, contracts = [], {}
    for n in range(agents):
        taken, given = rng.choice(list(shapes)), rng.choice(list(shapes))
        made = contract({taken: shapes[taken], given: shapes[given]}, f"r.{taken}", f"r.{given}")
        contracts[made.hash] = made
        able = rng.sample([f"c{n}" for n in range(capabilities)], rng.choice([0, 1, 1, 2]))
        endpoints.append(
            endpoint(
                f"a{n}",
                {name: rng.choice([None, 0.5, 0.9]) for name in able},
                takes=made.input_type,
                gives=made.output_type,
                contract_hash=made.hash,
                ms=rng.choice([5, 5, 20, 80]),
                failures=rng.choice([0, 0, 30]),
                slots=rng.choice([1, 4]),
                in_flight=rng.choice([0, 1]),
            )
        )
    return Catalog.build(endpoints, contracts)


def _fields(rng: random.Random) -> dict[str, str]:
    kinds = ("string", "string!", "string!", "int32", "string<9")
    found = {word: rng.choice(kinds) for word in rng.sample(WORDS, rng.randint(1, 3))}
    if rng.random() < 0.4:
        word = rng.choice(list(OTHERS))
        found[word] = rng.choice(OTHERS[word])
    return found


def contract(messages: Mapping[str, Mapping[str, str]], taken: str, given: str, rule: str = "") -> ContractDescriptor:
    """A contract of messages whose fields are a type with `!` for min_len 1 and `<9` for max_len 9.

    A type is a scalar, `enum`, `map`, `map<enum>`, or one of the messages
    `Inner` and `Alike`, which hold the same.

    `rule` is one of the input's own that every message keeps: `cel` or `oneof`.
    """
    package = taken.rpartition(".")[0]
    files = descriptor_pb2.FileDescriptorSet()
    for known in (*validate_pb2.DESCRIPTOR.dependencies, validate_pb2.DESCRIPTOR):
        known.CopyToProto(files.file.add())
    for kind in {stated for fields in messages.values() for stated in fields.values()} & {"Inner", "Alike"}:
        _single(files, package, kind).message_type.add(name=kind).field.add(
            name="text", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING
        )
    if any("enum" in stated for fields in messages.values() for stated in fields.values()):
        _single(files, package, "Mood").enum_type.add(name="Mood").value.add(name="MOOD_UNSPECIFIED", number=0)
    # Each message is a file of its own, so that contracts which share one state the same of it.
    for name, fields in messages.items():
        file = files.file.add(
            name=f"{package}/{name}.proto",
            package=package,
            syntax="proto3",
            dependency=["buf/validate/validate.proto"],
        )
        message = file.message_type.add(name=name)
        for word, stated in fields.items():
            _field(message, word, stated, package)
        used = {"Mood" if "enum" in stated else stated for stated in fields.values()} & {"Mood", "Inner", "Alike"}
        file.dependency.extend(f"{package}/{name}.proto" for name in sorted(used))
        if rule == "cel" and taken.endswith(f".{name}"):
            message.options.Extensions[validate_pb2.message].cel.add(id="r", message="m", expression="true")
        if rule == "oneof" and taken.endswith(f".{name}"):
            group = message.oneof_decl.add(name="group")
            group.options.Extensions[validate_pb2.oneof].required = True
            message.field[0].oneof_index = 0
    serialized = files.SerializeToString(deterministic=True)
    return ContractDescriptor.from_proto(
        agent_pb2.Contract(input_type=taken, output_type=given, descriptor_set=serialized)
    )


def _single(files: descriptor_pb2.FileDescriptorSet, package: str, name: str) -> descriptor_pb2.FileDescriptorProto:
    return files.file.add(name=f"{package}/{name}.proto", package=package, syntax="proto3")


def _field(message: descriptor_pb2.DescriptorProto, word: str, stated: str, package: str) -> None:
    field = message.field.add(name=word, number=zlib.crc32(word.encode()) % 1000 + 1, label=_Field.LABEL_OPTIONAL)
    if stated.startswith("map"):
        entry = message.nested_type.add(name=f"{word.title()}Entry")
        entry.options.map_entry = True
        value = "enum" if "enum" in stated else "int32"
        for number, (name, kind) in enumerate((("key", "string"), ("value", value)), 1):
            _typed(entry.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL), kind, package)
        field.label, field.type = _Field.LABEL_REPEATED, _Field.TYPE_MESSAGE
        field.type_name = f".{package}.{message.name}.{entry.name}"
        return
    kind, _, most = stated.removesuffix("!").partition("<")
    _typed(field, kind, package)
    rules = field.options.Extensions[validate_pb2.field]
    if stated.endswith("!"):
        rules.string.min_len = 1
    if most:
        rules.string.max_len = int(most)


def _typed(field: descriptor_pb2.FieldDescriptorProto, kind: str, package: str) -> None:
    if kind == "enum":
        field.type, field.type_name = _Field.TYPE_ENUM, f".{package}.Mood"
    elif kind in ("Inner", "Alike"):
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{package}.{kind}"
    else:
        field.type = _Field.Type.Value(f"TYPE_{kind.upper()}")


@pytest.fixture(name="random_catalog")
def _random_catalog() -> Callable[..., Catalog]:
    return random_catalog


@pytest.fixture(name="contract")
def _contract() -> Callable[..., ContractDescriptor]:
    return contract
