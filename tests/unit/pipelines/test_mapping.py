"""What fills an input: every kind of field from literals, references and expressions, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import any_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2

from atomesh.core.contract import describe
from atomesh.pipelines.dynamic import MappingFailed
from atomesh.pipelines.expressions import ExpressionFailed, names_in
from atomesh.pipelines.mapping import roots


def full(lab: Any) -> dict[str, Any]:
    """A value for every field of Everything, beside those that exclude one another."""
    inner = lab.classes["Inner"]
    given: dict[str, Any] = {
        "a_string": "s",
        "a_bytes": b"\xff\x00",
        "a_bool": True,
        "color": 1,
        "colors": [2, 1],
        "inner": inner(text="in", number=3),
        "inners": [inner(text="i0"), inner(text="i1", number=4)],
        "words": {"k": "v"},
        "by_number": {3: inner(text="three"), -1: inner()},
        "colored": {"z": 2},
        "left": "l",
        "perhaps": 0,
        "many_string": ["x", ""],
        "many_bytes": [b"", b"\xfe"],
        "many_bool": [True, False],
    }
    for kind in ("double", "float"):
        given[f"a_{kind}"], given[f"many_{kind}"] = 1.5, [0.25, -2.0]
    for width in (32, 64):
        for kind in ("uint", "fixed"):
            given[f"a_{kind}{width}"], given[f"many_{kind}{width}"] = 2**width - 1, [0, 7]
        for kind in ("int", "sfixed", "sint"):
            given[f"a_{kind}{width}"], given[f"many_{kind}{width}"] = -(2 ** (width - 1)), [-1, 7]
    return given


def message_of(lab: Any) -> Any:
    """Everything, with every field set, of the well-known types too."""
    message = lab.everything(**full(lab))
    message.at.seconds, message.took.nanos, message.wrapped.value = 5, 7000, "w"
    message.wrapped_bytes.value = b"\x01"
    message.struct["a"] = 1
    message.value.string_value = "v"
    message.listed.append(1)
    message.any.type_url = "type.googleapis.com/lab.v1.Inner"
    return message


NAMES = [
    *(f"{many}_{kind}" for kind in ("double", "float", "bool", "string", "bytes") for many in ("a", "many")),
    *(
        f"{many}_{kind}{width}"
        for kind in ("int", "uint", "fixed", "sfixed", "sint")
        for width in (32, 64)
        for many in ("a", "many")
    ),
    *("color", "colors", "inner", "inners", "at", "took", "struct", "value", "listed", "wrapped", "wrapped_bytes"),
    *("words", "by_number", "colored", "left", "perhaps"),
]


@pytest.mark.parametrize("how", ["reference", "expression"])
@pytest.mark.parametrize("name", NAMES)
def test_a_field_of_every_kind_is_put_into_one_of_its_kind(lab: Any, name: str, how: str) -> None:
    plan = lab.mapped({name: f"$a.{name}" if how == "reference" else {"$cel": f"a.{name}"}})
    given = lab.in_plan(plan, message_of(lab))
    filled = plan.steps[1].fill({"a": given})
    expected = type(given)()
    expected.MergeFrom(given)
    for field, _ in given.ListFields():
        if field.name != name:
            expected.ClearField(field.name)
    assert filled == expected
    assert plan.notes == (), "a field promises whatever it promises itself"


def test_an_any_is_put_whole_and_its_message_is_read_by_an_expression(lab: Any) -> None:
    plan = lab.mapped({"any": "$a.any", "a_string": {"$cel": "a.any.text"}})
    given = lab.everything()
    given.any.Pack(lab.classes["Inner"](text="inside"))
    filled = plan.steps[1].fill({"a": lab.in_plan(plan, given)})
    assert (filled.a_string, filled.any.value) == ("inside", given.any.value)


def test_a_whole_message_is_put_by_reference_by_expression_and_by_field(lab: Any) -> None:
    for mapping in ("$a", {"$cel": "a"}, {"$cel": "dyn(a)"}, "$input"):
        assert lab.filled(mapping, a_string="s").a_string == "s"
    assert lab.filled({"$cel": "lab.v1.Everything{a_string: a.inner.text}"}, inner={"text": "t"}).a_string == "t"
    assert lab.filled({"$cel": "dyn({'a_string': 'x'})"}).a_string == "x"


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"a_string": "$$5"}, {"a_string": "$5"}),
        ({"a_string": "$$$"}, {"a_string": "$$"}),
        ({"a_string": None}, {}),
        ({"aString": "x"}, {"a_string": "x"}),
        ({"a_int32": 2.0}, {"a_int32": 2}),
        ({"a_int64": str(2**62)}, {"a_int64": 2**62}),
        ({"a_double": 1}, {"a_double": 1.0}),
        ({"a_bytes": "aGk="}, {"a_bytes": b"hi"}),
        ({"color": "COLOR_RED"}, {"color": 1}),
        ({"colors": ["COLOR_RED", 2]}, {"colors": [1, 2]}),
        ({"inner": {"text": "$$a"}}, {"inner": {"text": "$a"}}),
        ({"inners": [{"text": "a"}, {}]}, {"inners": [{"text": "a"}, {}]}),
        ({"words": {"a": "$$b", "$c": "d"}}, {"words": {"a": "$b", "$c": "d"}}),
        ({"by_number": {"3": {"text": "x"}}}, {"by_number": {3: {"text": "x"}}}),
        ({"at": "1970-01-01T00:00:05Z"}, {"at": timestamp_pb2.Timestamp(seconds=5)}),
        ({"took": "3s"}, {"took": duration_pb2.Duration(seconds=3)}),
        ({"wrapped": "w"}, {"wrapped": wrappers_pb2.StringValue(value="w")}),
        (
            {"value": [1]},
            {"value": struct_pb2.Value(list_value=struct_pb2.ListValue(values=[struct_pb2.Value(number_value=1)]))},
        ),
        (
            {"any": {"@type": "type.googleapis.com/lab.v1.Inner", "text": "x"}},
            {"any": any_pb2.Any(type_url="type.googleapis.com/lab.v1.Inner", value=b"\n\x01x")},
        ),
        ({"left": "a", "perhaps": 1}, {"left": "a", "perhaps": 1}),
    ],
)
def test_literals_are_read_as_the_json_of_their_field(lab: Any, mapping: Any, expected: dict[str, Any]) -> None:
    wanted = lab.everything()
    for name, value in expected.items():
        if hasattr(value, "SerializeToString"):
            getattr(wanted, name).ParseFromString(value.SerializeToString())
        else:
            wanted.MergeFrom(lab.everything(**{name: value}))
    assert lab.filled(mapping).SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True)


def test_a_struct_is_filled_by_a_literal_or_an_expression(lab: Any) -> None:
    assert dict(lab.filled({"struct": {"a": [1, "b", None, {"c": True}]}}).struct)["a"][1] == "b"
    assert dict(lab.filled({"struct": {"$cel": "{'x': a.a_string}"}}, a_string="s").struct) == {"x": "s"}
    assert lab.filled({"value": {"$cel": "a.a_string"}}, a_string="s").value.string_value == "s"
    assert list(lab.filled({"listed": {"$cel": "[1, 2]"}}).listed) == [1, 2]
    assert lab.unmapped({"struct": {"x": "$a.a_string"}}) == (
        ".struct: struct is google.protobuf.Struct; fill it whole, by a reference or an expression"
    )


def test_lists_mix_literals_references_and_expressions(lab: Any) -> None:
    strings = lab.filled({"many_string": ["$a.a_string", "lit", "$$x", {"$cel": "a.a_string + '!'"}]}, a_string="s")
    assert list(strings.many_string) == ["s", "lit", "$x", "s!"]
    assert list(lab.filled({"many_float": [1.5, "$a.a_float"]}, a_float=0.5).many_float) == [1.5, 0.5]
    assert list(lab.filled({"many_bytes": ["aGk=", "$a.a_bytes"]}, a_bytes=b"b").many_bytes) == [b"hi", b"b"]
    assert list(lab.filled({"colors": ["COLOR_RED", "$a.color"]}, color=2).colors) == [1, 2]
    assert list(lab.filled({"many_int32": [1, "$a.a_int32", {"$cel": "1 + 1"}]}, a_int32=-3).many_int32) == [1, -3, 2]
    inners = lab.filled(
        {"inners": [{"text": "x"}, "$a.inner", {"text": "$a.a_string"}, {"$cel": "a.inners[0]"}, "$a.inners[9]"]},
        a_string="s",
        inner={"text": "in"},
        inners=[{"text": "i0"}],
    )
    assert [inner.text for inner in inners.inners] == ["x", "in", "s", "i0"], "an item that is not there is left out"


def test_what_is_not_there_leaves_unset(lab: Any) -> None:
    plan = lab.mapped(
        {
            "perhaps": "$a.perhaps",
            "inner": "$a.inner",
            "right": "$a.right",
            "a_string": "$a.many_string[3]",
            "words": "$a.words",
            "by_number": "$a.by_number",
            "many_string": "$a.many_string",
            "at": "$a.at",
        }
    )
    nothing = plan.contract.input()
    assert plan.steps[1].fill({"a": nothing}).ListFields() == []
    assert plan.steps[1].fill({"a": None}).ListFields() == [], "so it is where the whole stage gave nothing"
    assert plan.steps[1].fill({}).ListFields() == []
    assert lab.filled({"perhaps": "$a.perhaps"}, perhaps=0).HasField("perhaps"), "zero is there where it was set"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$a.many_string[0]", "x"),
        ('$a.words["k"]', "v"),
        ('$a.by_number["3"].text', "three"),
        ("$a.inners[1].text", "i1"),
        ("$a.inner.text", "in"),
        ('$a.struct.fields["a"].string_value', "in a struct"),
        ('$a.words["no"]', ""),
    ],
)
def test_references_reach_into_lists_maps_and_messages(lab: Any, text: str, expected: str) -> None:
    plan = lab.mapped({"a_string": text})
    given = lab.everything(
        many_string=["x"],
        words={"k": "v"},
        by_number={3: {"text": "three"}},
        inners=[{}, {"text": "i1"}],
        inner={"text": "in"},
    )
    given.struct["a"] = "in a struct"
    assert plan.steps[1].fill({"a": lab.in_plan(plan, given)}).a_string == expected


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"a_string": 5}, ".a_string: 5 does not fit string"),
        ({"a_int32": 2**31}, ".a_int32: 2147483648 does not fit int32"),
        ({"a_int32": 1.5}, ".a_int32: 1.5 does not fit int32"),
        ({"a_int32": True}, ".a_int32: True does not fit int32"),
        ({"a_bool": "true"}, ".a_bool: 'true' does not fit bool"),
        ({"color": "RED"}, ".color: 'RED' does not fit lab.v1.Color"),
        ({"inner": "x"}, ".inner: 'x' does not fit lab.v1.Inner"),
        ({"inner": {"txt": "a"}}, ".inner.txt: lab.v1.Inner has no field 'txt'; did you mean text?"),
        ({"inners": {"text": "a"}}, ".inners: {'text': 'a'} does not fit repeated lab.v1.Inner"),
        ({"many_string": "x"}, ".many_string: 'x' does not fit repeated string"),
        ({"many_string": [None, "$a.a_string"]}, ".many_string.0: [None] does not fit repeated string"),
        ({"many_int32": [2**40, "$a.a_int32"]}, ".many_int32.0: [1099511627776] does not fit repeated int32"),
        ({"many_string": ["x", "$a.many_string"]}, ".many_string.1: $a.many_string: repeated string does not fit"),
        ({"inners": [5, "$a.inner"]}, ".inners.0: [5] does not fit repeated lab.v1.Inner"),
        ({"words": {"x": "$a.a_string"}}, ".words: words is map<string, string>; fill it whole"),
        ({"at": 5}, ".at: 5 does not fit google.protobuf.Timestamp"),
        (
            {"any": {"@type": "type.googleapis.com/foo.Nope"}},
            ".any: {'@type': 'type.googleapis.com/foo.Nope'} does not",
        ),
        (
            {"left": "a", "right": {"text": "b"}},
            ".right: left and right of lab.v1.Everything exclude one another; fill",
        ),
        ({"a_strin": 1}, ".a_strin: lab.v1.Everything has no field 'a_strin'; did you mean a_string?"),
        ({"zzz": 1}, ".zzz: lab.v1.Everything has no field 'zzz'; there are a_double, many_double,"),
        ({"inner": {"text": "$a.nope"}}, ".inner.text: $a.nope: lab.v1.Everything has no field 'nope'; there are"),
        ({"a_int32": "$a.a_int64"}, ".a_int32: $a.a_int64: int64 does not fit int32"),
        ({"a_float": "$a.a_double"}, ".a_float: $a.a_double: double does not fit float"),
        ({"a_string": "$a.color"}, ".a_string: $a.color: lab.v1.Color does not fit string"),
        ({"color": "$a.a_int32"}, ".color: $a.a_int32: int32 does not fit lab.v1.Color"),
        ({"a_uint64": "$a.a_int64"}, ".a_uint64: $a.a_int64: int64 does not fit uint64"),
        ({"many_string": "$a.a_string"}, ".many_string: $a.a_string: string does not fit repeated string; put it into"),
        ({"a_string": "$a.many_string"}, ".a_string: $a.many_string: repeated string does not fit string"),
        ({"inner": "$a"}, ".inner: $a: lab.v1.Everything does not fit lab.v1.Inner: text: its number 1 is a_double's"),
        ({"a_string": "$a.many_string.x"}, ".a_string: $a.many_string is repeated string; take one of it with [0], or"),
        ({"a_string": "$a.a_string.x"}, ".a_string: $a.a_string is string, which has no fields"),
        ({"a_string": "$a.words[0]"}, ".a_string: $a.words is map<string, string> and no list, so that [0] means"),
        ({"a_string": '$a.a_string["k"]'}, '.a_string: $a.a_string is string and no map, so that ["k"] means nothing'),
        ({"a_string": '$a.by_number["x"].text'}, ".a_string: $a.by_number has keys of type int32, which 'x' is not"),
        ({"a_string": '$a.words["a'}, '.a_string: $a.words["a: \'["a\' is no .field, [index] or ["key"]'),
        ({"a_string": "$a..b"}, ".a_string: $a..b: '..b' is no .field, [index] or [\"key\"]"),
        ({"a_string": "$"}, ".a_string: there is no stage ''; there are a, b"),
        ({"a_string": "$A.x"}, ".a_string: there is no stage 'A'; there are a, b"),
        ({"a_string": "$item"}, ".a_string: $item stands for something only in the input of a stage that maps"),
        ("text", ": expected fields of lab.v1.Everything, a reference or an expression, not 'text'"),
        ([1], ": expected fields of lab.v1.Everything, a reference or an expression, not [1]"),
        ("$a.inner", ": $a.inner: lab.v1.Inner does not fit lab.v1.Everything: a_double: its number 1 is text's"),
        ({"$cel": "a", "a_string": "x"}, ".$cel: an expression stands alone"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(lab: Any, mapping: Any, said: str) -> None:
    found = lab.unmapped(mapping)
    assert found.startswith(said)
    assert len(found) < 400


@pytest.mark.parametrize(
    ("given", "taken", "expected"),
    [
        ("int32", "int64", -3),
        ("uint32", "int64", 3),
        ("uint32", "uint64", 3),
        ("int32", "double", -3),
        ("float", "double", 0.5),
    ],
)
def test_widenings_lose_nothing_and_need_no_word(lab: Any, given: str, taken: str, expected: Any) -> None:
    plan = lab.mapped({f"a_{taken}": f"$a.a_{given}"})
    message = lab.in_plan(plan, lab.everything(**{f"a_{given}": expected}))
    assert getattr(plan.steps[1].fill({"a": message}), f"a_{taken}") == expected
    assert plan.notes == (), "a wider type is no rule that anybody might break"


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"many_string": {"$cel": "a.inners.map(i, i.text)"}}, ["i0", "i1"]),
        ({"inners": {"$cel": "a.inners.filter(i, i.number > 1)"}}, [4]),
        ({"by_number": {"$cel": "{1: a.inner}"}}, {1: "in"}),
        ({"words": {"$cel": "{'a': a.inner.text}"}}, {"a": "in"}),
        ({"many_bytes": {"$cel": "[b'x']"}}, [b"x"]),
        ({"at": {"$cel": "timestamp('1970-01-01T00:00:05Z')"}}, 5),
        ({"took": {"$cel": "duration('3s')"}}, 3),
        ({"color": {"$cel": "lab.v1.Color.COLOR_BLUE"}}, 2),
        ({"wrapped": {"$cel": "a.inner.text"}}, "in"),
        ({"a_string": {"$cel": "null"}}, ""),
        ({"a_string": {"$cel": "has(a.right) ? 'yes' : 'no'"}}, "no"),
    ],
)
def test_expressions_make_values_of_every_kind(lab: Any, mapping: Any, expected: Any) -> None:
    (name,) = mapping
    filled = lab.filled(mapping, inner={"text": "in"}, inners=[{"text": "i0"}, {"text": "i1", "number": 4}])
    value: Any = getattr(filled, name)
    if name == "inners":
        value = [inner.number for inner in value]
    elif name == "by_number":
        value = {key: inner.text for key, inner in value.items()}
    elif name in ("words", "many_string", "many_bytes"):
        value = type(expected)(value)
    elif name in ("at", "took"):
        value = value.seconds
    elif name == "wrapped":
        value = value.value
    assert value == expected


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"a_string": {"$cel": "1"}}, ".a_string: '1': int64 does not fit string"),
        ({"a_int32": {"$cel": "a.a_double"}}, ".a_int32: 'a.a_double': double does not fit int32; say int(...)"),
        ({"a_string": {"$cel": "a.nope"}}, ".a_string: 'a.nope': 1:2: undefined field 'nope' not found in struct"),
        ({"a_string": {"$cel": "1 +"}}, ".a_string: '1 +': 1:4: Syntax error"),
        ({"a_string": {"$cel": ""}}, ".a_string: '': 1:1: Syntax error"),
        ({"a_string": {"$cel": "nope"}}, ".a_string: 'nope': 1:1: undeclared reference to 'nope'"),
        ({"words": {"$cel": "{1: 'x'}"}}, ".words: \"{1: 'x'}\": map<int64, string> does not fit map<string, string>"),
        (
            {"inner": {"$cel": "timestamp('1970-01-01T00:00:05Z')"}},
            ".inner: \"timestamp('1970-01-01T00:00:05Z')\": google",
        ),
        ({"$cel": "a.inner"}, ": 'a.inner': lab.v1.Inner does not fit lab.v1.Everything"),
    ],
)
def test_expressions_are_checked_before_anything_runs(lab: Any, mapping: Any, said: str) -> None:
    assert lab.unmapped(mapping).startswith(said)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"a_int32": {"$cel": "a.a_int64"}}, "a_int32: Value out of range: 1099511627776"),
        ({"a_uint32": {"$cel": "-1"}}, "a_uint32: Value out of range: -1"),
        ({"inner": {"number": {"$cel": "a.a_int64"}}}, "inner.number: Value out of range: 1099511627776"),
        ({"a_string": {"$cel": "dyn(5)"}}, "a_string: expected string, and a run gave 5"),
        ({"a_bool": {"$cel": "dyn(a)"}}, "a_bool: expected bool, and a run gave lab.v1.Everything"),
        ({"a_int32": {"$cel": "dyn(1.5)"}}, "a_int32: expected int32, and a run gave 1.5"),
        ({"a_int32": {"$cel": "dyn(true)"}}, "a_int32: expected int32, and a run gave True"),
        ({"many_string": {"$cel": "dyn(['x', 5])"}}, "many_string: expected repeated string, and a run gave ['x', 5]"),
        ({"words": {"$cel": "dyn([1])"}}, "words: expected map<string, string>, and a run gave [1]"),
        ({"by_number": {"$cel": "dyn({'a': a.inner})"}}, "by_number: 'str' object cannot be interpreted as an integer"),
        ({"inner": {"$cel": "dyn(a)"}}, "inner: expected lab.v1.Inner, and a run gave lab.v1.Everything"),
        ({"inner": {"$cel": "dyn(timestamp(5))"}}, "inner: expected lab.v1.Inner, and a run gave datetime.datetime("),
        ({"inner": {"$cel": "dyn({'nope': 1})"}}, 'inner: Message type "lab.v1.Inner" has no field named "nope"'),
        ({"$cel": "dyn(a.inner)"}, "expected lab.v1.Everything, and a run gave lab.v1.Inner"),
    ],
)
def test_values_that_only_a_run_knows_are_held_against_their_field(lab: Any, mapping: Any, said: str) -> None:
    with pytest.raises(MappingFailed) as caught:
        lab.filled(mapping, a_int64=2**40)
    assert caught.value.message.startswith(said), "a bool of upb's that is set to a message ends the process"
    assert caught.value.executed is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.many_string[7]", "'a.many_string[7]' failed: Index error: index=7 size=0"),
        ("a.words['no']", "\"a.words['no']\" failed: "),
        ("string(1 / int(a.a_double))", "'string(1 / int(a.a_double))' failed: divide by zero"),
        ("string(a.a_int64 + 1)", "'string(a.a_int64 + 1)' failed: integer overflow"),
        ("dyn(a).nope", "'dyn(a).nope' failed: "),
    ],
)
def test_an_expression_that_fails_on_the_values_of_a_run_says_so_in_one_line(lab: Any, text: str, said: str) -> None:
    with pytest.raises(ExpressionFailed) as caught:
        lab.filled({"a_string": {"$cel": text}}, a_int64=2**63 - 1)
    assert caught.value.message.startswith(said)
    assert "\n" not in caught.value.message


def test_a_stage_that_gave_nothing_is_an_empty_message_to_an_expression(lab: Any) -> None:
    plan = lab.mapped({"a_string": {"$cel": "has(a.inner) ? a.inner.text : 'nothing'"}})
    assert plan.steps[1].fill({"a": None}).a_string == "nothing"


def test_a_message_of_another_pool_is_put_by_way_of_the_wire(lab: Any) -> None:
    plan = lab.mapped({"inner": "$a.inner", "inners": "$a.inners", "by_number": "$a.by_number"})
    stranger = lab.everything(inner={"text": "x"}, inners=[{"text": "y"}], by_number={1: {"text": "z"}})
    assert not isinstance(stranger, plan.contract.input)
    filled = plan.steps[1].fill({"a": stranger})
    assert (filled.inner.text, filled.inners[0].text, filled.by_number[1].text) == ("x", "y", "z")


def test_each_run_fills_a_message_of_its_own(lab: Any) -> None:
    plan = lab.mapped({"many_string": ["x", "$a.a_string"], "inner": {"text": "lit"}})
    first = plan.steps[1].fill({"a": plan.contract.input(a_string="1")})
    first.inner.text = "changed"
    second = plan.steps[1].fill({"a": plan.contract.input(a_string="2")})
    assert (second.inner.text, list(second.many_string)) == ("lit", ["x", "2"])


def test_the_names_that_a_mapping_reads_are_found(lab: Any) -> None:
    names = ["a", "b", "c"]
    mapping = {"x": "$a.y[0]", "z": ["$b", {"$cel": "c.x + 'a'"}], "w": "$$c", "v": 5}
    assert roots(mapping, lambda text: names_in(text, names)) == {"a", "b", "c"}
    assert roots({"w": "$$c"}, lambda text: names_in(text, names)) == set()


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("a.b", "a"),
        ("x.a", ""),
        ("a[0].b + c", "ac"),
        ("a ? b : c", "abc"),
        ("'a' + \"b\" + c", "c"),
        (r"'it\'s a' + c", "c"),
        ("{a: b}", "ab"),
        ("pkg.T{a: b, c: d}", "bd"),
        ("T{x: {a: b}, c: [d]}", "abd"),
        ("T{a: U{b: c}, d: a}", "ac"),
        ("a.v1.T{x: 1}", ""),
        ("x in {a: 1}", "a"),
        ("c.map(d, d.a)", "cd"),
        ("a . b", "a"),
        ("1a + .b", ""),
        ("b'a' + r\"c\" + d", "d"),
        ("", ""),
        ("a{", ""),
        ("))}", ""),
    ],
)
def test_names_in_an_expression_are_variables_and_no_messages_or_fields(text: str, used: str) -> None:
    assert "".join(names_in(text, "abcd")) == used


def test_agents_that_take_or_give_a_struct_or_a_wrapper_are_filled_as_their_json_is(lab: Any) -> None:
    lab.contracts["free"] = describe(struct_pb2.Struct, struct_pb2.Struct)
    lab.contracts["word"] = describe(wrappers_pb2.StringValue, wrappers_pb2.StringValue)
    try:
        plan = lab.of(
            {"id": "a", "agent": "word"},
            {"id": "b", "agent": "free", "input": {"x": [1, "$$y"]}},
            {"id": "c", "agent": "free", "input": {"$cel": "{'word': a, 'more': b.x}"}},
            {"id": "d", "agent": "word", "input": {"value": "lit"}},
            {"id": "e", "agent": "word", "input": "plain"},
            {"id": "f", "agent": "word", "input": {"value": "$a.value"}},
            {"id": "g", "agent": "word", "input": {"$cel": "string(b.x[0]) + a"}},
            {"id": "h", "agent": "word", "input": {"value": {"$cel": "b.x[1]"}}},
        )
        assert lab.wrong({"id": "a", "agent": "word"}, {"id": "b", "agent": "free", "input": {"x": "$a.value"}}) == [
            "stages.b.input: google.protobuf.Struct is filled whole, by a literal, a reference or an expression"
        ]
    finally:
        del lab.contracts["free"], lab.contracts["word"]
    steps = {step.id: step for step in plan.steps}
    struct: Any = steps["b"].fill({})
    assert struct["x"][1] == "$y"
    values = {"a": plan.contract.input(value="w"), "b": struct}
    assert dict(steps["c"].fill(values))["word"] == "w"
    assert [steps[name].fill(values).value for name in "defgh"] == ["lit", "plain", "w", "1w", "$y"]
    first = steps["b"].fill({})
    first["x"] = "changed"
    assert steps["b"].fill({})["x"][0] == 1
