"""Finds the agents of a pipeline in the mesh, with their contracts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from atomesh.balancer import Client
from atomesh.core import errors
from atomesh.core.errors import AtomeshError
from atomesh.pipelines.model import PipelineSpec
from atomesh.pipelines.plan import Bound, Plan, Want, wants
from atomesh.pipelines.planner import make_plan
from atomesh.pipelines.reading import Source, read_pipeline

Choose: TypeAlias = Callable[[str], Awaitable[tuple[str, str]]]
"""The best agent for a capability, and why it and no other; raises NotFound where none has it."""


async def plan_pipeline(
    mesh: Client, pipeline: PipelineSpec | str, source: Source | None = None, *, choose: Choose | None = None
) -> Plan:
    """The plan of a pipeline, or of its text, with the agents that are registered now.

    Raises:
        PipelineInvalid: anything in it does not fit.
        UnknownAgent: an agent that it names is not registered.
        NoEndpoint: none of the versions that it asks for is.
        RegistryUnavailable: nobody can tell.
    """
    if isinstance(pipeline, str):
        pipeline, source = read_pipeline(pipeline)
    return make_plan(pipeline, await bind(mesh, pipeline, source, choose=choose), source)


async def bind(
    mesh: Client, pipeline: PipelineSpec, source: Source | None = None, *, choose: Choose | None = None
) -> dict[str, Bound]:
    """The agents of a pipeline that are registered now, by the keys of `wants`. Raises as `plan_pipeline`."""
    wanted = wants(pipeline)
    found = await asyncio.gather(*(_bound(mesh, want, choose) for want in wanted), return_exceptions=True)
    for want, result in zip(wanted, found, strict=True):
        if isinstance(result, AtomeshError):
            raise _placed(result, want, source)
        if isinstance(result, BaseException):
            raise result
    return {want.key: result for want, result in zip(wanted, found, strict=True) if isinstance(result, Bound)}


async def _bound(mesh: Client, want: Want, choose: Choose | None) -> Bound:
    agent, why = want.agent, ""
    if want.capability:
        if choose is None:
            raise errors.InvalidArgument(
                f"capability {want.capability} is chosen by what a registry knows, and this client has none; name an agent"
            )
        agent, why = await choose(want.capability)
    await mesh.meet(agent, want.version)
    contract = await mesh.describe(agent)
    endpoints = mesh.endpoints(agent, want.version)
    idempotent = bool(endpoints) and all(endpoint.idempotent for endpoint in endpoints)
    return Bound(agent, contract, want.version, idempotent, why)


def _placed(error: AtomeshError, want: Want, source: Source | None) -> AtomeshError:
    """The error with the stage, and the line where it names the agent."""
    stage, _, part = want.key.partition(".")
    key = {"fallback": "on_error", "undo": "undo"}.get(part, "capability" if want.capability else "agent")
    problem = (source or Source()).problem(("stages", stage, key), error.message)
    error.message = f"{source.name}: {problem}" if source is not None and source.name else str(problem)
    error.args = (error.message,)
    return error
