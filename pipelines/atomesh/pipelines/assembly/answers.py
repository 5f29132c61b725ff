"""`PipelineService.Plan`, apart from the wire: a request in, chains as pipelines or missing links out."""

from __future__ import annotations

from atomesh.core.times import to_duration
from atomesh.pipelines.assembly.assemble import assemble, to_yaml
from atomesh.pipelines.assembly.catalog import Catalog
from atomesh.pipelines.assembly.chains import Chain, Found, Stage, find
from atomesh.pipelines.assembly.query import DEFAULT_LENGTH, DEFAULT_LIMIT, Query
from atomesh.v1 import pipeline_pb2

_RIVALS = 10
"""Rivals in an answer; whoever wants more asks for the agents themselves."""


def query_of(request: pipeline_pb2.PlanRequest) -> Query:
    """The query that a request is.

    Raises:
        InvalidArgument: fewer than two ends or capabilities, or a number out of range.
    """
    return Query(
        start=str(getattr(request, "from")),  # a word that Python keeps for itself
        goal=request.to,
        via=tuple(request.via),
        max_length=request.max_length or DEFAULT_LENGTH,
        limit=request.limit or DEFAULT_LIMIT,
    )


def find_plans(catalog: Catalog, request: pipeline_pb2.PlanRequest) -> pipeline_pb2.PlanResponse:
    """The chains that a request asks for, best first.

    Raises:
        InvalidArgument: fewer than two ends or capabilities, or a number out of range.
        NotFound: a type or capability that no live agent knows.
    """
    return answer_of(find(catalog, query_of(request)), catalog)


def answer_of(found: Found, catalog: Catalog, *, name: str = "", fallbacks: bool = False) -> pipeline_pb2.PlanResponse:
    """What was found, as the message; `name` and `fallbacks` are those of `assemble`."""
    return pipeline_pb2.PlanResponse(
        chains=[_chain(chain, catalog, name, fallbacks=fallbacks) for chain in found.chains],
        missing=found.missing,
    )


def _chain(chain: Chain, catalog: Catalog, name: str, *, fallbacks: bool) -> pipeline_pb2.PlannedChain:
    spec = assemble(chain, catalog, name, fallbacks=fallbacks)
    return pipeline_pb2.PlannedChain(
        stages=[_stage(stage) for stage in chain.stages],
        expected=to_duration(chain.expected),
        success=chain.success,
        free_slots=chain.free_slots,
        pipeline=to_yaml(spec, chain),
    )


def _stage(stage: Stage) -> pipeline_pb2.PlannedStage:
    return pipeline_pb2.PlannedStage(
        id=stage.id,
        agent=stage.agent.name,
        capability=stage.capability,
        input_type=stage.agent.input_type,
        output_type=stage.agent.output_type,
        why=stage.why,
        rivals=[rival.name for rival in stage.rivals[:_RIVALS]],
    )
