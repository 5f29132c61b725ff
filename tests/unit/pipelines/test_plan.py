"""Plans: what each stage waits for, what is implied, and all that is checked before anything runs."""

from __future__ import annotations

import random
from typing import Any

import pytest

from atomesh.pipelines import PipelineInvalid, read_pipeline
from atomesh.pipelines.graph import find_cycle, in_order
from atomesh.pipelines.plan import Plan
from atomesh.pipelines.syntax import check_alone

A = {"id": "a", "agent": "lab"}
TEXT = {"id": "a", "agent": "text"}
TYPE = "atomesh.text.v1.TextInput"


def needs(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {step.id: step.needs for step in plan.steps}


def test_a_stage_that_does_not_say_takes_the_output_of_the_one_before_it(lab: Any) -> None:
    plan = lab.of(A, {"id": "b", "agent": "lab"}, {"id": "c", "agent": "lab"})
    assert needs(plan) == {"a": (), "b": ("a",), "c": ("b",)}
    assert plan.sequential
    assert plan.contract.input_type == plan.contract.output_type == "lab.v1.Everything"
    message: Any = plan.contract.input(a_string="x")
    assert plan.steps[2].fill({"b": message}) is message, "what fits is passed on as it is"


def test_last_stages_are_joined_by_their_ids_where_no_output_is_declared(lab: Any) -> None:
    plan = lab.of(
        A,
        {"id": "b", "agent": "lab", "input": "$a"},
        {"id": "c", "agent": "text", "input": {"content": "$a.a_string", "operation": "sentiment"}},
        {"id": "d", "agent": "lab", "input": "$a", "map": "$a.inners"},
    )
    assert not plan.sequential
    assert {field.name for field in plan.contract.output.DESCRIPTOR.fields} == {"b", "c", "d"}
    thing = plan.steps[1].target.contract.output
    text = plan.steps[2].target.contract.output
    made: Any = plan.output({"b": thing(a_string="b"), "c": text(result="c"), "d": [thing(a_int32=1), thing()]})
    assert (made.b.a_string, made.c.result, [each.a_int32 for each in made.d]) == ("b", "c", [1, 0])
    partly: Any = plan.output({"b": None, "c": text(result="c"), "d": None})
    assert not partly.HasField("b"), "a stage that gave nothing is left unset"


def test_the_single_last_stage_that_maps_gives_a_list(lab: Any) -> None:
    plan = lab.of(
        {"id": "a", "agent": "lab", "map": "$input.inners", "input": {"inner": "$item", "a_int64": "$index"}},
        input_type="lab.v1.Everything",
    )
    (field,) = plan.contract.output.DESCRIPTOR.fields
    assert (field.name, field.is_repeated) == ("a", True)
    (step,) = plan.steps
    given: Any = plan.contract.input(inners=[{"text": "x"}])
    assert step.over is not None
    items = step.over({"input": given})
    filled: Any = step.fill({"input": given, "item": items[0], "index": 0})
    assert (filled.inner.text, filled.a_int64) == ("x", 0)


def test_stages_run_in_the_order_of_what_they_need_whatever_the_files(lab: Any) -> None:
    plan = lab.of(
        {"id": "c", "agent": "lab", "input": {"a_string": "$b.a_string", "a_bool": {"$cel": "d.a_bool"}}},
        {"id": "b", "agent": "lab", "input": "$a"},
        {"id": "a", "agent": "lab", "input": "$input"},
        {"id": "d", "agent": "lab", "input": "$input", "when": "b.a_bool", "after": ["a"]},
        {"id": "e", "agent": "lab", "input": "$input", "map": {"$cel": "c.inners"}},
    )
    assert needs(plan) == {"a": (), "b": ("a",), "d": ("b", "a"), "c": ("b", "d"), "e": ("c",)}
    assert plan.order == {"c": 0, "b": 1, "a": 2, "d": 3, "e": 4}


def test_settings_of_a_stage_come_before_those_of_all(lab: Any) -> None:
    plan = lab.of(
        {**A, "attempts": 1, "timeout": 5, "backoff": {"base": 0, "cap": 0}},
        {"id": "b", "agent": "lab", "idempotent": True},
        defaults={"attempts": 7, "timeout": 9},
    )
    first, second = plan.steps
    assert (first.attempts, first.timeout, first.backoff.cap) == (1, 5, 0)
    assert (second.attempts, second.timeout, second.backoff.base, second.backoff.cap) == (7, 9, 1, 10)
    assert (first.idempotent, second.idempotent, plan.idempotent) == (False, True, False)
    assert lab.of(A).steps[0].attempts == 3
    assert lab.of(A).steps[0].timeout == 60


def test_rules_that_nobody_promises_to_keep_are_notes(lab: Any) -> None:
    plan = lab.of(A, {"id": "b", "agent": "text", "input": {"content": "$a.a_string", "operation": "sentiment"}})
    assert [note.split(":")[0] for note in plan.notes] == ["stages.b.input.content"] * len(plan.notes)
    assert any("at most 10,000 characters" in note for note in plan.notes)


def test_a_stage_is_left_out_where_all_that_it_reads_is(lab: Any) -> None:
    plan = lab.of(
        A,
        {"id": "whole", "agent": "lab", "input": "$a"},
        {"id": "part", "agent": "text", "input": {"content": "$a.a_string", "operation": "sentiment"}},
        {"id": "both", "agent": "lab", "input": {"a_string": "$whole.a_string", "inner": "$a.inner"}},
        {"id": "mixed", "agent": "lab", "input": {"a_string": "$whole.a_string", "inner": "$input.inner"}},
        {"id": "tests", "agent": "lab", "input": {"a_string": {"$cel": "has(a.inner) ? 'x' : 'y'"}}},
        {"id": "fixed", "agent": "lab", "input": {"a_string": "x"}},
        {"id": "items", "agent": "lab", "map": "$a.inners", "input": {"a_string": "$input.a_string"}},
    )  # fmt: skip
    assert {step.id: step.reads for step in plan.steps} == {
        "a": (),
        "whole": ("a",),
        "part": ("a",),
        "both": ("a", "whole"),
        "mixed": (),
        "tests": (),
        "fixed": (),
        "items": ("a",),
    }


def test_the_input_may_stand_in_for_the_output_of_a_skipped_stage_where_it_fits(lab: Any) -> None:
    (step,) = lab.of({**A, "on_error": "skip"}).steps
    assert step.passes is not None
    message: Any = step.target.contract.input(a_string="x")
    assert step.passes(message) == message
    (step,) = lab.of({**TEXT, "on_error": "skip", "default": {"result": "none"}}).steps
    assert step.default is not None
    assert step.default.result == "none"


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (
            [{**TEXT, "on_error": "skip"}],
            "stages.a.on_error: skip needs a default: its input does not fit in place of its output (atomesh.text.v1.",
        ),
        (
            [{**TEXT, "on_error": "skip", "default": {"reslt": "x"}}],
            "stages.a.default.reslt: atomesh.text.v1.TextOutput has no field 'reslt'; did you mean result?",
        ),
        (
            [{**TEXT, "on_error": "skip", "default": {"result": "$input.content"}}],
            "stages.a.default: a default is a literal: nothing else can be counted on then",
        ),
        (
            [{**TEXT, "default": {"result": {"$cel": "'x'"}}}],
            "stages.a.default: a default is a literal: nothing else can be counted on then",
        ),
        ([{**TEXT, "undo": {"agent": "text"}}], "stages.a.undo.input: $a: atomesh.text.v1.TextOutput does not fit"),
        (
            [{**TEXT, "undo": {"agent": "text", "input": {"content": "$zz.x"}}}],
            "stages.a.undo.input.content: $zz.x: there is no stage 'zz'; there are a, input",
        ),
        (
            [{**TEXT, "when": "$input.content"}],
            "stages.a.when: $input.content is string, and a guard is a bool; compare",
        ),
        ([{**TEXT, "when": "input.content"}], "stages.a.when: 'input.content' is string, and a guard is a bool"),
        ([{**TEXT, "when": "nope == 1"}], "stages.a.when: 'nope == 1': 1:1: undeclared reference to 'nope'"),
        ([{**A, "input": "$input", "map": "$input"}], "stages.a.map: $input is lab.v1.Everything and no list"),
        ([{**A, "input": "$input", "map": "$input.a_string"}], "stages.a.map: $input.a_string is string and no list"),
        ([{**A, "input": "$input", "map": "a b"}], "stages.a.map: a b is string and no list"),
        ([{**A, "input": "$input", "map": {"x": 1}}], "stages.a.map: {'x': 1} has no type of its own"),
        ([{**A, "input": "$input", "when": "item.x"}], "stages.a.when: $item stands for something only in the input"),
        (
            [{**A, "input": "$nope"}],
            "stages: no stage takes the pipeline's input whole; say what it is with input_type",
        ),
        (
            [A, {"id": "b", "agent": "lab", "input": "$nope"}],
            "stages.b.input: there is no stage 'nope'; there are a, b",
        ),
        ([A, {"id": "b", "agent": "lab", "after": ["zz"]}], "stages.b.after: there is no stage 'zz'; there are a, b"),
        ([A, {"id": "moods", "agent": "lab", "map": "$mood.x"}], "stages.moods.map: there is no stage 'mood'; did you"),
        (
            [A, {"id": "b", "agent": "text"}],
            "stages.b.input: $a: lab.v1.Everything does not fit atomesh.text.v1.TextInput: content: its number 1 is",
        ),
    ],
)
def test_what_is_wrong_with_a_stage_is_said_at_its_place(lab: Any, stages: list[Any], said: str) -> None:
    if "$nope" in str(stages) and len(stages) == 1:
        stages = [{**stages[0], "input": {"a_string": "x"}}]
    (problem,) = lab.wrong(*stages)
    assert problem.startswith(said)


