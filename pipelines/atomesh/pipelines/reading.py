"""The text of a pipeline to its model: YAML or JSON, with the line of whatever is wrong in it.

The plain linear form, `{"name": ..., "agents": [{"type": ...}, ...]}`, is read
as a pipeline whose stages follow one another.
"""

from __future__ import annotations

import datetime
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarint import ScalarInt

from atomesh.pipelines.errors import PipelineInvalid, Problem
from atomesh.pipelines.model import BackoffSpec, Defaults, Fallback, PipelineSpec, StageSpec, Undo

MAX_BYTES = 1024 * 1024
"""Bytes of a pipeline's text. A thousand stages have a tenth of it."""
_INNER: Mapping[object, type[BaseModel]] = {
    "stages": StageSpec,
    "defaults": Defaults,
    "backoff": BackoffSpec,
    "undo": Undo,
    "on_error": Fallback,
}
"""The models of objects by the key that they stand under."""

_KINDS = {
    "float_parsing": "a number",
    "float_type": "a number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
}
"""What pydantic wants, in plain words."""

_MAX_NODES = 100_000
"""Values in it, aliases counted as often as they are used: ten lines of them can stand for billions."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """Where a pipeline was read, and the line of each of its values."""

    name: str = ""
    lines: Mapping[Path, int] | None = None

    def problem(self, path: Path, message: str) -> Problem:
        """A problem at a path of the model, with the line of the nearest value around it."""
        lines = self.lines or {}
        near = next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), None)
        return Problem(message, ".".join(map(str, path)), near)


def read_pipeline(text: str, name: str = "") -> tuple[PipelineSpec, Source]:
    """The pipeline that the text states; `name` is the file's, for errors.

    Raises:
        PipelineInvalid: it is no YAML, or no pipeline; each problem has its line.
    """
    data, lines = _parsed(text, name)
    if not isinstance(data, dict):
        raise PipelineInvalid([Problem("it is no pipeline; write an object with name and stages", line=1)], name)
    linear = "agents" in data and "stages" not in data
    if linear:
        data, lines = _from_linear(data, lines)
    data, lines = _listed(data, lines)
    source = Source(name, lines)
    try:
        return PipelineSpec.model_validate(data), source
    except ValidationError as error:
        problems = problems_of(error, data, source)
    raise PipelineInvalid([_as_linear(each, data) for each in problems] if linear else problems, name)


def read_data(text: str, name: str = "") -> tuple[Any, Source]:
    """What the text states, YAML or JSON, whatever it is about, with the line of each value. Raises PipelineInvalid."""
    data, lines = _parsed(text, name)
    return data, Source(name, lines)


def _parsed(text: str, name: str) -> tuple[Any, dict[Path, int]]:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PipelineInvalid([Problem(f"it has more than {MAX_BYTES} bytes, which no pipeline needs")], name)
    try:
        node = YAML(typ="rt", pure=True).load(text)
    except DuplicateKeyError as error:  # which json would let pass: the last one wins
        raise PipelineInvalid([_not_yaml(error)], name) from None
    except (YAMLError, ValueError, RecursionError) as error:
        try:
            return json.loads(text), {}  # JSON may be indented with tabs, which YAML does not take
        except (ValueError, RecursionError):
            raise PipelineInvalid([_not_yaml(error)], name) from None
    lines: dict[Path, int] = {}
    budget = [_MAX_NODES]
    try:
        data = _plain(node, (), lines, budget)
    except (_TooManyNodesError, RecursionError):
        raise PipelineInvalid([Problem(f"its aliases stand for more than {_MAX_NODES} values")], name) from None
    except _UnwantedError as error:
        raise PipelineInvalid([Problem(str(error), line=error.line)], name) from None
    lines[()] = 1
    return data, lines


class _TooManyNodesError(Exception):
    pass


class _UnwantedError(Exception):
    """YAML has it, and no pipeline has a use for it."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def _not_yaml(error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None)
    said = (
        (error.problem if isinstance(error, MarkedYAMLError) else None) or str(error).splitlines()[0:1] or ["too deep"]
    )
    words = said if isinstance(said, str) else said[0]
    return Problem(f"it is not YAML: {' '.join(words.split())[:200]}", line=mark.line + 1 if mark is not None else None)


