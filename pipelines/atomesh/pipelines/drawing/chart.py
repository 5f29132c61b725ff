"""What is drawn of a pipeline: boxes, and who reads what from whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from atomesh.pipelines.errors import PipelineInvalid
from atomesh.pipelines.expressions import names_in
from atomesh.pipelines.graph import OF_ITEMS, input_of, last_stages, needs, reads
from atomesh.pipelines.mapping import roots
from atomesh.pipelines.model import Defaults, Fallback, PipelineSpec, StageSpec
from atomesh.pipelines.plan import Plan
from atomesh.pipelines.reading import Source
from atomesh.pipelines.references import Wrong, is_reference, resolve, root_of
from atomesh.pipelines.shapes import Shape, of_field, of_message

INPUT, OUTPUT = "$input", "$output"
"""The ids of the first and the last box: no stage can have them."""
_USUAL = Defaults()
_LABEL = 40
"""Characters of an edge's label: longer ones would push the boxes apart until the graph is no longer one glance."""


@dataclass(frozen=True)
class Box:
    """A stage, or where the pipeline begins or ends."""

    id: str
    title: str
    facts: tuple[str, ...] = ()
    about: str = ""
    maps: bool = False


@dataclass(frozen=True)
class Edge:
    """One box reads of another, or only waits for it."""

    source: str
    target: str
    label: str = ""
    """What of it, and with a plan its type."""
    waits: bool = False
    """Nothing is read: the one must only have ended."""


@dataclass(frozen=True)
class Chart:
    """A pipeline as boxes and edges; the input is the first box and the output the last."""

    title: str
    about: str
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    gives: dict[str, str]
    """The type of what each box gives, where there is a plan."""


def chart_of(spec: PipelineSpec, plan: Plan | None = None) -> Chart:
    """The chart of a pipeline.

    Raises:
        PipelineInvalid: a stage reads one that is not there, or stages wait for one another.
    """
    waits, problems = needs(spec, Source())
    if problems:
        raise PipelineInvalid(problems)
    types = _Types(plan)
    agents = {} if plan is None else {step.id: step.target.agent for step in plan.steps}
    edges: list[Edge] = []
    for place, stage in enumerate(spec.stages):
        found = reads(spec, place)
        read = set().union(*(names for key, names in found.items() if key != "after")) - OF_ITEMS
        values = (input_of(spec, place), stage.map, stage.when if is_reference(stage.when) else None)
        edges += _edges(stage.id, values, read, types)
        edges += [Edge(other, stage.id, "", waits=True) for other in stage.after if other not in read]
    given = spec.output
    if given is None:
        given = [f"${stage.id}" for stage in last_stages(spec, waits)]
    names = [*waits, "input"]
    edges += _edges(OUTPUT, (given,), roots(given, lambda text: names_in(text, names)), types)
    boxes = [_box(stage, spec, agents.get(stage.id, "")) for stage in spec.stages]
    first = Box(INPUT, "input", _input_facts(spec))
    last = Box(OUTPUT, "output", _output_facts(spec, plan, types))
    title = f"{spec.name} {spec.version}"
    return Chart(title, clean(spec.description), (first, *boxes, last), tuple(edges), types.given())


def clean(text: str) -> str:
    """The text in one line, its characters that control a terminal or the way text runs spelled out."""
    folded = " ".join(text.split())
    if folded.isprintable():
        return folded
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in folded)


def shortened(text: str, most: int) -> str:
    """The text, or as much of it as fits."""
    return text if len(text) <= most else text[: most - 3] + "..."


# -- edges -------------------------------------------------------------------


class _Types:
    """The types of what boxes give, by their short names where no two share one."""

    def __init__(self, plan: Plan | None) -> None:
        self.scope: dict[str, Shape] = {}
        if plan is not None:
            self.scope["input"] = of_message(plan.contract.input.DESCRIPTOR)
            for step in plan.steps:
                self.scope[step.id] = of_message(step.target.contract.output.DESCRIPTOR, many=step.over is not None)
        shapes = [*self.scope.values()] + ([of_message(plan.contract.output.DESCRIPTOR)] if plan else [])
        names = {str(shape.message.full_name) for shape in shapes if shape.message is not None}
        short = [name.rpartition(".")[2] for name in names]
        self._twice = {name for name in short if short.count(name) > 1}

    def name(self, shape: Shape) -> str:
        """As a person would write it, without the package."""
        whole, named = str(shape), shape.message or shape.enum
        if named is None:
            return whole
        full = str(named.full_name)
        last = full.rpartition(".")[2]
        return whole if last in self._twice else whole.replace(full, last)

    def of(self, reference: str) -> str:
        """The type of what a reference stands for; empty where nobody can tell."""
        try:
            return self.name(resolve(reference, self.scope).shape)
        except Wrong:
            return ""

    def given(self) -> dict[str, str]:
        return {INPUT if key == "input" else key: self.name(shape) for key, shape in self.scope.items()}