def test_a_fallback_must_take_what_the_agent_takes_and_give_what_it_gives(lab: Any) -> None:
    problems = lab.wrong({**TEXT, "on_error": {"fallback": "lab"}})
    assert [problem.split(": ")[:3] for problem in problems] == [
        ["stages.a.on_error", "lab is no fallback for text", "its input"],
        ["stages.a.on_error", "lab is no fallback for text", "its output"],
    ]
    assert lab.of({**TEXT, "on_error": {"fallback": "text"}}).steps[0].fallback is not None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"output": "$a.inners"},
            "output: $a.inners is repeated lab.v1.Inner, and an output is a message; name it: output:",
        ),
        ({"output": "$a.a_string"}, "output: $a.a_string is string, and an output is a message; name it: output:"),
        ({"output": "hello"}, "output: hello is string, and an output is a message"),
        ({"output": "$b"}, "output: $b: there is no stage 'b'; there are a, input"),
        ({"output": {"x": "$a.nope"}}, "output.x: $a.nope: lab.v1.Everything has no field 'nope'"),
        ({"output": "$a", "output_type": "lab.v1.Inner"}, "output: $a: lab.v1.Everything does not fit lab.v1.Inner"),
        (
            {"output": {"txt": "x"}, "output_type": "lab.v1.Inner"},
            "output.txt: lab.v1.Inner has no field 'txt'; did you",
        ),
        ({"output_type": "lab.v1.Nope"}, "output_type: no agent of the pipeline knows the message lab.v1.Nope"),
        ({"input_type": "lab.v1.Nope"}, "input_type: no agent of the pipeline knows lab.v1.Nope"),
        ({"input_type": "google.protobuf.Duration"}, "stages.a.input: $input: google.protobuf.Duration does not fit"),
    ],
)
def test_what_is_wrong_with_input_and_output_is_said(lab: Any, settings: dict[str, Any], said: str) -> None:
    (problem,) = lab.wrong(A, **settings)
    assert problem.startswith(said)


