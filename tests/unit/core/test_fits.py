"""Which messages can be given where others are taken, and what is said where they cannot."""

from __future__ import annotations

from typing import Any

import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pool

from atomesh.core.fits import Breach, field_fit, fit, fits, structure_fit

COLORS = {"NONE": 0, "RED": 1}


def _said(*breaches: Breach) -> list[str]:
    return [str(breach) for breach in breaches]


def test_a_message_fits_itself_and_its_copy_in_another_pool(ruled: Any) -> None:
    lines = ["string a = 1 {string {min_len: 3}}", "In again = 2", "float x = 3 {float {gt: nan}}"]
    one, other = ruled(*lines), ruled(*lines)
    assert one is not other, "each pool has a descriptor of its own"
    assert fit(one, one) == fit(one, other) == ()
    assert fits(one, other)


def test_messages_of_other_names_fit_by_their_fields(ruled: Any) -> None:
    one = ruled("string a = 1", "int32 b = 2", "repeated Part c = 3", types={"Part": ["string x = 1"]})
    other = ruled("repeated Piece c = 3", "string a = 1", name="Else", types={"Piece": ["string x = 1", "bool y = 2"]})
    assert fit(one, other) == (), "what the consumer does not know passes by, and what the producer does not is unset"
    assert not fits(ruled("string z = 7"), other), "messages with no field in common have nothing to give"
    assert fits(ruled("string z = 7"), ruled("string a = 1")), "a type of the same name is the same in another state"
    assert _said(*fit(ruled("string z = 7"), other)) == ["t.In has none of the fields of t.Else"]
    assert fits(one, ruled(name="Nothing")), "where nothing is taken anything can be given"


STRUCTURE = [
    # (the producer's field, the consumer's, what is said); nothing is said where it fits
    ("string a = 1", "string a = 1", ""),
    ("string a = 1", "optional string a = 1", ""),
    ("optional string a = 1", "string a = 1", ""),
    ("string a = 1", "string a = 1 in choice", ""),
    ("int32 a = 1", "int64 a = 1", ""),
    ("uint32 a = 1", "uint64 a = 1", ""),
    ("uint32 a = 1", "int64 a = 1", ""),
    ("sint32 a = 1", "sint64 a = 1", ""),
    ("repeated int32 a = 1", "repeated int64 a = 1", ""),
    ("map<string, int32> a = 1", "map<string, int64> a = 1", ""),
    ("map<int32, Part> a = 1", "map<int64, Part> a = 1", ""),
    ("string a = 1", "string b = 1", "b: its number 1 is a's"),
    ("int64 a = 1", "int32 a = 1", "a: it is int32, not int64"),
    ("int32 a = 1", "uint64 a = 1", "a: it is uint64, not int32"),
    ("int32 a = 1", "sint32 a = 1", "a: it is sint32, not int32"),
    ("fixed32 a = 1", "fixed64 a = 1", "a: it is fixed64, not fixed32"),
    ("float a = 1", "double a = 1", "a: it is double, not float"),
    ("bool a = 1", "int32 a = 1", "a: it is int32, not bool"),
    ("string a = 1", "bytes a = 1", "a: it is bytes, not string"),
    ("string a = 1", "repeated string a = 1", "a: it is repeated string, not string"),
    ("repeated string a = 1", "string a = 1", "a: it is string, not repeated string"),
    ("Color a = 1", "int32 a = 1", "a: it is int32, not t.Color"),
    ("Part a = 1", "Color a = 1", "a: it is t.Color, not t.Part"),
    ("map<string, int32> a = 1", "map<string, string> a = 1", "a: it is string, not int32"),
    ("map<string, int32> a = 1", "repeated Part a = 1", "a: it is repeated t.Part, not map<string, int32>"),
    ("google.protobuf.Duration a = 1", "google.protobuf.Timestamp a = 1",
     "a: it is google.protobuf.Timestamp, not google.protobuf.Duration"),
    ("Part a = 1", "google.protobuf.Duration a = 1", "a: it is google.protobuf.Duration, not t.Part"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "taken", "said"), STRUCTURE)
def test_a_field_is_read_with_the_same_meaning_or_it_is_named(ruled: Any, given: str, taken: str, said: str) -> None:
    types = {"Part": ["string x = 1"], "Color": COLORS}
    one, other = ruled(given, types=types), ruled(taken, types=types, name="Else")
    assert _said(*structure_fit(one, other)) == _said(*fit(one, other)) == ([said] if said else [])
    field, wanted = one.fields[0], other.fields[0]
    if "number" not in said:
        assert _said(*field_fit(field, wanted)) == ([said] if said else []), "a mapping is held to the same"


