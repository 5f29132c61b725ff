"""A pipeline as an agent: with a contract, served, registered, balanced, validated and measured as any other.

Called with Execute it gives its output; called as a stream, each event of its
run as a chunk before it. The reply's notes and the details of its error carry
the run's id, the stage that failed and how each stage ended.
"""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from google.protobuf.message import Message

from atomesh.agents import Agent, AgentFailed, ExecutionContext, StreamingAgent
from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.pipelines.errors import RunCancelled, RunFailed, trace
from atomesh.pipelines.events import RunEnded, to_proto
from atomesh.pipelines.plan import Plan
from atomesh.pipelines.record import RunRecord, RunStatus
from atomesh.pipelines.runner import Runner
from atomesh.v1 import pipeline_pb2

RUN_ID, STATUS, STAGES = "run_id", "run_status", "run_stages"
"""Keys of the notes in a reply."""
_LONGEST = 1024  # bytes of a note, as agent.proto says
RUN_CANCELLED = "RUN_CANCELLED"
"""The reason of the error that a caller gets whose run somebody else cancelled."""
PIPELINE_LABEL = "atomesh-pipeline"
"""The label of endpoints that are pipelines; its value is the pipeline's version."""


def pipeline_agent(plan: Plan, runner: Callable[[], Runner], clock: Clock = SYSTEM_CLOCK) -> Agent[Any, Any]:
    """An agent whose executions are runs of the plan; `runner` gives the runner once there is one."""

    async def execute(self: Any, input: Message, context: ExecutionContext) -> Message:
        try:
            outcome = await runner().run(plan, input)
        except RunFailed as error:
            _note(context, error.run)
            raise
        except RunCancelled as error:
            _note(context, error.run)
            raise _cancelled(error.run) from error
        _note(context, outcome.record)
        return _as(outcome.output, plan.contract.output)

    async def stream(self: Any, input: Message, context: ExecutionContext) -> AsyncIterator[Any]:
        ended: RunRecord | None = None
        async with aclosing(runner().stream(plan, input)) as events:
            async for event in events:
                ended = event.run if isinstance(event, RunEnded) else None
                yield to_proto(event, clock.wall(), -1, stage_outputs=False)
        if ended is None:
            raise RuntimeError("a run ended without a word")
        _note(context, ended)
        if ended.status is RunStatus.CANCELLED:
            raise _cancelled(ended)
        if ended.output is None:
            raise RunFailed(ended)
        yield ended.output

    spec, (taken, given) = plan.spec, (plan.contract.input, plan.contract.output)
    attributes = {
        "__doc__": spec.description or f"The pipeline {spec.name}.",
        "__module__": __name__,
        "name": spec.name,
        "version": spec.version,
        "description": spec.description,
        "capabilities": spec.capabilities,
        "slots": spec.slots,
        "idempotent": plan.idempotent,
        "labels": {PIPELINE_LABEL: spec.version},
        "execute": execute,
        "stream": stream,
    }
    base = StreamingAgent[taken, pipeline_pb2.RunEvent, given]  # type: ignore[valid-type] # classes made from descriptors
    made = types.new_class("PipelineAgent", (base,), {}, lambda body: body.update(attributes))
    agent: Agent[Any, Any] = made()
    return agent


def _cancelled(run: RunRecord) -> AgentFailed:
    """The end of a run that somebody cancelled, to its caller, who did not: no fault of the endpoint's."""
    return AgentFailed(f"run {run.id} of {run.pipeline} was cancelled", reason=RUN_CANCELLED, details=trace(run))


def _note(context: ExecutionContext, run: RunRecord) -> None:
    stages = "; ".join(trace(run)["stages"]).encode()[:_LONGEST].decode("utf-8", "ignore")
    for key, value in ((RUN_ID, run.id), (STATUS, run.status.name), (STAGES, stages)):
        context.note(key, value)


def _as(message: Message, wanted: type[Message]) -> Message:
    return message if isinstance(message, wanted) else wanted.FromString(message.SerializeToString())
