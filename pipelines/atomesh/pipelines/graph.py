"""Which stages read which, and in what order they can run."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from atomesh.pipelines.errors import Problem
from atomesh.pipelines.expressions import names_in
from atomesh.pipelines.mapping import roots
from atomesh.pipelines.model import PipelineSpec, StageSpec
from atomesh.pipelines.reading import Path, Source
from atomesh.pipelines.references import is_reference

OF_ITEMS = frozenset({"item", "index"})
"""Names that stand for something where a stage maps."""


def implied_input(spec: PipelineSpec, place: int) -> str:
    """What a stage takes that does not say: the output of the stage before it, or the pipeline's input."""
    if spec.stages[place].map is not None:
        return "$item"
    return f"${spec.stages[place - 1].id}" if place else "$input"


def input_of(spec: PipelineSpec, place: int) -> object:
    """What a stage is given, said or implied."""
    stage = spec.stages[place]
    return implied_input(spec, place) if stage.input is None else stage.input


def reads(spec: PipelineSpec, place: int) -> dict[str, set[str]]:
    """The names that a stage reads, by the key of the file that says so."""
    stage = spec.stages[place]
    names = (*(other.id for other in spec.stages), "input", *OF_ITEMS)

    def used(text: str) -> list[str]:
        return names_in(text, names)

    found = {"input": roots(input_of(spec, place), used), "after": set(stage.after)}
    if stage.map is not None:
        found["map"] = roots(stage.map, used)
    if stage.when is not None:
        found["when"] = roots(stage.when, used) if is_reference(stage.when) else set(used(stage.when))
    return found


def needs(spec: PipelineSpec, source: Source) -> tuple[dict[str, tuple[str, ...]], list[Problem]]:
    """The stages that each stage waits for, and what is wrong with that."""
    ids = [stage.id for stage in spec.stages]
    waits: dict[str, tuple[str, ...]] = {}
    problems: list[Problem] = []
    for place, stage in enumerate(spec.stages):
        found = reads(spec, place)
        for key, names in found.items():
            problems += _unknown(stage, key, names, ids, source)
        known = set().union(*found.values()) & set(ids)
        waits[stage.id] = tuple(sorted(known, key=ids.index))
    if not problems and (cycle := find_cycle(waits)):
        path: Path = ("stages", cycle[0])
        problems.append(source.problem(path, f"stages wait for one another: {' -> '.join((*cycle, cycle[0]))}"))
    return waits, problems


def _unknown(stage: StageSpec, key: str, names: set[str], ids: Sequence[str], source: Source) -> list[Problem]:
    allowed = {*ids, "input", *(OF_ITEMS if stage.map is not None and key == "input" else ())}
    problems = []
    for name in sorted(names - allowed):
        if name in OF_ITEMS:
            message = f"${name} stands for something only in the input of a stage that maps"
        else:
            near = difflib.get_close_matches(name, ids, n=1, cutoff=0.5)
            message = f"there is no stage {name!r}; " + (
                f"did you mean {near[0]}?" if near else f"there are {', '.join(ids)}"[:200]
            )
        within = _place_of(stage.input, name) if key == "input" else ()
        problems.append(source.problem(("stages", stage.id, key, *within), message))
    return problems


def _place_of(value: object, name: str) -> Path:
    """Where in a mapping a name is read."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        if not str(key).startswith("$") and name in roots(item, lambda text: names_in(text, [name])):
            return (key, *_place_of(item, name))
    return ()


def find_cycle(waits: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Stages that wait for one another in a circle; empty where there is none."""
    done: set[str] = set()
    for start in waits:
        path: list[str] = []
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            stage, turn = stack.pop()
            if turn == 0:
                if stage in done:
                    continue
                if stage in path:
                    return tuple(reversed(path[path.index(stage) :]))
                path.append(stage)
            before = waits[stage]
            if turn < len(before):
                stack.append((stage, turn + 1))
                stack.append((before[turn], 0))
            else:
                done.add(stage)
                path.pop()
    return ()


def in_order(waits: Mapping[str, Sequence[str]]) -> list[str]:
    """The stages, each after all that it waits for, otherwise as they stand in the file."""
    order: list[str] = []
    left = dict(waits)
    while left:
        ready = next(stage for stage, before in left.items() if not any(other in left for other in before))
        order.append(ready)
        del left[ready]
    return order


def last_stages(spec: PipelineSpec, waits: Mapping[str, Sequence[str]]) -> list[StageSpec]:
    """The stages that no other waits for."""
    read = {name for before in waits.values() for name in before}
    return [stage for stage in spec.stages if stage.id not in read]