def test_a_name_keeps_its_number(ruled: Any) -> None:
    said = fit(ruled("string a = 2", "string b = 1"), ruled("string a = 3", "string b = 1", name="Else"))
    assert _said(*said) == ["a: its number is 3, not 2"], "JSON would read it, and the wire would not"


def test_the_values_of_an_enum_must_be_known(ruled: Any) -> None:
    def color(syntax: str = "proto3", **values: int) -> Any:
        return ruled("optional Color a = 1", types={"Color": {"NONE": 0, **values}}, syntax=syntax)

    assert fits(color(RED=1), color(RED=1, BLUE=2))
    assert _said(*fit(color(RED=1, BLUE=2), color(RED=1))) == ["a: t.Color has no BLUE of number 2"]
    assert _said(*fit(color(RED=1), color(RED=2))) == ["a: t.Color has no RED of number 1"]
    assert fits(color("proto2", RED=1), color(RED=1, BLUE=2))
    assert _said(*fit(color(RED=1), color("proto2", RED=1))) == ["a: t.Color keeps no numbers but its own"]


def test_what_is_required_must_be_given(ruled: Any) -> None:
    old = ruled("optional string a = 1", syntax="proto2")
    needs = ruled("required string a = 1", syntax="proto2", name="Else")
    assert _said(*fit(old, needs)) == ["a: it is required, and may be unset"]
    more = ruled("optional string a = 1", "required string b = 2", syntax="proto2", name="Else")
    assert _said(*fit(old, more)) == ["b: it is required, and t.In does not have it"]


def test_an_unset_field_must_be_taken_by_the_rules(ruled: Any) -> None:
    given = ruled("string a = 1")
    for rule in (
        "required: true",
        "string {min_len: 1}",
        "string {in: 'x'}",
        "string {prefix: 'x'}",
        "string {uuid: true}",
    ):
        (breach,) = fit(given, ruled("string a = 1", f"string b = 2 {{{rule}}}", name="Else"))
        assert breach.field == "b"
        assert breach.problem.startswith("it must be set (")
        assert breach.problem.endswith(", and the producer has no such field")
    for free in (
        "optional string b = 2 {string {min_len: 1}}",
        "string b = 2 {ignore: IGNORE_IF_ZERO_VALUE string {len: 3}}",
    ):
        assert fits(given, ruled("string a = 1", free, name="Else"))
    (breach,) = fit(ruled("optional string a = 1"), ruled("string a = 1 {string {min_len: 1}}", name="Else"))
    assert breach.problem.endswith("and the producer may leave it unset")


def test_fields_that_come_together_are_not_given_to_a_oneof(ruled: Any) -> None:
    chosen = ruled("string a = 1 in choice", "string b = 2 in choice", name="Else")
    assert _said(*fit(ruled("string a = 1", "string b = 2"), chosen)) == [
        "one of a, b is taken, and the producer may give several"
    ]
    assert fits(ruled("string a = 1", "string c = 3"), chosen)
    assert fits(ruled("string a = 1 in any", "string b = 2 in any", "bool c = 3 in any"), chosen)


def test_a_oneof_that_must_be_set_is(ruled: Any) -> None:
    needs = ruled("string a = 1 in choice", "string b = 2 in choice", name="Else", required=["choice"])
    two = ("string a = 1 in any", "string b = 2 in any")
    assert fits(ruled(*two, required=["any"]), needs)
    assert fits(ruled("string a = 1 {string {min_len: 1}}"), needs)
    for producer in (ruled(*two), ruled(*two, "string c = 3 in any", required=["any"]), ruled("string a = 1")):
        assert _said(*fit(producer, needs)) == ["one of a, b must be set, and the producer may set none of them"]


def test_a_rule_for_several_fields_needs_its_like(ruled: Any) -> None:
    lines = ("string a = 1", "string b = 2")
    one = "oneof {fields: 'a' fields: 'b'}"
    must = "oneof {fields: 'a' fields: 'b' required: true}"
    takes = [ruled(*lines, name="Else", rules=rules) for rules in (one, must)]
    assert fits(ruled(*lines, rules=one), takes[0])
    assert fits(ruled(*lines, rules=must), takes[1])
    assert fits(ruled("string a = 1 {required: true}"), takes[1])
    assert _said(*fit(ruled(*lines, rules=one), takes[1])) == [
        "one of a, b must be set, and the producer may set none of them"
    ]
    assert _said(*fit(ruled(*lines), takes[0])) == ["at most one of a, b is taken, and the producer may give several"]
    explicit = ruled("optional string a = 1", "optional string b = 2", rules=must)
    assert not fits(explicit, takes[1]), "an empty string that is set arrives as one that is not"


