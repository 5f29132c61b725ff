"""A chain as a pipeline: the model, and the text of its file with the reasons beside it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from typing import Any

from atomesh.core.errors import InvalidArgument
from atomesh.core.names import check_agent_name
from atomesh.pipelines.assembly.catalog import Catalog
from atomesh.pipelines.assembly.chains import Chain, Stage
from atomesh.pipelines.assembly.kinds import Kind
from atomesh.pipelines.assembly.links import InputMapping
from atomesh.pipelines.model import Defaults, Fallback, PipelineSpec, StageSpec
from atomesh.pipelines.shapes import Shape, misfit, of_field

ATTEMPTS = 2
"""Attempts of a stage: nobody has looked at an assembled plan yet, and what fails twice will fail thrice."""

_PLAIN = re.compile(r"[A-Za-z$][A-Za-z0-9$_.-]*")
_WORDS = frozenset(
    {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
)  # which YAML 1.1 or 1.2 reads as no text


def assemble(chain: Chain, catalog: Catalog, name: str = "", *, fallbacks: bool = False) -> PipelineSpec:
    """The pipeline of a chain.

    Args:
        chain: as it was found.
        catalog: where it was found.
        name: of the pipeline; made of its stages where it is empty.
        fallbacks: whether a stage whose attempts are spent falls back to its best rival of the same contract.

    Raises:
        InvalidArgument: the name is none, or that of an agent of the chain, which a pipeline is as well.
    """
    if name and check_agent_name(name) in {stage.agent.name for stage in chain.stages}:
        raise InvalidArgument(f"{name} is an agent of the pipeline, which is served as one too; give it another name")
    spec: dict[str, Any] = {
        "name": name or plan_name(chain),
        "version": "1.0.0",
        "defaults": Defaults(attempts=ATTEMPTS),
        "stages": [_stage(stage, fallbacks=fallbacks) for stage in chain.stages],
    }
    _say_input(spec, chain, catalog)
    last = chain.stages[-1]
    if last.agent.output_type != chain.goal and _knows(chain, catalog, chain.goal):
        spec |= {"output_type": chain.goal, "output": f"${last.id}"}
    return PipelineSpec(**spec)


def plan_name(chain: Chain) -> str:
    """A name that says what the pipeline does and that no agent of it has."""
    joined = "-".join(stage.id.replace("_", "-") for stage in chain.stages)
    return f"plan-{joined}"[:64].rstrip("-._")


def to_yaml(spec: PipelineSpec, chain: Chain) -> str:
    """The pipeline's file, with why each agent was chosen as comments."""
    lines = [
        f"# {chain.start} into {chain.goal}.",
        (f"# When it was planned: {chain.fares} at the narrowest."),
        f"name: {_scalar(spec.name)}",
        f"version: {_scalar(spec.version)}",
    ]
    if spec.input_type:
        lines.append(f"input_type: {_scalar(spec.input_type)}")
    if spec.input_fields:
        lines += ["input_fields:", *(f"  {name}: {_scalar(kind)}" for name, kind in spec.input_fields.items())]
    if spec.output_type:
        lines.append(f"output_type: {_scalar(spec.output_type)}")
    lines += ["defaults:", f"  attempts: {spec.defaults.attempts}", "stages:"]
    for stated, stage in zip(spec.stages, chain.stages, strict=True):
        lines += _stage_lines(stated, stage)
    if spec.output is not None:
        lines.append(f"output: {_scalar(spec.output)}")
    return "\n".join(lines) + "\n"


def _stage(stage: Stage, *, fallbacks: bool) -> dict[str, Any]:
    said: dict[str, Any] = {"id": stage.id, "agent": stage.agent.name, "version": stage.agent.version}
    if stage.input is not None:
        said["input"] = dict(stage.input)
    if fallbacks and (other := _stand_in(stage)):
        said["on_error"] = other
    return said


