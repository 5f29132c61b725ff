"""The types of a plan: files of several contracts in one pool, and messages of the pipeline's own."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from atomesh.core.contract import ContractDescriptor, describe
from atomesh.core.errors import InvalidArgument
from atomesh.pipelines.errors import PipelineInvalid
from atomesh.pipelines.typespace import TypeSpace, field_number, own_package
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

_Field = descriptor_pb2.FieldDescriptorProto


def contract(*fields: str, file: str = "shop/v1/shop.proto", kind: Any = _Field.TYPE_STRING) -> ContractDescriptor:
    """`shop.v1.Order` with these fields, as one process or another has it."""
    proto = descriptor_pb2.FileDescriptorProto(name=file, package="shop.v1", syntax="proto3")
    message = proto.message_type.add(name="Order")
    for number, name in enumerate(fields, 1):
        message.field.add(name=name, number=number, type=kind, label=_Field.LABEL_OPTIONAL)
    descriptors = descriptor_pb2.FileDescriptorSet(file=[proto]).SerializeToString()
    return ContractDescriptor("shop.v1.Order", "shop.v1.Order", descriptors, "")


def test_generated_classes_serve_where_this_process_has_the_same_files() -> None:
    types = TypeSpace([describe(TextInput, TextOutput)])
    assert types.pool is descriptor_pool.Default()
    assert types.message_class("atomesh.text.v1.TextInput") is TextInput, "nothing is converted then"
    assert types.find("no.such.Message") is None


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_versions_of_a_file_the_larger_one_counts(turned: bool) -> None:
    old, new = contract("id"), contract("id", "note")
    types = TypeSpace([new, old] if turned else [old, new])
    order: Any = types.message_class("shop.v1.Order")
    assert order(id="1", note="n").note == "n"


def test_files_that_mean_different_things_by_one_name_are_one_line() -> None:
    with pytest.raises(InvalidArgument) as caught:
        TypeSpace([contract("id"), contract("id", file="shop/v1/other.proto")])
    assert caught.value.message.startswith("the agents' contracts do not fit into one plan: ")
    assert "\n" not in caught.value.message


def test_a_plan_of_agents_of_other_processes_maps_from_one_to_the_other(lab: Any) -> None:
    lab.contracts["shop"] = contract("id", "note")
    try:
        plan = lab.of(
            {"id": "a", "agent": "shop"},
            {"id": "b", "agent": "lab", "input": {"a_string": "$a.note"}},
            {"id": "c", "agent": "shop", "input": {"id": "$b.a_string"}},
        )
    finally:
        del lab.contracts["shop"]
    order: Any = plan.contract.input(note="n")
    given = plan.steps[1].fill({"a": order})
    assert given.a_string == "n"
    assert plan.steps[2].fill({"b": given}).id == "n"
    assert plan.contract.input is plan.contract.output


def test_numbers_of_own_fields_come_of_their_names_and_stay(lab: Any) -> None:
    def numbers(*names: str) -> dict[str, int]:
        plan = lab.of({"id": "a", "agent": "lab"}, output=dict.fromkeys(names, "$a.a_string"))
        return {field.name: field.number for field in plan.contract.output.DESCRIPTOR.fields}

    few, many = numbers("mood", "summary"), numbers("summary", "keywords", "mood", "extra")
    assert {name: many[name] for name in few} == few, "a new version with more fields must be compatible"
    assert few == {"mood": 54111991, "summary": 237528676}, "and so in every process"
    assert field_number("mood", set()) == few["mood"]
    assert field_number("mood", {few["mood"]}) == few["mood"] + 1


def test_protobufs_own_numbers_are_never_given() -> None:
    taken: set[int] = set()
    for number in range(3000):
        field_number(f"f{number}", taken)
    assert not taken & set(range(19_000, 20_000))
    assert len(taken) == 3000


def test_the_package_of_a_pipeline_is_a_word_of_protobuf() -> None:
    assert own_package("my-report.v2") == "atomesh.pipelines.my_report_v2"
    assert own_package("2fast") == "atomesh.pipelines.p2fast"


def test_own_messages_hold_every_kind_of_field(lab: Any) -> None:
    names = [
        "a_int32",
        "a_bytes",
        "many_double",
        "color",
        "colors",
        "inner",
        "inners",
        "words",
        "by_number",
        "colored",
        "at",
    ]
    output: dict[str, Any] = {name: f"$a.{name}" for name in names}
    output |= {"made": {"$cel": "timestamp('1970-01-01T00:00:05Z')"}, "n": 5, "x1y": "$a.words", "lit": "$$x"}
    plan = lab.of({"id": "a", "agent": "lab"}, output=output)
    given = plan.contract.input(a_int32=3, color=1, colors=[2], inners=[{"text": "x"}], words={"k": "v"})
    given.by_number[3].text, given.colored["c"], given.at.seconds = "three", 2, 9
    made: Any = plan.output({"a": given})
    assert made.DESCRIPTOR.full_name == "atomesh.pipelines.p.Output"
    assert (made.a_int32, made.color, list(made.colors), made.inners[0].text) == (3, 1, [2], "x")
    assert (dict(made.words), made.by_number[3].text, made.colored["c"], made.at.seconds) == ({"k": "v"}, "three", 2, 9)
    assert (made.made.seconds, made.n, dict(made.x1y), made.lit) == (5, 5, {"k": "v"}, "$x")
    described = plan.contract.descriptor
    assert described.load().output.DESCRIPTOR.full_name == "atomesh.pipelines.p.Output", "others can read it"


def test_an_input_of_the_pipelines_own_may_hold_what_no_contract_brings(lab: Any) -> None:
    fields = {
        "text": "string",
        "at": "google.protobuf.Timestamp",
        "ids": "repeated int64",
        "mood": "atomesh.text.v1.Sentiment",
    }
    stage = {"id": "a", "agent": "text", "input": {"content": "$input.text", "operation": "sentiment"}}
    plan = lab.of(stage, input_fields=fields)
    given: Any = plan.contract.input(text="x", ids=[1, 2])
    given.at.seconds = 5
    assert plan.steps[0].fill({"input": given}).content == "x"
    assert plan.contract.input_type == "atomesh.pipelines.p.Input"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"input_fields": {"x": "strng"}}, "input_fields.x: 'strng' is no type; write one of double, float, int64"),
        (
            {"input_fields": {"x": "map<double, string>"}},
            "input_fields.x: 'map<double, string>' is no type; write one of",
        ),
        (
            {"input_fields": {"x": "map<string, repeated string>"}},
            "input_fields.x: 'map<string, repeated string>' is no",
        ),
        ({"input_fields": {"x": "repeated"}}, "input_fields.x: 'repeated' is no type; write one of"),
        ({"input_fields": {"x": "repeated repeated string"}}, "input_fields.x: 'repeated repeated string' is no type"),
        (
            {"input_fields": {"a_b": "string", "a__b": "string"}},
            "input_fields.a__b: a_b and a__b are one name in JSON; rename one",
        ),
        (
            {"output": {"a_1": "$a.a_string", "a1": "$a.a_string"}},
            "output.a1: a_1 and a1 are one name in JSON; rename one",
        ),
        (
            {"output": {"Two Words": 1}},
            "output.Two Words: 'Two Words' is no name of a field; take letters, digits and _",
        ),
        ({"output": {"": 1}}, "output.: '' is no name of a field; take letters, digits and _, a letter first"),
        ({"output": {"x": [1]}}, "output.x: [1] has no type of its own; name an output_type"),
        (
            {"output": {"x": {"$cel": "dyn(1)"}}},
            "output.x: 'dyn(1)' is of no one type before a run; name an output_type",
        ),
    ],
)
def test_what_cannot_be_a_message_is_said_at_its_field(lab: Any, settings: Any, said: str) -> None:
    (problem,) = lab.wrong(
        {"id": "a", "agent": "lab", "input": {}},
        **{"input_type": "lab.v1.Everything"} | settings if "output" in settings else settings,
    )
    assert problem.startswith(said)


def test_last_stages_whose_ids_are_one_name_in_json_need_an_output(lab: Any) -> None:
    stages = [{"id": name, "agent": "lab", "input": "$input"} for name in ("a_1", "a1")]
    assert lab.wrong(*stages) == ["stages.a1: a_1 and a1 are one name in JSON; rename one"]
    with pytest.raises(PipelineInvalid):
        lab.of(*stages)
