"""A chain as a pipeline: the model, and the text of its file with the reasons beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from atomesh.core.errors import InvalidArgument
from atomesh.core.names import check_agent_name
from atomesh.pipelines.assembly.catalog import Catalog
from atomesh.pipelines.assembly.chains import Chain, Stage
from atomesh.pipelines.assembly.choice import milliseconds
from atomesh.pipelines.assembly.links import InputMapping
from atomesh.pipelines.model import Defaults, Fallback, PipelineSpec, StageSpec
from atomesh.pipelines.shapes import of_field

ATTEMPTS = 2
"""Attempts of a stage: nobody has looked at an assembled plan yet, and what fails twice will fail thrice."""

_PLAIN = re.compile(r"[A-Za-z$][A-Za-z0-9$_.-]*")
_WORDS = frozenset(
    {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
)  # which YAML 1.1 or 1.2 reads as no text
_SHOWN = 4
"""Rivals named in a comment."""


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
        (
            f"# When it was planned: {milliseconds(chain.expected)} expected, {chain.success * 100:.3g} % succeed "
            f"at the first attempt, slots free at the narrowest: {chain.free_slots}."
        ),
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


def _say_input(spec: dict[str, Any], chain: Chain, catalog: Catalog) -> None:
    """States what the pipeline takes, where that is not what its first stage does.

    A type that no agent of the pipeline knows cannot be its input: then it has
    one of its own, with the fields that are read.
    """
    first = chain.stages[0]
    read = _read(stage.input for stage in chain.stages)
    if first.agent.input_type == chain.start and first.input is None:
        return
    if _knows(chain, catalog, chain.start):
        spec["input_type"] = chain.start
    elif read:
        kinds = catalog.links.kinds
        start = next(kind for kind in kinds.all if kind.name == chain.start)
        if first.input is None:
            taken = kinds.of_contract[first.agent.contract_hash][0]
            spec["stages"][0]["input"] = catalog.links.by_field([("input", start.number)], taken)
            read = _read([spec["stages"][0]["input"], *(stage.input for stage in chain.stages)])
        spec["input_fields"] = {name: str(of_field(start.members[name].field)) for name in read}
    # Else it fits what the first stage takes as it is, and nobody else reads it.


def _read(mappings: Iterable[InputMapping | None]) -> list[str]:
    """The fields of the pipeline's input that are read, each once."""
    sources = [source for mapping in mappings for source in (mapping or {}).values()]
    return list(dict.fromkeys(s.removeprefix("$input.") for s in sources if s.startswith("$input.")))


def _knows(chain: Chain, catalog: Catalog, name: str) -> bool:
    """Whether some agent's contract brings a type."""
    for stage in chain.stages:
        pool = catalog.contracts[stage.agent.contract_hash].load().input.DESCRIPTOR.file.pool
        try:
            pool.FindMessageTypeByName(name)
        except KeyError:
            continue
        return True
    return False


def _stage_lines(stated: StageSpec, stage: Stage) -> list[str]:
    asked = f"{stage.capability}, " if stage.capability else ""
    lines = [f"  # {stage.agent.input_type} -> {stage.agent.output_type}: {asked}{stage.why}."]
    if stage.rivals:
        names = ", ".join(rival.name for rival in stage.rivals[:_SHOWN])
        more = f" and {len(stage.rivals) - _SHOWN} more" if len(stage.rivals) > _SHOWN else ""
        lines.append(f"  # Would do as well: {names}{more}.")
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
