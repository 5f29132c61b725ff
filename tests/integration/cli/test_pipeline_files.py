"""`atomesh pipeline` without a mesh: what is in a file, how it is drawn, and where it is stored. In this process."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from atomesh.pipelines import read_pipeline

ROOT = Path(__file__).parents[3]
REPORT = """
name: report
description: Mood of a text.
input_type: atomesh.text.v1.TextInput
stages:
  summary: {agent: text-processor, input: {content: $input.content, operation: summarize}}
  mood: {agent: text-processor, input: {content: $summary.result, operation: sentiment}}
  words: {agent: text-processor, input: {content: $summary.result, operation: extract_keywords}}
output: {summary: $summary.result, mood: $mood.sentiment.label}
"""


Here = Callable[..., Any]


@pytest.fixture(autouse=True)
def report(home: Path) -> None:
    (home / "report.yaml").write_text(REPORT)


def snippets(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


# -- the schema -------------------------------------------------------------------


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value fits a schema: the part of JSON Schema 2020-12 that ours is made of, and nothing else."""
    assert not (unknown := set(schema) - _KEYWORDS), f"this checker knows nothing of {unknown}"
    if "$ref" in schema:
        found: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        if not fits(value, found, root):
            return False
    if "anyOf" in schema and not any(fits(value, one, root) for one in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(fits(value, one, root) for one in schema["oneOf"]) != 1:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    kinds = schema.get("type", [])
    if kinds and not any(_is(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            return False
        return bool(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bool(
            schema.get("minimum", value) <= value <= schema.get("maximum", value)
            and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        )
    if isinstance(value, list):
        enough = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return enough and all(fits(item, schema["items"], root) for item in value if "items" in schema)
    if isinstance(value, dict):
        return _fits_object(value, schema, root)
    return True


def _fits_object(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    patterns = schema.get("patternProperties", {})
    if any(name not in value for name in schema.get("required", ())):
        return False
    for name, item in value.items():
        by_pattern = next((rule for one, rule in patterns.items() if re.search(one, name)), more)
        rule = known.get(name, by_pattern)
        if rule is False or (isinstance(rule, dict) and not fits(item, rule, root)):
            return False
        if "propertyNames" in schema and not fits(name, schema["propertyNames"], root):
            return False
    return bool(schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value)))


_KEYWORDS = {
    *(
        "$ref",
        "$defs",
        "$schema",
        "$id",
        "anyOf",
        "oneOf",
        "const",
        "enum",
        "type",
        "pattern",
        "minLength",
        "maxLength",
    ),
    *("minimum", "maximum", "exclusiveMinimum", "minItems", "maxItems", "items", "properties", "additionalProperties"),
    *(
        "required",
        "propertyNames",
        "patternProperties",
        "minProperties",
        "maxProperties",
        "title",
        "description",
        "default",
        "examples",
    ),
}


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "null": type(None)}
    return isinstance(value, int | float) if kind == "number" else isinstance(value, kinds[kind])


def plain(text: str) -> Any:
    from ruamel.yaml import YAML

    return json.loads(json.dumps(YAML(typ="safe", pure=True).load(text)))


def test_the_schema_takes_what_the_page_on_pipelines_shows(here: Here) -> None:
    ended = here("pipeline", "schema")
    assert ended.code == 0
    schema = json.loads(ended.out)
    assert "2020-12" in schema["$schema"], "an editor wants to know which schema it is"
    shown = snippets("pipelines.md")
    assert len(shown) >= 2
    for text in (*(text if "name:" in text else f"name: x\n{text}" for text in shown), REPORT):
        assert fits(plain(text), schema, schema), text
        read_pipeline(text)
    listed = '{"name": "x", "stages": [{"id": "a", "agent": "b", "on_error": {"fallback": "c"}}]}'
    linear = '{"name": "tidy", "agents": [{"type": "trimmer"}, {"type": "speller"}]}'
    for text in (listed, linear):
        read_pipeline(text)
        assert fits(plain(text), schema, schema), text
    for page in (ROOT / "examples").glob("*/*.yaml"):
        assert fits(plain(page.read_text()), schema, schema), page


@pytest.mark.parametrize(
    "text",
    [
        "stages: {a: {agent: b}}",
        "name: x",
        "name: x\nstages: {}",
        "name: x\nstages: []",
        "name: x\nstages: {a: {agent: b, attempts: -1}}",
        "name: x\nstages: {a: {agent: b, timeout: 0}}",
        "name: x\nstages: {a: {agent: b, atempts: 1}}",
        "name: x\nstages: {a: {agent: b, on_error: shrug}}",
    ],
)
def test_the_schema_refuses_what_the_command_refuses(here: Here, text: str, tmp_path: Path) -> None:
    schema = json.loads(here("pipeline", "schema").out)
    assert not fits(plain(text), schema, schema), "an editor marks it while it is typed"
    (tmp_path / "bad.yaml").write_text(text)
    assert here("pipeline", "validate", "bad.yaml", "--offline").code == 2


def test_the_schema_goes_to_a_file(here: Here, tmp_path: Path) -> None:
    ended = here("pipeline", "schema", "--output-file", "s.json")
    assert (ended.code, ended.out) == (0, "")
    assert json.loads((tmp_path / "s.json").read_text())["title"]
    assert "cannot be written" in here("pipeline", "schema", "--output-file", "no/such/s.json").one_line()


# -- validate, without a mesh -----------------------------------------------------


def test_files_are_checked_alone(here: Here) -> None:
    ended = here("pipeline", "validate", "report.yaml", "--offline")
    assert ended.code == 0, ended.err
    assert "report 1.0.0 reads well, 3 stages" in ended.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: x\n", "stages: it is missing"),
        ("name: x\nstages: []\n", "line 2: stages: a pipeline without stages does nothing"),
        ("name: ''\nstages: {a: {agent: b}}\n", "line 1: name: "),
        ("stages: {a: {agent: b}}\n", "name: it is missing"),
        ("name: x\nstages:\n  - {id: '', agent: b}\n", "line 3: stages.0.id: '' is no id"),
        ("name: x\nstages:\n  a:\n    agent: b\n    attempts: -1\n", "line 5: stages.a.attempts: "),
        ("name: x\nstages:\n  a:\n    agent: b\n    attempts: 0\n", "line 5: stages.a.attempts: "),
        ("name: x\nstages:\n  a:\n    agent: b\n    timeout: 0\n", "line 5: stages.a.timeout: "),
        ("name: x\nstages:\n  a:\n    agent: b\n    timeout: -2.5\n", "line 5: stages.a.timeout: "),
        ("name: x\nstages:\n  a: {agent: b}\ntimeout: 0\n", "line 4: timeout: "),
        (
            "name: x\nstages:\n  a: {agent: b, after: [c]}\n  c: {agent: b, after: [a]}\n",
            "stages wait for one another: ",
        ),
        ("name: x\nstages:\n  a: {agent: b}\n  c: {agent: b, after: [aa]}\n", "line 4: stages.c.after"),
        ("name: x\nstages:\n  a: {agent: b}\n  c: {agent: b, input: $aa}\n", "line 4: stages.c.input"),
        ("name: x\nstages:\n  - {id: a, agent: b}\n  - {id: a, agent: c}\n", "line 4: stages: "),
        ("name: x\nstages:\n  a: {agent: b}\n  a: {agent: c}\n", "line 4: "),
        ("name: x\nstages:\n  a: {agent: b, atempts: 1}\n", "line 3: stages.a.atempts: there is no such key"),
        ("name: x\nstages: {a: {agent: b}\n", "it is not YAML"),
        ("", "line 1: it is no pipeline"),
        ("- 1\n", "line 1: it is no pipeline"),
        ("name: x\nstages:\n  a: {}\n", "line 3: stages.a"),
        ("name: x\nstages:\n  a: {agent: b, capability: c}\n", "line 3: stages.a"),
    ],
)
def test_each_mistake_is_a_line_with_its_place_in_the_file(here: Here, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    ended = here("pipeline", "validate", "bad.yaml", "--offline")
    assert ended.code == 2
    line = ended.one_line()
    assert line.startswith("error: bad.yaml: "), line
    assert said in line


def test_all_mistakes_of_all_files_are_told(here: Here, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: x\nstages:\n  a: {agent: b, attempts: -1, timeout: 0}\n")
    (tmp_path / "worse.yaml").write_text("name: [\n")
    ended = here("pipeline", "validate", "bad.yaml", "report.yaml", "worse.yaml", "missing.yaml", "--offline")
    assert ended.code == 2
    assert [line.split(": ")[1] for line in ended.err.splitlines()][:3] == ["bad.yaml", "bad.yaml", "worse.yaml"]
    assert "missing.yaml cannot be read" in ended.err.splitlines()[3]
    assert ended.out.startswith("report.yaml: report 1.0.0"), "the good one is told as such"


def test_a_file_that_is_far_too_large_is_refused_as_such(here: Here, tmp_path: Path) -> None:
    (tmp_path / "huge.yaml").write_text("# " + "x" * (10 * 1024 * 1024))
    assert "more than 1048576 bytes" in here("pipeline", "validate", "huge.yaml", "--offline").one_line()
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\n")
    assert "is not UTF-8" in here("pipeline", "validate", "bytes.yaml", "--offline").one_line()


# -- show -------------------------------------------------------------------------


def test_a_graph_is_shown_in_each_form(here: Here, tmp_path: Path) -> None:
    text = here("pipeline", "show", "report.yaml")
    assert text.code == 0
    assert all(stage in text.out for stage in ("summary", "mood", "words", "text-processor"))
    mermaid = here("pipeline", "show", "report.yaml", "--mermaid").out
    assert mermaid.startswith("flowchart")
    assert len(re.findall(r"summary.*-->|summary -->", mermaid)) >= 2, "both branches start at it"
    svg = here("pipeline", "show", "report.yaml", "--svg", "-").out
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert here("pipeline", "show", "report.yaml", "--svg", "r.svg").out == ""
    assert (tmp_path / "r.svg").read_text() == svg
    spec = json.loads(here("pipeline", "show", "report.yaml", "--json").out)
    again, _ = read_pipeline(json.dumps(spec))
    assert again == read_pipeline(REPORT)[0], "what --json prints is the same pipeline"


def test_nothing_raw_of_a_pipeline_reaches_the_terminal(here: Here, tmp_path: Path) -> None:
    hostile = '\\e]0;owned\\a\\e[2J\\u009b31m\\u202e<b>&\\"x'
    (tmp_path / "hostile.yaml").write_text(
        f'name: hostile\ndescription: "{hostile}"\nstages:\n  a: {{agent: upper, name: "{hostile}", default: "{hostile}"}}\n'
    )
    (tmp_path / "bad.yaml").write_text(f'name: "{hostile}"\nstages:\n  a: {{"{hostile}": 1}}\n')
    for arguments in (
        ("show", "hostile.yaml"),
        ("show", "hostile.yaml", "--json"),
        ("show", "hostile.yaml", "--mermaid"),
        ("show", "hostile.yaml", "--svg", "-"),
        ("validate", "hostile.yaml", "--offline"),
        ("validate", "bad.yaml", "--offline"),
        ("add", "hostile.yaml"),
        ("ls",),
        ("ls", "--json"),
        ("show", "hostile"),
        ("delete", "\x1b[2J"),
    ):
        ended = here("pipeline", *arguments)
        for raw in ("\x1b", "\x07", "\x9b", "\u202e"):
            assert raw not in ended.out + ended.err, f"{arguments}: {ended.out + ended.err!r}"
        if "--svg" in arguments:
            ElementTree.fromstring(ended.out)
    assert json.loads(here("pipeline", "ls", "--json").out)[0]["description"].startswith("\x1b]0;"), "JSON keeps it all"


# -- what is stored ---------------------------------------------------------------


def test_pipelines_are_added_listed_shown_and_deleted(here: Here, tmp_path: Path) -> None:
    assert "no pipeline is stored" in here("pipeline", "ls").err
    assert here("pipeline", "ls", "--json").out == "[]\n"
    added = here("pipeline", "add", "report.yaml")
    assert (added.code, added.out) == (0, "")
    assert "stored report 1.0.0" in added.err
    (listed,) = json.loads(here("pipeline", "ls", "--json").out)
    assert (listed["name"], listed["version"], listed["description"]) == ("report", "1.0.0", "Mood of a text.")
    assert listed["stored_at"]
    assert "Mood of a text." in here("pipeline", "ls").out
    os.unlink(tmp_path / "report.yaml")
    assert "summary" in here("pipeline", "show", "report").out
    assert here("pipeline", "delete", "report").code == 0
    for arguments in (("delete", "report"), ("show", "report"), ("run", "report", "--input", "{}")):
        gone = here("pipeline", *arguments)
        assert gone.code == 3
        assert "no pipeline report is stored" in gone.one_line()


def test_what_is_no_pipeline_is_not_stored(here: Here, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: x\nstages: []\n")
    ended = here("pipeline", "add", "bad.yaml")
    assert ended.code == 2
    assert "bad.yaml: line 2: stages" in ended.one_line()
    assert "missing.yaml cannot be read" in here("pipeline", "add", "missing.yaml").one_line()
    assert here("pipeline", "ls", "--json").out == "[]\n"


def test_a_store_is_where_it_is_said_to_be(here: Here, tmp_path: Path) -> None:
    assert here("pipeline", "add", "report.yaml", "--store", "sqlite:///own/p.db").code == 0
    assert (tmp_path / "own" / "p.db").stat().st_mode & 0o777 == 0o600
    assert here("pipeline", "ls", "--json").out == "[]\n", "nothing of it is in the usual one"
    assert len(json.loads(here("pipeline", "ls", "--json", "--store", "own/p.db").out)) == 1
    assert "in memory" in here("pipeline", "ls", "--store", "memory").err


@pytest.mark.parametrize(
    "verb", [("pipeline", "ls"), ("runs", "ls"), ("runs", "status", "x"), ("pipeline", "show", "x")]
)
def test_a_store_that_is_none_is_one_line(here: Here, tmp_path: Path, verb: tuple[str, ...]) -> None:
    (tmp_path / "text.db").write_text("not a database, though it is long enough to be looked at as one\n" * 20)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    other.close()
    for store, code, said in (
        ("text.db", 2, "text.db"),
        ("other.db", 2, "other.db"),
        (str(tmp_path), 2, str(tmp_path)),
        ("report.yaml/p.db", 2, "report.yaml/p.db"),
        ("redis://x", 2, "no store speaks redis://"),
        ("postgresql://me:secret@127.0.0.1:1/db?connect_timeout=2", None, "127.0.0.1:1/db"),
    ):
        ended = here(*verb, "--store", store)
        line = ended.one_line()
        assert ended.code == code or code is None, f"{store}: {ended.code} {line}"
        assert ended.code != 0
        assert said in line
        assert "secret" not in line, "a password is never printed"
        assert "unexpected" not in line
    assert (tmp_path / "text.db").read_text().startswith("not a database"), "it is left as it is"
