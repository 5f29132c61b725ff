"""Pipelines as consumers of an agent's contract: what breaks in them where it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from atomesh.core.contract import ContractDescriptor
from atomesh.core.evolution import Consumer
from atomesh.core.fits import Breach
from atomesh.pipelines.errors import PipelineInvalid
from atomesh.pipelines.model import PipelineSpec
from atomesh.pipelines.plan import Bound
from atomesh.pipelines.planner import make_plan


def consumer(spec: PipelineSpec, bound: Mapping[str, Bound], agent: str) -> Consumer:
    """The pipeline as a consumer of one of its agents; `bound` are all of them as they are now."""

    def breaks(old: ContractDescriptor, new: ContractDescriptor) -> tuple[Breach, ...]:
        before = _problems(spec, _with(bound, agent, old))
        return tuple(breach for breach in _problems(spec, _with(bound, agent, new)) if breach not in before)

    return Consumer(spec.name, "pipeline", breaks)


def _with(bound: Mapping[str, Bound], agent: str, contract: ContractDescriptor) -> dict[str, Bound]:
    """The agents, one of them with another contract."""
    return {key: replace(each, contract=contract) if each.agent == agent else each for key, each in bound.items()}


def _problems(spec: PipelineSpec, bound: Mapping[str, Bound]) -> tuple[Breach, ...]:
    try:
        make_plan(spec, bound)
    except PipelineInvalid as error:
        return tuple(Breach(problem.path, problem.message) for problem in error.problems)
    return ()