def _plain(node: Any, path: Path, lines: dict[Path, int], budget: list[int]) -> Any:
    """The value without YAML's own types; `lines` gets the line of each key and item."""
    budget[0] -= 1
    if budget[0] < 0:
        raise _TooManyNodesError
    if (tag := getattr(getattr(node, "tag", None), "value", None)) is not None:
        raise _UnwantedError(f"the tag {tag} means nothing here; leave it out", lines.get(path, 1))
    if type(node) is CommentedMap:
        plain: dict[Any, Any] = {}
        for key, value in node.items():
            line = node.lc.key(key)[0] + 1 if key in (node.lc.data or ()) else node.lc.line + 1
            below = (*path, key if isinstance(key, int) else _text(str(key), line))
            lines[below] = line
            plain[str(below[-1])] = _plain(value, below, lines, budget)
        return plain
    if type(node) is CommentedSeq:
        items = []
        for index, value in enumerate(node):
            lines[(*path, index)] = node.lc.item(index)[0] + 1
            items.append(_plain(value, (*path, index), lines, budget))
        return items
    return _scalar(node, lines.get(path, 1))


def _scalar(node: Any, line: int) -> Any:
    """Plain Python for what keeps its spelling in ruamel's round trip; dates become text again."""
    if isinstance(node, str):
        return _text(str(node), line)
    for kind, plain in ((ScalarBoolean, bool), (ScalarInt, int), (ScalarFloat, float)):
        if isinstance(node, kind):
            return plain(node)
    if node is None or isinstance(node, bool | int | float):
        return node
    if isinstance(node, datetime.date):
        return node.isoformat()
    raise _UnwantedError(f"YAML's own type {type(node).__name__} means nothing here; write text or a list", line)


def _text(text: str, line: int) -> str:
    """The text, with the halves of a character put together that JSON escapes apart and YAML leaves apart."""
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _UnwantedError(f"{text!r:.80} holds half a character, which is no text", line) from None


def _from_linear(data: dict[str, Any], lines: dict[Path, int]) -> tuple[dict[str, Any], dict[Path, int]]:
    """`agents: [{type: ...}]` as stages that follow one another."""
    agents = data["agents"] if isinstance(data["agents"], list) else [data["agents"]]
    stages: list[Any] = []
    used: set[str] = set()
    for item in agents:
        entry = dict(item) if isinstance(item, dict) else {"type": item}
        if "type" in entry and "agent" not in entry:
            entry["agent"] = entry.pop("type")
        entry.setdefault("id", _free_id(str(entry.get("agent", "stage")), used))
        used.add(str(entry["id"]))
        stages.append(entry)
    moved = {("stages", *path[1:]) if path[:1] == ("agents",) else path: line for path, line in lines.items()}
    return {**{key: value for key, value in data.items() if key != "agents"}, "stages": stages}, moved


def _as_linear(problem: Problem, data: dict[str, Any]) -> Problem:
    """The problem with its place as the plain form has it: `agents.1.typ`."""
    first, _, rest = problem.path.partition(".")
    if first != "stages":
        return problem
    stage, dot, key = rest.partition(".")
    ids = [str(each["id"]) for each in data["stages"]]
    place = f"agents.{ids.index(stage)}" if stage in ids else "agents"
    near = difflib.get_close_matches(key, ("type",), cutoff=0.6)
    message = "there is no such key; did you mean type?" if near else problem.message
    return Problem(message, place + dot + key, problem.line)


def _free_id(agent: str, used: set[str]) -> str:
    """`text_processor` of `text-processor`; `text_processor_2` for the second."""
    base = "".join(c if c.isalnum() and c.isascii() else "_" for c in agent.lower()).strip("_") or "stage"
    base = (base if base[0].isalpha() else f"stage_{base}")[:56]
    return next(name for name in (base, *(f"{base}_{n}" for n in range(2, 10_000))) if name not in used)