def _stand_in(stage: Stage) -> Fallback | None:
    """The best rival that takes and gives the very same."""
    ours = stage.agent
    return next(
        (
            Fallback(fallback=rival.name, version=rival.version)
            for rival in stage.rivals
            if rival.contract_hash == ours.contract_hash
        ),
        None,
    )


def without_fallback(chain: Chain) -> tuple[str, ...]:
    """The stages for which nobody else has the same contract."""
    return tuple(stage.id for stage in chain.stages if _stand_in(stage) is None)


def _say_input(spec: dict[str, Any], chain: Chain, catalog: Catalog) -> None:
    """States what the pipeline takes, where that is not what its first stage does.

    A type that no agent of the pipeline knows cannot be its input: then it has
    one of its own, with the fields that are read.
    """
    first = chain.stages[0]
    mappings = [stage.input for stage in chain.stages]
    if first.agent.input_type == chain.start and first.input is None:
        return
    if _knows(chain, catalog, chain.start):
        spec["input_type"] = chain.start
    elif any(_read(mapping) for mapping in mappings):
        start = next(kind for kind in catalog.links.kinds.all if kind.name == chain.start)
        if first.input is None:
            taken = catalog.links.kinds.of_contract[first.agent.contract_hash][0]
            mappings[0] = catalog.links.by_field([("input", start.number)], taken)
            spec["stages"][0]["input"] = mappings[0]
        spec["input_fields"] = _input_fields(chain, catalog, start, mappings)
    # Else it fits what the first stage takes as it is, and nobody else reads it.


def _input_fields(
    chain: Chain, catalog: Catalog, start: Kind, mappings: Sequence[InputMapping | None]
) -> dict[str, str]:
    """The fields that are read, each with its type, or with one that it fills where no agent here knows its own."""
    takers: dict[str, list[Shape]] = {}
    for stage, mapping in zip(chain.stages, mappings, strict=True):
        taken = catalog.links.kinds.all[catalog.links.kinds.of_contract[stage.agent.contract_hash][0]]
        for field, read in _read(mapping).items():
            takers.setdefault(read, []).append(of_field(taken.members[field].field))
    found = {}
    for read, wanted in takers.items():
        own = of_field(start.members[read].field)
        named = own.message or own.enum
        known = named is None or _knows(chain, catalog, str(named.full_name))
        fitting = [shape for shape in wanted if not any(misfit(shape, other) for other in wanted)]
        found[read] = str(own if known else (fitting or wanted)[0])
    return found


def _read(mapping: InputMapping | None) -> dict[str, str]:
    """By field that is filled: the one of the pipeline's input that fills it."""
    sources = (mapping or {}).items()
    return {field: source.removeprefix("$input.") for field, source in sources if source.startswith("$input.")}


def _knows(chain: Chain, catalog: Catalog, name: str) -> bool:
    """Whether some agent's contract brings a message or an enum."""
    for stage in chain.stages:
        pool = catalog.contracts[stage.agent.contract_hash].load().input.DESCRIPTOR.file.pool
        for find in (pool.FindMessageTypeByName, pool.FindEnumTypeByName):
            with contextlib.suppress(KeyError):
                find(name)
                return True
    return False


def _stage_lines(stated: StageSpec, stage: Stage) -> list[str]:
    lines = [f"  # {stage.agent.input_type} -> {stage.agent.output_type}", f"  # {stage.why}"]
    lines += [f"  - id: {_scalar(stated.id)}", f"    agent: {_scalar(stated.agent)}"]
    if stated.version:
        lines.append(f"    version: {_scalar(stated.version)}")
    if stated.input:
        lines += ["    input:", *(f"      {field}: {_scalar(source)}" for field, source in stated.input.items())]
    if isinstance(stated.on_error, Fallback):
        lines += ["    on_error:", f"      fallback: {_scalar(stated.on_error.fallback)}"]
        if stated.on_error.version:
            lines.append(f"      version: {_scalar(stated.on_error.version)}")
    return lines


def _scalar(text: str) -> str:
    """As YAML: plain where it can only be read as text, else quoted, for which JSON's way is YAML's too."""
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else json.dumps(text)