def test_stages_that_wait_for_one_another_are_shown_as_a_circle(lab: Any) -> None:
    def reading(stage: str, other: str) -> dict[str, Any]:
        return {"id": stage, "agent": "lab", "input": {"a_string": f"${other}.a_string"}}

    assert lab.wrong(reading("a", "a")) == ["stages.a: stages wait for one another: a -> a"]
    assert lab.wrong(A, {**A, "id": "b", "after": ["b"]}) == ["stages.b: stages wait for one another: b -> b"]
    assert lab.wrong(reading("a", "b"), reading("b", "c"), reading("c", "a")) == [
        "stages.c: stages wait for one another: c -> b -> a -> c"
    ]


def test_every_problem_of_a_plan_has_the_line_of_what_is_wrong(lab: Any) -> None:
    text = """name: p
stages:
  - id: a
    agent: text
  - id: b
    agent: text
    input:
      operation: sentiment
      content: $a.reslt
  - id: c
    agent: lab
    input:
      a_string: x
      inners:
        - text: y
        - text: $a.result
        - number: $a.result
    when: a.result
    on_error: skip
    default: {nope: 1}
output:
  mood: $b.result
  words: $c.nope
"""
    assert lab.problems(text)[0].startswith("line 23: output.words: $c.nope: lab.v1.Everything has no field")
    assert [problem.split(": ")[:2] for problem in lab.problems(text.replace("$c.nope", "$c.a_string"))] == [
        ["line 9", "stages.b.input.content"],
        ["line 17", "stages.c.input.inners.2.number"],
        ["line 18", "stages.c.when"],
        ["line 20", "stages.c.default.nope"],
    ]
    text = "name: p\nstages:\n  - id: a\n    agent: text\n  - id: b\n    agent: text\n    input:\n      content: $c.x\n"
    assert lab.problems(text) == ["line 8: stages.b.input.content: there is no stage 'c'; there are a, b"]


