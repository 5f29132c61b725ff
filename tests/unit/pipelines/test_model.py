"""One model behind the file and the builder, and its schema for editors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from atomesh.core import Contract
from atomesh.pipelines.builder import Pipeline, cel, ref
from atomesh.pipelines.errors import PipelineInvalid
from atomesh.pipelines.model import RESERVED, PipelineSpec, json_schema
from atomesh.pipelines.reading import read_pipeline
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

TEXT = Contract("text-processor", TextInput, TextOutput)

FILE = """
name: report
version: 2.1.0
description: A report.
input_type: atomesh.text.v1.TextInput
timeout: 60
defaults: {attempts: 2, backoff: {base: 0.5}}
context: {team: search, budget: 5}
providers: [session]
capabilities: [report]
durable: true
stages:
  - id: summary
    agent: text-processor
    version: ">=1"
    input: {content: $input.content, operation: summarize}
    on_error: {fallback: other-text, version: "<2"}
    undo: {agent: forget, input: {id: $summary.result}}
  - id: moods
    capability: sentiment
    map: $summary.summary.sentences
    input: {content: $item.text, operation: sentiment}
    concurrency: 3
    when: {0}
    on_error: skip
    default: {result: none}
output:
  summary: $summary.result
  moods: {$cel: "moods.map(m, m.sentiment.label)"}
""".replace("{0}", "size(summary.result) > 0")


def built() -> Pipeline:
    return (
        Pipeline(
            "report",
            version="2.1.0",
            description="A report.",
            input_type="atomesh.text.v1.TextInput",
            timeout=60,
            providers=["session"],
            capabilities=["report"],
            durable=True,
        )
        .defaults(attempts=2)
        .defaults(backoff={"base": 0.5})
        .context(team="search")
        .context(budget=5)
        .stage(
            "summary",
            TEXT,
            version=">=1",
            input={"content": ref("input.content"), "operation": "summarize"},
            on_error={"fallback": "other-text", "version": "<2"},
            undo={"agent": "forget", "input": {"id": ref("summary.result")}},
        )
        .stage(
            "moods",
            capability="sentiment",
            map=ref("summary.summary.sentences"),
            input={"content": ref("item.text"), "operation": "sentiment"},
            concurrency=3,
            when="size(summary.result) > 0",
            on_error="skip",
            default={"result": "none"},
        )
        .output(summary=ref("summary.result"), moods=cel("moods.map(m, m.sentiment.label)"))
    )


def test_the_builder_makes_what_the_file_says() -> None:
    assert built().spec == read_pipeline(FILE)[0]


def test_a_pipeline_survives_being_kept_as_json() -> None:
    spec = built().spec
    assert PipelineSpec.model_validate_json(spec.model_dump_json(exclude_defaults=True)) == spec
    assert read_pipeline(spec.model_dump_json(exclude_defaults=True))[0] == spec


def test_the_builders_mistakes_are_told_as_the_files_are_without_lines() -> None:
    with pytest.raises(PipelineInvalid) as caught:
        _ = Pipeline("report", timout=5).stage("a", "x", attempts=0).stage("b", "").spec
    assert list(map(str, caught.value.problems)) == [
        "stages.a.attempts: 0: expected greater than or equal to 1",
        "stages.b: name either an agent or a capability",
        "timout: there is no such key; did you mean timeout?",
    ]
    assert caught.value.message == "report: stages.a.attempts: 0: expected greater than or equal to 1 (and 2 more)"
    with pytest.raises(PipelineInvalid, match="a pipeline without stages does nothing"):
        _ = Pipeline("report").spec


def test_what_a_builder_made_does_not_change_when_it_goes_on() -> None:
    builder = Pipeline("p").stage("a", "x")
    spec = builder.spec
    builder.stage("b", "y")
    assert [stage.id for stage in spec.stages] == ["a"]
    assert [stage.id for stage in builder.spec.stages] == ["a", "b"]


@pytest.mark.parametrize("word", sorted(RESERVED))
def test_words_of_mappings_and_of_cel_are_no_ids(word: str) -> None:
    with pytest.raises(PipelineInvalid, match="means something else in mappings"):
        read_pipeline(json.dumps({"name": "p", "stages": [{"id": word, "agent": "x"}]}))


def test_the_schema_describes_every_key_of_the_file() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) == {*PipelineSpec.model_fields, "agents"}
    assert schema["additionalProperties"] is False, "editors show a key that is misspelt"
    assert schema["required"] == ["name"]
    assert schema["anyOf"] == [{"required": ["stages"]}, {"required": ["agents"]}]
    stage: Any = schema["$defs"]["StageSpec"]
    assert stage["required"] == ["id"]
    assert stage["properties"]["attempts"]["anyOf"][0]["minimum"] == 1
