"""Definitions of agents: their file, what is said over them at a start, and what may be started at all.

A definition is data, and whoever can store one chooses which class is loaded.
So a start goes by a list of modules: a module on it, or one within a package on
it, and nothing else, however alike the names are.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atomesh.core.errors import InvalidArgument, PermissionDenied
from atomesh.core.structs import from_struct, to_struct
from atomesh.pipelines.errors import PipelineInvalid
from atomesh.pipelines.reading import Source, read_data
from atomesh.v1 import pipeline_pb2

LEAST_MEMORY = 192 * 1024 * 1024
"""Bytes. An idle agent has 120 MB of data; at half of this none would start."""

SERVE = "serve"
"""The key of the configuration whose values are settings of `atomesh serve`."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BYTES = re.compile(r"(\d{1,15}(?:\.\d+)?)\s*(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_MOST_CPUS = 4096


@dataclass(frozen=True, slots=True)
class _Words:
    """A text of a definition: which pattern, and an example of it."""

    pattern: re.Pattern[str]
    example: str


_REQUIRED = {
    "name": _Words(_NAME, "small letters, digits and . _ - such as my-summarizer"),
    "module": _Words(_MODULE, "a module such as my_agents.summarize"),
    "class": _Words(_CLASS, "a class such as Summarizer"),
}
_KEYS = (*_REQUIRED, "description", "capabilities", "configuration", "memory", "cpus")


def read_definition(text: str, source: str = "") -> pipeline_pb2.Definition:
    """The definition that the text states, YAML or JSON; `source` is the file's name, for errors.

    Raises:
        InvalidArgument: it is none; with the line, the key and what is right.
    """
    try:
        data, where = read_data(text, source)
    except PipelineInvalid as error:
        raise InvalidArgument(str(error)) from None
    if not isinstance(data, dict):
        raise _wrong(where, (), "it is no definition; write an object with name, module and class")
    for key in data:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_KEYS)}"
            raise _wrong(where, (key,), f"there is no such key; {hint}")
    words = {key: _words(data, key, expected, where) for key, expected in _REQUIRED.items()}
    return pipeline_pb2.Definition(
        name=words["name"],
        module=words["module"],
        class_name=words["class"],
        description=_description(data, where),
        capabilities=_capabilities(data, where),
        configuration=to_struct(_configuration(data, where)),
        memory_bytes=_memory(data, where),
        cpus=_cpus(data, where),
    )


def parse_bytes(said: object) -> int:
    """Bytes of `512M`, `1.5GiB` or 536870912; K, M, G and T are powers of 1024.

    Raises:
        InvalidArgument: it is no size, or less than an agent needs.
    """
    found = _BYTES.fullmatch(str(said).strip()) if isinstance(said, str | int) and not isinstance(said, bool) else None
    if found is None:
        raise InvalidArgument(f"{said!r:.80} is no size of memory; write 512M or 2G")
    size = int(float(found[1]) * _UNITS[(found[2] or "").lower()])
    if not LEAST_MEMORY <= size < 2**63:
        raise InvalidArgument(f"{said} of memory is too little; an agent needs {show_bytes(LEAST_MEMORY)} or more")
    return size


def show_bytes(size: int) -> str:
    """`512M`."""
    for unit in "TGM":
        if size >= _UNITS[unit.lower()]:
            return f"{size / _UNITS[unit.lower()]:g}{unit}"
    return str(size)


def check_cpus(said: object) -> float:
    """Raises InvalidArgument: it is no number of processors."""
    number = isinstance(said, int | float) and not isinstance(said, bool)
    if not number or not math.isfinite(float(said)) or not 0 < float(said) <= _MOST_CPUS:  # type: ignore[arg-type] # a number by now
        raise InvalidArgument(f"{said!r:.80} is no number of processors; write 0.5 or 2")
    return float(said)  # type: ignore[arg-type] # as above


