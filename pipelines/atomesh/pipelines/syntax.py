"""What can be said of a pipeline without its agents' contracts: its graph, and whether its expressions parse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from atomesh.pipelines.errors import PipelineInvalid, Problem
from atomesh.pipelines.expressions import check_syntax
from atomesh.pipelines.graph import needs
from atomesh.pipelines.mapping import CEL
from atomesh.pipelines.model import PipelineSpec
from atomesh.pipelines.reading import Path, Source
from atomesh.pipelines.references import Wrong, is_reference


def check_alone(spec: PipelineSpec, source: Source) -> None:
    """Raises PipelineInvalid where the pipeline is wrong whatever its agents are."""
    _, problems = needs(spec, source)
    for path, text in _expressions(spec):
        try:
            check_syntax(text)
        except Wrong as error:
            problems.append(source.problem(path, str(error)))
    if problems:
        raise PipelineInvalid(sorted(problems, key=_line), source.name)


def _expressions(spec: PipelineSpec) -> Iterator[tuple[Path, str]]:
    for stage in spec.stages:
        path: Path = ("stages", stage.id)
        if stage.when is not None and not is_reference(stage.when):
            yield (*path, "when"), stage.when
        yield from _inside((*path, "input"), stage.input)
        yield from _inside((*path, "map"), stage.map)
        if stage.undo is not None:
            yield from _inside((*path, "undo", "input"), stage.undo.input)
    yield from _inside(("output",), spec.output)


def _inside(path: Path, value: Any) -> Iterator[tuple[Path, str]]:
    if isinstance(value, dict):
        if set(value) == {CEL}:
            yield path, str(value[CEL])
            return
        for key, item in value.items():
            yield from _inside((*path, key), item)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _inside((*path, index), item)


def _line(problem: Problem) -> int:
    return problem.line or 0