def _edges(target: str, values: tuple[Any, ...], read: set[str], types: _Types) -> list[Edge]:
    """The edges into a box whose mappings are `values`, and which reads these names."""
    said: dict[str, list[str]] = {name: [] for name in read}
    for value in values:
        for reference in _references(value):
            if (root := root_of(reference)) in said and reference not in said[root]:
                said[root].append(reference)
    order = sorted(said, key=lambda name: (name != "input", name))
    return [Edge(INPUT if name == "input" else name, target, _label(name, said[name], types)) for name in order]


def _references(value: Any) -> Iterator[str]:
    if is_reference(value):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _references(item)


def _label(root: str, references: list[str], types: _Types) -> str:
    if not references:  # only in CEL, which may take any part of it
        return shortened(clean(types.of(f"${root}")), _LABEL)
    parts = []
    for reference in references[:2]:
        path, kind = reference[len(root) + 2 :], types.of(reference)
        parts.append(f"{path}: {kind}" if path and kind else path or kind)
    if len(references) > 2:
        parts.append(f"{len(references) - 2} more")
    return shortened(clean(", ".join(filter(None, parts))), _LABEL)


# -- boxes -------------------------------------------------------------------


def _box(stage: StageSpec, spec: PipelineSpec, agent: str) -> Box:
    title = stage.id if stage.name in ("", stage.id) else f"{stage.id}: {clean(stage.name)}"
    facts = [_whom(stage.agent, stage.version), *_when_and_how_often(stage, spec), *_failure(stage)]
    if stage.capability:
        facts[0] = f"capability {stage.capability}" + (f": {agent}" if agent else "")
    return Box(stage.id, title, tuple(facts), clean(stage.description), stage.map is not None)


def _when_and_how_often(stage: StageSpec, spec: PipelineSpec) -> Iterator[str]:
    if stage.map is not None:
        over = stage.map if isinstance(stage.map, str) else str(next(iter(stage.map.values()), ""))
        yield f"map {clean(over)}, {stage.concurrency} at once"
    if stage.when is not None:
        yield f"when {clean(stage.when)}"
    attempts, timeout = stage.attempts or spec.defaults.attempts, stage.timeout or spec.defaults.timeout
    if attempts != _USUAL.attempts:
        yield f"{attempts} attempt{'s' if attempts > 1 else ''}"
    if timeout != _USUAL.timeout:
        yield f"timeout {timeout:g} s"


def _failure(stage: StageSpec) -> Iterator[str]:
    if isinstance(stage.on_error, Fallback):
        yield f"on error: fallback {_whom(stage.on_error.fallback, stage.on_error.version)}"
    elif stage.on_error != "stop":
        yield f"on error: {stage.on_error}" + (" to its default" if stage.default is not None else "")
    if stage.undo is not None:
        yield f"undo: {_whom(stage.undo.agent, stage.undo.version)}"


def _whom(agent: str, version: str) -> str:
    return clean(f"{agent} {version}")


def _input_facts(spec: PipelineSpec) -> tuple[str, ...]:
    if spec.input_type:
        return (spec.input_type,)
    return tuple(f"{name}: {clean(kind)}" for name, kind in spec.input_fields.items())


def _output_facts(spec: PipelineSpec, plan: Plan | None, types: _Types) -> tuple[str, ...]:
    if plan is not None and not spec.output_type:
        fields = plan.contract.output.DESCRIPTOR.fields_by_name
        said = [str(name) for name in spec.output] if isinstance(spec.output, dict) else []
        if said and all(name in fields for name in said):
            return tuple(f"{name}: {types.name(of_field(fields[name]))}" for name in said)
        return (types.name(of_message(plan.contract.output.DESCRIPTOR)),)
    if spec.output_type:
        return (spec.output_type,)
    if isinstance(spec.output, dict) and not any(str(key).startswith("$") for key in spec.output):
        return tuple(clean(str(name)) for name in spec.output)
    return ()