def test_a_member_of_a_group_may_be_left_unset_whatever_its_rules(ruled: Any) -> None:
    lines = ("string a = 1 {string {min_len: 3}}", "string b = 2 {string {min_len: 3}}")
    group = ruled(*lines, rules="oneof {fields: 'a' fields: 'b' required: true}")
    (breach,) = fit(group, ruled(lines[0], name="Else"))
    assert breach.problem.endswith("and the producer may leave it unset"), "rules pass over the unset member of a group"
    assert fits(group, ruled(*lines, name="Else", rules="oneof {fields: 'a' fields: 'b' required: true}"))


CEL = "cel {id: 'few' expression: '!has(this.o.top) || this.a == \"top\"'}"
OPTIONS = {"Options": ["optional int32 top = 1"]}


def test_a_cel_rule_needs_the_same_words_of_the_same_fields(ruled: Any) -> None:
    lines = ("string a = 1", "Options o = 2")
    needs = ruled(*lines, types=OPTIONS, rules=CEL, name="Else")
    assert fits(ruled(*lines, types=OPTIONS, rules=CEL), needs)
    assert _said(*fit(ruled(*lines, types=OPTIONS), needs)) == [
        "the rule few holds, and the producer does not state it"
    ]
    more = {"Options": ["optional int32 top = 1", "bool more = 2"]}
    assert fits(ruled(*lines, "bool c = 3", types=more, rules=CEL), needs), (
        "fields that it does not speak of do not matter"
    )
    other = {"Options": ["int32 top = 1"]}
    assert _said(*fit(ruled(*lines, types=other, rules=CEL), needs)) == [
        "the rule few holds, and the producer states it of other fields"
    ]


def test_a_cel_rule_that_looks_at_a_whole_message_needs_the_whole_message(ruled: Any) -> None:
    lines = ("Part a = 1", "Part b = 2", "int32 n = 3")
    parts = {"Part": ["string x = 1"]}, {"Part": ["string x = 1", "string y = 2"]}
    unequal = "cel {id: 'differ' expression: 'this.a != this.b'}"
    needs = ruled(*lines, types=parts[0], rules=unequal, name="Else")
    assert fits(ruled(*lines, types=parts[0], rules=unequal), needs)
    assert not fits(ruled(*lines, types=parts[1], rules=unequal), needs), (
        "they may differ in what the consumer does not see"
    )


def test_a_cel_rule_of_fields_that_are_never_set_is_tried(ruled: Any) -> None:
    both = "cel {id: 'both' expression: 'has(this.b) == has(this.c)'}"
    lines = ("string a = 1", "optional string b = 2", "optional string c = 3")
    assert fits(ruled("string a = 1"), ruled(*lines, name="Else", rules=both))
    assert not fits(ruled("string a = 1", "optional string b = 2"), ruled(*lines, name="Else", rules=both))
    neither = both.replace("==", "!=")
    assert not fits(ruled("string a = 1"), ruled(*lines, name="Else", rules=neither))


def test_a_breach_deep_inside_is_named_by_its_path(ruled: Any) -> None:
    lines = ("Part p = 1", "repeated Part many = 2", "map<string, Part> by = 3")
    one = ruled(*lines, types={"Part": ["string x = 1"]})
    for line, field in zip(lines, ("p.x", "many[].x", "by[value].x"), strict=True):
        other = ruled(line, types={"Part": ["string x = 1 {string {max_len: 9}}"]}, name="Else")
        assert _said(*fit(one, other)) == [f"{field}: at most 9 characters are taken, and the producer states no limit"]


def test_what_nobody_checks_keeps_no_rules_inside_either(ruled: Any) -> None:
    parts = {"Part": ["string x = 1 {string {max_len: 9}}"]}
    checked, unchecked = ruled("Part p = 1", types=parts), ruled("Part p = 1 {ignore: IGNORE_ALWAYS}", types=parts)
    assert fits(checked, unchecked)
    assert [breach.field for breach in fit(unchecked, checked)] == ["p.x"]
    assert fits(
        unchecked, ruled("Part p = 1 {ignore: IGNORE_ALWAYS}", types={"Part": ["string x = 1 {string {len: 1}}"]})
    )


