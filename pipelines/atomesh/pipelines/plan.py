"""A pipeline with the contracts of its agents: everything checked, ready to run any number of times.

`planner.py` makes it of a pipeline and of what the mesh says of its agents (`Bound`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from google.protobuf.message import Message

from atomesh.core.backoff import Backoff
from atomesh.core.contract import Contract, ContractDescriptor
from atomesh.pipelines.model import Fallback, PipelineSpec, StageSpec
from atomesh.pipelines.record import RunTypes
from atomesh.pipelines.references import Getter


@dataclass(frozen=True)
class Want:
    """An agent that a pipeline needs: by name and version range, or by capability."""

    key: str
    """`summary`, `summary.fallback` or `summary.undo`."""
    agent: str
    version: str = ""
    capability: str = ""


@dataclass(frozen=True)
class Bound:
    """An agent that was found for a want."""

    agent: str
    contract: ContractDescriptor
    version: str = ""
    idempotent: bool = False
    why: str = ""
    """Why it was chosen, where there was a choice."""


@dataclass(frozen=True)
class Target:
    """An agent as a plan calls it; its classes are those of the plan."""

    agent: str
    version: str
    contract: Contract[Message, Message]
    idempotent: bool


@dataclass(frozen=True)
class Undoing:
    """What undoes a stage."""

    target: Target
    fill: Getter
    timeout: float


@dataclass(frozen=True)
class Step:
    """One stage, ready to run. Times are seconds."""

    id: str
    spec: StageSpec
    target: Target
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    """The stages that all of its input comes of, or of its list where it maps: where nothing came of any of them, it
    is left out. Empty where it reads something else as well, or an expression, which may do without."""
    fill: Getter
    when: Getter | None
    over: Getter | None
    default: Message | None
    passes: Callable[[Message], Message] | None
    """Makes an output of its input, where it is skipped without a default."""
    fallback: Target | None
    undo: Undoing | None
    attempts: int
    timeout: float
    backoff: Backoff
    idempotent: bool


@dataclass(frozen=True)
class Plan:
    """A pipeline that can run."""

    spec: PipelineSpec
    contract: Contract[Message, Message]
    steps: tuple[Step, ...]
    """Each after all that it needs."""
    output: Getter
    notes: tuple[str, ...] = ()
    """Rules that nobody promises to keep; the endpoints check them all the same."""
    order: Mapping[str, int] = field(default_factory=dict)
    """The place of each stage in the file."""
    types: RunTypes | None = None
    """The types of all its messages, as data."""
    sequential: bool = False
    """Whether the steps follow one another, so that no two can run side by side."""

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self.spec.name

    @property
    def idempotent(self) -> bool:
        """Whether a run may be repeated: whether each of its stages may."""
        return all(step.idempotent for step in self.steps)

    @property
    def agents(self) -> tuple[str, ...]:
        """The agents that it calls when all goes well, each once, in order."""
        return tuple(dict.fromkeys(step.target.agent for step in self.steps))


def wants(spec: PipelineSpec) -> list[Want]:
    """The agents that a pipeline needs."""
    found = []
    for stage in spec.stages:
        found.append(Want(stage.id, stage.agent, stage.version, stage.capability))
        if isinstance(stage.on_error, Fallback):
            found.append(Want(f"{stage.id}.fallback", stage.on_error.fallback, stage.on_error.version))
        if stage.undo is not None:
            found.append(Want(f"{stage.id}.undo", stage.undo.agent, stage.undo.version))
    return found
