"""The text of a pipeline: YAML, JSON, the linear form, and the line of whatever is wrong in it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atomesh.pipelines.errors import PipelineInvalid
from atomesh.pipelines.reading import MAX_BYTES, read_pipeline

GOOD: dict[str, Any] = {
    "name": "report",
    "stages": [
        {"id": "summary", "agent": "text", "attempts": 2, "on_error": {"fallback": "other"}},
        {"id": "mood", "agent": "text", "input": {"content": "$summary.result"}, "when": "input.x != ''"},
    ],
}
STAGES = "stages:\n  - {id: a, agent: x}\n"


def problems(text: str) -> list[str]:
    with pytest.raises(PipelineInvalid) as caught:
        read_pipeline(text)
    said = list(map(str, caught.value.problems))
    assert all("\n" not in problem for problem in (*said, caught.value.message)), "a problem is one line"
    return said


def problem(text: str) -> str:
    (said,) = problems(text)
    return said


def test_yaml_and_json_say_the_same() -> None:
    yaml = """
name: report
stages:
  - id: summary
    agent: text
    attempts: 2
    on_error: {fallback: other}
  - id: mood
    agent: text
    input:
      content: $summary.result
    when: input.x != ''
"""
    from_yaml, _ = read_pipeline(yaml)
    for text in (json.dumps(GOOD), json.dumps(GOOD, indent=2), json.dumps(GOOD, indent="\t")):
        assert read_pipeline(text)[0] == from_yaml


def test_stages_may_be_an_object_by_id() -> None:
    spec, source = read_pipeline("name: p\nstages:\n  a: {agent: x}\n  b:\n    agent: y\n    timeout: 5\n")
    assert [(stage.id, stage.agent) for stage in spec.stages] == [("a", "x"), ("b", "y")]
    assert source.problem(("stages", "b", "timeout"), "").line == 6


def test_a_plain_list_of_agents_is_a_pipeline_whose_stages_follow_one_another() -> None:
    text = '{"name": "p", "agents": [{"type": "text-processor"}, {"type": "text-processor", "attempts": 5}, "x"]}'
    spec, _ = read_pipeline(text)
    assert [(stage.id, stage.agent) for stage in spec.stages] == [
        ("text_processor", "text-processor"),
        ("text_processor_2", "text-processor"),
        ("x", "x"),
    ]
    assert spec.stages[1].attempts == 5
    assert problem("name: p\nagents:\n  - type: a\n  - type: b\n    attempts: 0\n") == (
        "line 5: agents.1.attempts: 0: expected greater than or equal to 1"
    )


def test_a_character_that_json_escapes_in_two_halves_is_one() -> None:
    text = json.dumps({**GOOD, "description": "well \U0001f600"})
    assert "\\ud83d" in text
    spec, _ = read_pipeline(text)
    assert spec.description == "well \U0001f600", "json.dump writes it so, and protobuf takes no halves"
    assert problem('name: p\ndescription: "half \\ud83d"\n' + STAGES).startswith("line 2: 'half \\ud83d' holds half")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: it is no pipeline; write an object with name and stages"),
        ("- a", "line 1: it is no pipeline; write an object with name and stages"),
        ("name: p\n  x: [", "line 2: it is not YAML: mapping values are not allowed here"),
        ("name: p\n---\nname: q\n", "line 2: it is not YAML: but found another document"),
        (
            "name: p\nname: q\n",
            'line 2: it is not YAML: found duplicate key "name" with value "q" (original value: "p")',
        ),
        (
            '{"name": "p",\n "name": "q", "stages": []}',
            'line 2: it is not YAML: found duplicate key "name" with value "q" (original value: "p")',
        ),
        (
            "name: p\n" + STAGES + "x: !!python/object:os.system y\n",
            "the tag tag:yaml.org,2002:python/object:os.system",
        ),
        ("name: p\nstages: !mine\n  - {id: a}\n", "line 2: the tag !mine means nothing here; leave it out"),
        ("name: p\nstages: !mine\n  a: {agent: x}\n", "line 2: the tag !mine means nothing here; leave it out"),
        ("name: p\nstages: !!set {a}\n", "line 2: YAML's own type CommentedSet means nothing here"),
        ("name: p\nstages: !!omap [a: 1]\n", "line 2: YAML's own type CommentedOrderedMap means nothing here"),
        ("name: p\ndescription: !!binary aGk=\n" + STAGES, "line 2: YAML's own type bytes means nothing here"),
        ("name: \x01", "it is not YAML: unacceptable character #x0001: special characters are not allowed"),
    ],
)
def test_what_is_no_pipeline_is_told_with_its_line(text: str, said: str) -> None:
    assert said in problem(text)


def test_a_text_of_more_than_a_mebibyte_is_not_read() -> None:
    assert problem("x" * (MAX_BYTES + 1)) == "it has more than 1048576 bytes, which no pipeline needs"
    assert problem("\u00e9" * (MAX_BYTES // 2 + 1)) == "it has more than 1048576 bytes, which no pipeline needs"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
            for before, name in zip("abcdefghi", "bcdefghij", strict=True)
        ),
        "&a\nname: p\nstages: *a\n",
        "&a [*a]",
    ],
    ids=["billions", "itself", "a list in itself"],
)
def test_aliases_cannot_stand_for_billions_of_values(text: str) -> None:
    assert problem(text) == "its aliases stand for more than 100000 values"


def test_what_is_nested_too_deeply_is_one_line() -> None:
    assert problem("[" * 1000) == "it is not YAML: maximum recursion depth exceeded"


def test_dates_are_text_and_other_scalars_are_what_they_look_like() -> None:
    fields = "{d: 2020-01-02, t: 2020-01-02T03:04:05Z, i: 0x10, f: 1e3, b: true, n: null, q: '5', z: 010}"
    spec, _ = read_pipeline(f"name: p\nstages:\n  - {{id: a, agent: x, input: {fields}}}\n")
    given = spec.stages[0].input
    assert given == {
        "d": "2020-01-02",
        "t": "2020-01-02T03:04:05+00:00",
        "i": 16,
        "f": 1000.0,
        "b": True,
        "n": None,
        "q": "5",
        "z": 10,
    }
    assert [type(value) for value in given.values()] == [str, str, int, float, bool, type(None), str, int]


def test_anchors_and_merges_work_and_lines_stay_right() -> None:
    text = "name: p\nstages:\n  - &base\n    id: a\n    agent: x\n  - <<: *base\n    id: b\n    atempts: 3\n"
    assert problem(text) == "line 8: stages.b.atempts: there is no such key; did you mean attempts?"


def test_every_problem_is_told_at_once_each_with_its_line() -> None:
    text = """name: Bad Name