def _listed(data: dict[str, Any], lines: dict[Path, int]) -> tuple[dict[str, Any], dict[Path, int]]:
    """Stages given as an object by id as a list, and lines of stages by their id instead of their place."""
    stages = data.get("stages")
    if isinstance(stages, dict):
        listed = [{"id": key, **value} if isinstance(value, dict) else value for key, value in stages.items()]
        placed: dict[Path, int] = {
            ("stages", index): lines[near] for index, key in enumerate(stages) if (near := ("stages", key)) in lines
        }
        return {**data, "stages": listed}, {**lines, **placed}
    if not isinstance(stages, list):
        return data, lines
    ids = [stage.get("id") if isinstance(stage, dict) else None for stage in stages]
    named = dict(lines)
    for path, line in lines.items():
        if len(path) >= 2 and path[0] == "stages" and isinstance(path[1], int) and (found := ids[path[1]]) is not None:
            named.setdefault(("stages", str(found), *path[2:]), line)
    return data, named


def problems_of(error: ValidationError, data: dict[str, Any], source: Source) -> list[Problem]:
    """What pydantic found wrong, in our words, each with its place in the file."""
    stages = data.get("stages")
    problems: list[Problem] = []
    seen: set[Path] = set()
    for each in error.errors(include_url=False):
        if (twice := each.get("ctx", {}).get("place")) is not None:
            problems.append(replace(source.problem(tuple(twice), str(each["msg"])), path="stages"))
            continue
        if each["type"] == "literal_error" and isinstance(given := each["input"], dict) and "fallback" in given:
            continue  # it is meant as a fallback: what is wrong inside of it is said
        path = _named(each["loc"], stages)
        if len(path) > 3 and path[2] == "on_error" and path[:3] in seen:
            continue  # it is no fallback, and that is said
        if path in seen:  # the other forms that a value might have had
            continue
        seen.add(path)
        problems.append(source.problem(path, _words(each, path)))
    return sorted(problems, key=lambda problem: problem.line or 0)


def _named(loc: tuple[int | str, ...], stages: Any) -> Path:
    """The path with a stage's id for its place, and without pydantic's names for alternatives."""
    path: list[int | str] = [
        part for part in loc if not (isinstance(part, str) and (part[:1].isupper() or "[" in part))
    ]
    if path[-2:] == ["map", "str"]:
        path.pop()
    if len(path) >= 2 and path[0] == "stages" and isinstance(path[1], int) and isinstance(stages, list):
        stage = stages[path[1]] if path[1] < len(stages) else None
        found = stage.get("id") if isinstance(stage, dict) else None
        path[1] = str(found) if found else path[1]
    return tuple(path)


def _words(error: Any, path: Path) -> str:
    kind, given = error["type"], error.get("input")
    key = str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        model = next((_INNER[part] for part in reversed(path[:-1]) if part in _INNER), PipelineSpec)
        near = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.5)
        return f"there is no such key{f'; did you mean {near[0]}?' if near else ''}"
    if kind == "missing":
        return "it is missing"
    if path == ("stages",) and kind == "too_short":
        return "a pipeline without stages does nothing; give it one"
    if key == "id" and kind == "string_pattern_mismatch":
        return f"{given!r:.80} is no id; expected a lower-case letter, then up to 62 of a-z, 0-9 and _"
    if key == "on_error":
        return f"{given!r:.80} is none of stop, skip, compensate and {{{next(iter(Fallback.model_fields))}: AGENT}}"
    if key == "map" and len(path) == 3:
        return f"{given!r:.80} is no list to run over; write $input.field, or {{$cel: EXPRESSION}}"
    if path == ("stages",):
        return (
            f"a pipeline has at most 1,000 stages, and this has {len(given)}"
            if kind == "too_long"
            else (f"{given!r:.80} is neither a list of stages nor an object of them by id")
        )
    if kind in _KINDS:
        return f"{given!r:.80}: expected {_KINDS[kind]}"
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message.replace("dictionary or instance of StageSpec", "object").replace("valid tuple", "list")
    shown = f"{given!r:.80}: " if isinstance(given, str | int | float) and kind != "value_error" else ""
    return shown + (message[:1].lower() + message[1:]).replace("input should be", "expected")
