"""What may change in a contract while endpoints of both sides are up; every rule holds both ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

from atomesh.core.compatibility import incompatibility
from atomesh.core.contract import ContractDescriptor
from atomesh.v1 import agent_pb2

ONEOF = [descriptor_pb2.OneofDescriptorProto(name="choice")]
REPEATED, REQUIRED = Field.LABEL_REPEATED, Field.LABEL_REQUIRED


@pytest.fixture
def check(protos: Any) -> Callable[..., None]:
    """Asserts that two contracts are compatible, or that what differs is named, in both directions."""

    def checked(old: ContractDescriptor, new: ContractDescriptor, *named: str) -> None:
        for first, second in ((old, new), (new, old)):
            said = incompatibility(first, second)
            if not named:
                assert said is None, f"must be compatible: {said}"
                continue
            assert said is not None, f"a change of {named} must be found in both directions"
            assert all(word in said for word in named), said
        assert incompatibility(old, old) is incompatibility(new, new) is None

    return checked


def _enum(*values: tuple[str, int], name: str = "E", alias: bool = False) -> descriptor_pb2.EnumDescriptorProto:
    enum = descriptor_pb2.EnumDescriptorProto(name=name)
    enum.value.extend(descriptor_pb2.EnumValueDescriptorProto(name=word, number=number) for word, number in values)
    if alias:
        enum.options.allow_alias = True
    return enum


def _map(protos: Any, value: str) -> Any:
    entry = protos.message("TagsEntry", protos.field(1, "key"), protos.field(2, "value", value))
    entry.options.map_entry = True
    return protos.message("In", protos.field(1, "tags", ".t.In.TagsEntry", label=REPEATED), nested_type=[entry])


def test_a_field_that_only_one_side_knows_is_fine(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    old = c(m("In", f(1, "a")), m("Out", f(1, "x"), f(2, "y")))
    new = c(m("In", f(1, "a"), f(2, "b", "int64"), f(3, "many", label=REPEATED)), m("Out", f(1, "x")))
    check(old, new)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ({}, {"kind": "int32"}, ("t.In.a", "int32", "string")),
        ({}, {"kind": "bytes"}, ("t.In.a", "bytes")),
        ({"kind": "int32"}, {"kind": "int64"}, ("t.In.a", "int64")),
        ({}, {"label": REPEATED}, ("t.In.a", "repeated string")),
        ({}, {"json_name": "other"}, ("t.In.a", "JSON name other")),
    ],
)
def test_a_field_that_both_know_keeps_type_and_cardinality(
    protos: Any, check: Any, old: dict[str, Any], new: dict[str, Any], named: tuple[str, ...]
) -> None:
    first, second = (protos.contract(protos.message("In", protos.field(1, "a", **kind))) for kind in (old, new))
    check(first, second, *named)


def test_a_field_keeps_its_name_and_its_number(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    check(c(m("In", f(1, "a"))), c(m("In", f(1, "b"))), "field 1 of t.In is named")
    check(c(m("In", f(1, "a"))), c(m("In", f(2, "a"))), "field t.In.a has number")
    check(c(m("Out", f(1, "a"))), c(m("Out", f(1, "b"))), "field 1 of t.Out is named")


def test_a_json_name_that_is_the_default_one_is_no_change(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    stated = c(m("In", f(1, "max_top_k", json_name="maxTopK")))
    unstated = c(m("In", f(1, "max_top_k")))
    check(stated, unstated)
    assert stated.hash == unstated.hash, "protoc states it in descriptor sets and not in generated code"


def test_a_field_stays_in_its_oneof(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    inside = c(m("In", f(1, "a", oneof_index=0), oneof_decl=ONEOF))
    check(inside, c(m("In", f(1, "a"))), "t.In.a", "oneof choice")
    more = c(m("In", f(1, "a", oneof_index=0), f(2, "b", oneof_index=0), oneof_decl=ONEOF))
    check(inside, more)


def test_optional_may_be_added_to_a_field(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    explicit = m(
        "In",
        f(1, "a", oneof_index=0, proto3_optional=True),
        oneof_decl=[descriptor_pb2.OneofDescriptorProto(name="_a")],
    )
    check(c(explicit), c(m("In", f(1, "a"))))


def test_what_is_required_must_be_known_to_both(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    old = c(m("In", f(1, "a")), syntax="proto2")
    new = c(m("In", f(1, "a"), f(2, "b", label=REQUIRED)), syntax="proto2")
    check(old, new, "t.In.b", "required")
    check(old, c(m("In", f(1, "a", label=REQUIRED)), syntax="proto2"), "t.In.a", "required")


def test_a_group_is_not_a_message(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    inner = m("A", f(1, "x"))
    as_message = c(m("In", f(1, "a", ".t.In.A"), nested_type=[inner]), syntax="proto2")
    as_group = c(m("In", f(1, "a", ".t.In.A", type=Field.TYPE_GROUP), nested_type=[inner]), syntax="proto2")
    check(as_message, as_group, "t.In.a", "group")


def test_an_enum_may_grow_and_shrink_but_a_number_keeps_its_name(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    uses = m("In", f(1, "e", "enum.t.E"))
    old = c(uses, _enum(("NO", 0), ("A", 1)))
    check(old, c(uses, _enum(("NO", 0), ("A", 1), ("B", 2))))
    check(old, c(uses, _enum(("NO", 0))))
    check(old, c(uses, _enum(("NO", 0), ("Z", 1))), "value 1 of t.E is named")
    check(old, c(uses, _enum(("NO", 0), ("A", 2))), "value t.E.A has number")


def test_an_alias_of_an_enums_value_is_no_new_name(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    uses = m("In", f(1, "e", "enum.t.E"))
    old = c(uses, _enum(("NO", 0), ("A", 1)))
    aliased = c(uses, _enum(("NO", 0), ("A", 1), ("B", 1), alias=True))
    check(old, aliased)
    check(aliased, c(uses, _enum(("NO", 0), ("A", 1), ("B", 1), ("C", 1), alias=True)))
    # The new side writes B into JSON, which the old side cannot read.
    check(old, c(uses, _enum(("NO", 0), ("B", 1), ("A", 1), alias=True)), "value 1 of t.E is named")


def test_a_nested_type_counts_and_one_that_is_not_reached_does_not(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract

    def nested(kind: str) -> Any:
        deepest = m("Deep", f(1, "x", kind))
        return c(m("In", f(1, "mid", ".t.In.Mid"), nested_type=[m("Mid", f(1, "deep", ".t.Deep"))]), deepest)

    check(nested("string"), nested("int32"), "field t.Deep.x is")
    check(c(m("Aside", f(1, "x"))), c(m("Aside", f(1, "x", "int32"))))


def test_a_type_that_only_one_side_can_send_never_meets_the_others(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    old = c(m("In", f(1, "a", ".t.Part")), m("Part", f(1, "x")))
    new = c(m("In", f(2, "b", ".t.Part")), m("Part", f(1, "x", "int32")))
    check(old, new)


def test_the_values_of_a_map_keep_their_type(protos: Any, check: Any) -> None:
    check(protos.contract(_map(protos, "string")), protos.contract(_map(protos, "int32")), "t.In.TagsEntry.value")
    check(protos.contract(_map(protos, "string")), protos.contract(_map(protos, "string")))


def test_a_message_that_became_an_enum_is_found(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    old = c(m("In", f(1, "a", ".t.Kind")), m("Kind", f(1, "x")))
    new = c(m("In", f(1, "a", "enum.t.Kind")), _enum(("NO", 0), name="Kind"))
    check(old, new, "t.Kind is a message on one side and an enum on the other")


def test_a_field_of_another_message_type_is_found(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    old = c(m("In", f(1, "a", ".t.Some")), m("Some"), m("Other"))
    new = c(m("In", f(1, "a", ".t.Other")), m("Some"), m("Other"))
    check(old, new, "t.In.a", "t.Other", "t.Some")


def test_messages_that_hold_each_other_end(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract

    def ring(kind: str) -> Any:
        return c(m("In", f(1, "b", ".t.B")), m("B", f(1, "back", ".t.In"), f(2, "self", ".t.B"), f(3, "x", kind)))

    check(ring("string"), ring("int32"), "field t.B.x")
    check(ring("string"), c(m("In", f(1, "b", ".t.B"), f(9, "n")), m("B", f(1, "back", ".t.In"), f(2, "self", ".t.B"))))


def test_another_type_is_another_contract(protos: Any) -> None:
    old = protos.contract()
    new = ContractDescriptor("t.Out", "t.Out", old.descriptor_set, "another")
    assert incompatibility(old, new) == "input type is t.Out, was t.In"
    new = ContractDescriptor("t.In", "t.In", old.descriptor_set, "another")
    assert incompatibility(old, new) == "output type is t.In, was t.Out"


def _chunky(protos: Any, kind: str = "Piece", *fields: Field) -> ContractDescriptor:
    """`t.In` -> chunks of `t.<kind>` -> `t.Out`."""
    plain = protos.contract(protos.message("Piece", *fields), protos.message("Scrap"))
    return ContractDescriptor.from_proto(
        agent_pb2.Contract(
            input_type="t.In", output_type="t.Out", descriptor_set=plain.descriptor_set, chunk_type=f"t.{kind}"
        )
    )


def test_an_agent_may_gain_and_lose_its_chunks(protos: Any, check: Any) -> None:
    check(protos.contract(), _chunky(protos))
    # What nobody else reads, nobody else minds: not even its fields.
    f = protos.field
    check(protos.contract(protos.message("Piece", f(1, "text"))), _chunky(protos, "Piece", f(1, "text", "int32")))


def test_chunks_of_another_type_are_another_contract(protos: Any) -> None:
    for old, new in (("Piece", "Scrap"), ("Scrap", "Piece")):
        said = incompatibility(_chunky(protos, old), _chunky(protos, new))
        assert said == f"chunk type is t.{new}, was t.{old}"


def test_the_rules_for_fields_hold_in_chunks_as_well(protos: Any, check: Any) -> None:
    f = protos.field
    check(_chunky(protos, "Piece", f(1, "a")), _chunky(protos, "Piece", f(1, "a"), f(2, "b")))
    check(_chunky(protos, "Piece", f(1, "a")), _chunky(protos, "Piece", f(1, "a", "int32")), "t.Piece.a", "int32")


def test_files_and_comments_may_move(protos: Any, check: Any) -> None:
    f, m, c = protos.field, protos.message, protos.contract
    source = descriptor_pb2.SourceCodeInfo(
        location=[descriptor_pb2.SourceCodeInfo.Location(path=[4, 0], leading_comments="hello")]
    )
    check(c(m("In", f(1, "a"))), c(m("In", f(1, "a")), source_code_info=source))
    check(c(m("In", f(1, "a"))), c(m("In", f(1, "a")), name="elsewhere.proto"))