def test_an_empty_item_that_is_passed_over_must_be_taken(ruled: Any) -> None:
    parts = {"Part": ["string x = 1 {string {min_len: 1}}"]}
    over = ruled("repeated Part p = 1 {repeated {items {ignore: IGNORE_IF_ZERO_VALUE}}}", types=parts)
    assert not fits(over, ruled("repeated Part p = 1", types=parts))
    assert fits(ruled("repeated Part p = 1", types=parts), over)


def test_messages_that_hold_themselves_end(ruled: Any) -> None:
    def tree(limit: int) -> Any:
        return ruled(f"string x = 1 {{string {{max_len: {limit}}}}}", "repeated In below = 2", "Other o = 3",
                     types={"Other": ["In back = 1", "Other self = 2"]})  # fmt: skip

    assert fits(tree(3), tree(4))
    assert [breach.field for breach in fit(tree(4), tree(3))] == ["x"], "a pair of messages is compared once"


def test_a_value_is_put_into_another_field_by_the_same_rules(ruled: Any) -> None:
    given = ruled(
        "string a = 1 {string {max_len: 5}}", "optional string b = 2", "repeated string c = 3 {repeated {max_items: 2}}"
    )
    taken = ruled(
        "string x = 7 {string {max_len: 9}}", "string y = 8 {required: true}", "repeated string z = 9", name="Else"
    )
    a, b, c = given.fields_by_number[1], given.fields_by_number[2], given.fields_by_number[3]
    x, y, z = taken.fields_by_number[7], taken.fields_by_number[8], taken.fields_by_number[9]
    assert field_fit(a, x) == field_fit(c, z) == ()
    assert _said(*field_fit(b, x)) == ["x: at most 9 characters are taken, and the producer states no limit"]
    assert _said(*field_fit(b, y)) == ["y: it must be set (it is required), and the producer may leave it unset"]
    assert _said(*field_fit(a, z)) == ["z: it is repeated string, not string"]


def test_rules_that_cannot_be_tried_are_not_implied(ruled: Any) -> None:
    broken = ruled("string a = 1 {cel_expression: 'this is no CEL ('}", name="Else")
    assert not fits(ruled("string a = 1 {string {const: 'x'}}"), broken)


def test_rules_that_this_release_does_not_know_are_not_implied(ruled: Any) -> None:
    files = ruled.files("string a = 1 {string {min_len: 1}}")
    rules = files[-1].message_type[0].field[0].options.Extensions[validate_pb2.field]
    rules.string.MergeFromString(b"\xc0\x0c\x01")  # field 200, which StringRules does not have
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    unknown = pool.FindMessageTypeByName("t.In")
    (breach,) = fit(ruled("string a = 1 {string {min_len: 1}}", "bool more = 2"), unknown)
    assert str(breach) == "a: rules that are unknown here hold, and the producer is not known to keep them"


def test_a_chain_of_messages_is_compared_as_deep_as_parsers_read(ruled: Any) -> None:
    def chain(limit: int, at: int, rules: str = "") -> Any:
        types = {f"Link{n}": [f"Link{n + 1} a = 1", "string x = 2"] for n in range(1000)}
        types[f"Link{at}"] = [f"Link{at + 1} a = 1", f"string x = 2 {{string {{max_len: {limit}}}}}"]
        return ruled("Link0 a = 1", types={**types, "Link1000": ["string x = 2"]}, rules=rules)

    assert [len(breach.field) for breach in fit(chain(4, 90), chain(3, 90))] == [len("a." * 91 + "x")]
    assert fits(chain(4, 900), chain(3, 900)), "no parser reads so far"
    deep = "cel {id: 'deep' expression: 'this.a.a.x == this.a.x'}"
    assert fits(chain(4, 900, deep), chain(3, 900, deep)), "rules are no part of what an expression speaks of"


def test_a_field_may_be_named_like_a_method(ruled: Any) -> None:
    def named(rules: str) -> Any:
        return ruled(f"string Clear = 1 {{string {{{rules}}}}}")

    assert fits(named("in: 'a' in: 'b'"), named("pattern: '^[ab]$'"))
    assert not fits(named("in: 'a' in: 'c'"), named("pattern: '^[ab]$'"))
    hidden = ruled("string DESCRIPTOR = 1 {string {pattern: 'x'}}")
    assert not fits(ruled("string DESCRIPTOR = 1 {string {const: 'x'}}"), hidden), "what cannot be tried is not shown"