def test_cycles_are_found_in_any_graph_and_never_elsewhere() -> None:
    rng = random.Random(4)
    for _ in range(300):
        names = [f"s{number}" for number in range(rng.randint(1, 9))]
        waits = {name: tuple(rng.sample(names, rng.randint(0, min(2, len(names))))) for name in names}
        cycle = find_cycle(waits)
        if cycle:
            assert all(before in waits[waiting] for before, waiting in zip(cycle, (*cycle[1:], cycle[0]), strict=True))
        else:
            order = in_order(waits)
            place = {name: number for number, name in enumerate(order)}
            assert all(place[need] < place[name] for name, all_needs in waits.items() for need in all_needs)


def test_a_thousand_stages_are_planned(lab: Any) -> None:
    plan = lab.of(A, *({"id": f"s{number}", "agent": "lab"} for number in range(999)))
    assert len(plan.steps) == 1000
    assert plan.sequential


def test_literals_keep_the_rules_of_the_contract_before_anything_runs(lab: Any) -> None:
    applaud = {"content": "$input.content", "operation": "applaud"}
    assert lab.wrong({**TEXT, "input": applaud}, input_type=TYPE) == [
        (
            'stages.a.input.operation: operation: unknown operation "applaud"; '
            "one of summarize, extract_keywords, sentiment"
        )
    ]
    too_many = {"content": "$input.content", "operation": "summarize", "options": {"max_sentences": 101}}
    (problem,) = lab.wrong({**TEXT, "input": too_many}, input_type=TYPE)
    assert problem.startswith("stages.a.input.options.max_sentences: max_sentences: "), problem
    assert lab.of({**TEXT, "input": {"operation": "sentiment", "content": "$input.content"}}, input_type=TYPE), (
        "what the run fills is the endpoint's to check"
    )


def test_all_fields_that_are_wrong_are_told_at_once(lab: Any) -> None:
    wrong = {"contnt": "$input.content", "operaton": "sentiment", "options": {"top": 1}}
    assert lab.wrong({**TEXT, "input": wrong}, input_type=TYPE) == [
        "stages.a.input.contnt: atomesh.text.v1.TextInput has no field 'contnt'; did you mean content?",
        "stages.a.input.operaton: atomesh.text.v1.TextInput has no field 'operaton'; did you mean operation?",
        "stages.a.input.options.top: atomesh.text.v1.TextOptions has no field 'top'; did you mean top_k?",
    ]


@pytest.mark.parametrize("text", ["Dear $input.content", "input.content"])
def test_text_that_looks_as_if_a_reference_was_meant_is_noted(lab: Any, text: str) -> None:
    plan = lab.of({**TEXT, "input": {"content": text, "operation": "sentiment"}}, input_type=TYPE)
    assert plan.notes == (
        (
            f"stages.a.input.content: {text!r} is sent as it stands; a reference stands alone ($input.x), "
            "and text is put together in CEL"
        ),
    )
    plain = lab.of({**TEXT, "input": {"content": "$$5 for a.b", "operation": "sentiment"}}, input_type=TYPE)
    assert plain.notes == ()


def test_a_list_that_is_none_says_nothing_of_its_items(lab: Any) -> None:
    stage = {**TEXT, "map": "$input.content", "input": {"content": "$item", "operation": "sentiment"}}
    assert lab.wrong(stage, input_type=TYPE) == ["stages.a.map: $input.content is string and no list"]


def test_a_pipeline_does_not_call_itself(lab: Any) -> None:
    (problem,) = lab.wrong({"id": "a", "agent": "lab"}, name="lab")
    assert problem == "stages.a.agent: the pipeline lab calls itself without an end"


def test_a_file_alone_shows_its_cycles_and_whether_its_expressions_parse() -> None:
    text = """name: x
stages:
  a:
    agent: t
    when: size(input.body
    input: {b: {c: [{$cel: "1 +"}]}}
    after: b
  b: {agent: t, input: $a}
output: {n: {$cel: "2 *"}}
"""
    spec, source = read_pipeline(text)
    with pytest.raises(PipelineInvalid) as wrong:
        check_alone(spec, source)
    assert [str(problem) for problem in wrong.value.problems] == [
        "line 5: stages.a.when: 'size(input.body': 1:16: Syntax error: missing ')' at '<EOF>'",
        "line 6: stages.a.input.b.c.0: '1 +': 1:4: Syntax error: mismatched input '<EOF>'",
        "line 8: stages.b: stages wait for one another: b -> a -> b",
        "line 9: output.n: '2 *': 1:4: Syntax error: mismatched input '<EOF>'",
    ]
    fine, where = read_pipeline("name: x\nstages: {a: {agent: t, when: size(whatever.it.is) > 1}}")
    check_alone(fine, where)