stages:
  - id: a
    agent: x
    attempts: -1
    timeout: 0
    backoff:
      base: -1
  - id: b
    agent: x
    capability: y
  - id: c
  - id: Upper
    agent: x
  - id: input
    agent: x
  - id: d
    agent: x
    on_error: retry
  - id: e
    agent: x
    on_error: {fallback: Not A Name}
  - id: f
    agent: x
    map: [1, 2]
    when: true
  - id: g
    agent: x
    version: latest
  - id: ""
    agent: x
    name: ""
"""
    shape = "is not 1 to 64 of a-z, 0-9, '.', '_', '-', with a letter or digit at both ends"
    assert problems(text) == [
        f"line 1: name: agent name 'Bad Name' {shape}",
        "line 5: stages.a.attempts: -1: expected greater than or equal to 1",
        "line 6: stages.a.timeout: 0: expected greater than 0",
        "line 8: stages.a.backoff.base: -1: expected greater than or equal to 0",
        "line 9: stages.b: name either an agent or a capability",
        "line 12: stages.c: name either an agent or a capability",
        "line 13: stages.Upper.id: 'Upper' is no id; expected a lower-case letter, then up to 62 of a-z, 0-9 and _",
        "line 15: stages.input.id: 'input' means something else in mappings; take another id",
        "line 19: stages.d.on_error: 'retry' is none of stop, skip, compensate and {fallback: AGENT}",
        f"line 22: stages.e.on_error.fallback: agent name 'Not A Name' {shape}",
        "line 25: stages.f.map: [1, 2] is no list to run over; write $input.field, or {$cel: EXPRESSION}",
        "line 26: stages.f.when: True: expected text",
        "line 29: stages.g.version: version range 'latest' is not comparisons of semver, such as >=1.2.0,<2.0.0; 'latest' is no version",
        "line 30: stages.9.id: '' is no id; expected a lower-case letter, then up to 62 of a-z, 0-9 and _",
        "line 32: stages.9.name: '': string should have at least 1 character",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: p\n", "line 1: stages: it is missing"),
        ("name: p\nstages: []\n", "line 2: stages: a pipeline without stages does nothing; give it one"),
        ("name: p\nagents: []\n", "line 2: agents: a pipeline without stages does nothing; give it one"),
        ("name: p\nstages: 5\n", "line 2: stages: 5 is neither a list of stages nor an object of them by id"),
        ("name: p\nstages: {a: {agent: x}, b: null}\n", "line 2: stages.1: expected a valid object"),
        ("name: p\nstages:\n  a: {agent: x}\n  b:\n", "line 4: stages.1: expected a valid object"),
        (STAGES, "line 1: name: it is missing"),
        ("name: ''\n" + STAGES, "line 1: name: agent name '' is not 1 to 64 of a-z, 0-9, '.', '_', '-', with"),
        ("name: p\nversion: 1.0\n" + STAGES, "line 2: version: 1.0: expected text"),
        ("name: p\ntimeout: -1\n" + STAGES, "line 2: timeout: -1: expected greater than 0"),
        ("name: p\ntimeout: .inf\n" + STAGES, "line 2: timeout: inf: expected less than or equal to 604800"),
        ("name: p\ntimeout: .nan\n" + STAGES, "line 2: timeout: nan: expected less than or equal to 604800"),
        (
            "name: p\ninput_type: a\ninput_fields: {x: string}\n" + STAGES,
            "line 1: say either input_type or input_fields",
        ),
        ("name: p\nstage: []\n" + STAGES, "line 2: stage: there is no such key; did you mean stages?"),
        ("name: p\nslots: 0\n" + STAGES, "line 2: slots: 0: expected greater than or equal to 1"),
        (
            "name: p\nstages:\n  - id: a\n    agent: x\n  - id: a\n    agent: y\n",
            "line 5: stages: two stages have the id 'a'; give each its own",
        ),
        (
            "name: p\nstages:\n  - {id: a, agent: x, name: Mood}\n  - id: b\n    agent: y\n    name: Mood\n",
            "line 6: stages: two stages have the name 'Mood'; give each its own",
        ),
        (
            "name: p\nstages:\n  - id: a\n    capability: y\n    version: '>=1'\n",
            "line 3: stages.a: a version belongs to an agent; a capability has none",
        ),
    ],
)
def test_each_thing_that_can_be_wrong_has_its_own_words(text: str, said: str) -> None:
    found = problem(text)
    assert found == said if not said.endswith("with") else found.startswith(said)


def test_the_files_name_stands_before_the_first_problem_and_the_rest_are_counted() -> None:
    with pytest.raises(PipelineInvalid) as caught:
        read_pipeline("name: p\nstages:\n  - id: a\n    attempts: 0\n  - id: b\n", "my.yaml")
    assert caught.value.message == (
        "my.yaml: line 4: stages.a.attempts: 0: expected greater than or equal to 1 (and 1 more)"
    )