def check_allowed(module: str, allowed: Sequence[str]) -> None:
    """Lets a module pass that is on the list, or within a package on it.

    Raises:
        PermissionDenied: it is neither.
    """
    if any(module == name or module.startswith(f"{name}.") for name in allowed):
        return
    listed = ", ".join(allowed) if allowed else "nothing"
    raise PermissionDenied(
        f"module {module} may not be started (allowed: {listed}); if it may, say --allow-module {module}, "
        "or put it into [pipelines] allow_modules"
    )


def overridden(configuration: Mapping[str, Any], said: Sequence[str]) -> dict[str, Any]:
    """The configuration with each `key=value` merged over it; `a.b=1` goes into the object `a`.

    A value is JSON where it is any, such as 0.5, true or [1, 2], else a string.

    Raises:
        InvalidArgument: one of them is not key=value, or goes into what is no object.
    """
    merged = _copy(configuration)
    for pair in said:
        path, equals, value = pair.partition("=")
        keys = path.split(".")
        if not equals or not all(keys):
            raise InvalidArgument(f"--set {pair!r:.80} is not key=value; write --set temperature=0.5")
        place = merged
        for depth, key in enumerate(keys[:-1]):
            below = place.setdefault(key, {})
            if not isinstance(below, dict):
                raise InvalidArgument(f"--set {pair!r:.80}: {'.'.join(keys[: depth + 1])} is {below!r:.40}, no object")
            place = below
        place[keys[-1]] = _value(value)
    return merged


def split_configuration(configuration: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keyword arguments of the class, and settings of `atomesh serve`.

    Raises:
        InvalidArgument: `serve` is no object.
    """
    arguments = {key: value for key, value in configuration.items() if key != SERVE}
    serve = configuration.get(SERVE, {})
    if not isinstance(serve, Mapping):
        raise InvalidArgument(f"serve is {serve!r:.80} in the configuration; write an object, such as {{slots: 4}}")
    return arguments, dict(serve)


def configuration_of(definition: pipeline_pb2.Definition) -> dict[str, Any]:
    """As plain values; whole numbers are int."""
    return from_struct(definition.configuration)


def _words(data: Mapping[str, Any], key: str, expected: _Words, where: Source) -> str:
    if key not in data:
        raise _wrong(where, (), f"it has no {key}; write {expected.example}")
    value = data[key]
    if not isinstance(value, str) or not expected.pattern.fullmatch(value):
        raise _wrong(where, (key,), f"{value!r:.80} is none; write {expected.example}")
    return value


def _description(data: Mapping[str, Any], where: Source) -> str:
    value = data.get("description", "")
    if not isinstance(value, str) or len(value) > 1000:
        raise _wrong(where, ("description",), "expected a text of at most 1,000 characters")
    return value


def _capabilities(data: Mapping[str, Any], where: Source) -> list[str]:
    value = data.get("capabilities", [])
    if not isinstance(value, list) or len(value) > 64 or not all(isinstance(item, str) and item for item in value):
        raise _wrong(where, ("capabilities",), "expected a list of at most 64 words, such as [summarize]")
    return value


def _configuration(data: Mapping[str, Any], where: Source) -> dict[str, Any]:
    value = data.get("configuration", {})
    if not isinstance(value, dict):
        raise _wrong(where, ("configuration",), f"{value!r:.80} is no object; write key: value lines")
    if not isinstance(value.get(SERVE, {}), dict):
        raise _wrong(where, ("configuration", SERVE), "expected an object, such as {slots: 4}")
    return value


def _memory(data: Mapping[str, Any], where: Source) -> int:
    try:
        return parse_bytes(data["memory"]) if "memory" in data else 0
    except InvalidArgument as error:
        raise _wrong(where, ("memory",), str(error)) from None


def _cpus(data: Mapping[str, Any], where: Source) -> float:
    try:
        return check_cpus(data["cpus"]) if "cpus" in data else 0.0
    except InvalidArgument as error:
        raise _wrong(where, ("cpus",), str(error)) from None


def _wrong(where: Source, path: tuple[str | int, ...], message: str) -> InvalidArgument:
    problem = where.problem(path, message)
    return InvalidArgument(f"{where.name}: {problem}" if where.name else str(problem))


def _copy(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(item) if isinstance(item, Mapping) else item for key, item in value.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
