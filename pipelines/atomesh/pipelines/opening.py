"""A run as it begins: its input checked, its deadline, its context, and an empty record."""

from __future__ import annotations

import re
from dataclasses import replace

from google.protobuf.message import Message

from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.core.context import Context, current_scope, new_request_id
from atomesh.pipelines.metrics import PipelineMetrics
from atomesh.pipelines.plan import Plan
from atomesh.pipelines.providers import travelling
from atomesh.pipelines.record import RunRecord, StageRecord
from atomesh.pipelines.running import Run

_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # as pipeline.proto says
_NEVER = 1e9  # seconds
_UNDOING = 0.2
"""Part of a caller's time that is kept for undoing. A tenth of half a minute is little
for a call or two; with two fifths of it, stages fail that would have gone well."""


def is_run_id(text: str) -> bool:
    """Whether a run may be called so."""
    return _RUN_ID.fullmatch(text) is not None


def open_run(
    plan: Plan,
    input: Message,
    *,
    run_id: str,
    timeout: float | None,
    context: Context | None,
    clock: Clock,
    metrics: PipelineMetrics,
) -> Run:
    """A run that has not begun; without an id it gets one. `timeout` is in seconds.

    Inside an execution its time ends with that, and without a context it goes on with the execution's.

    Raises:
        WrongType: the input is not what the pipeline takes.
        InvalidArgument: the timeout or the id is none, or a value of the plan's context cannot travel.
    """
    if not isinstance(input, plan.contract.input):
        input = _converted(plan, input)
    if timeout is not None and not 0 < timeout < _NEVER:  # nor is NaN
        raise errors.InvalidArgument(f"timeout {timeout!r} s is not a number of seconds above 0 and below 1e9")
    run_id = run_id or new_request_id()
    if not is_run_id(run_id):
        raise errors.InvalidArgument(f"run id {run_id!r:.80} is not 1 to 64 of A-Z, a-z, 0-9, _ and -")
    now, wall, scope = clock.now(), clock.wall(), current_scope()
    deadline = now + (plan.spec.timeout if timeout is None else timeout)
    if scope is not None:
        # An execution is cut off at its deadline; what is to be undone is undone before.
        cut_off = scope.deadline - _kept_for_undoing(plan, scope.deadline - now)
        deadline = cut_off if timeout is None else min(deadline, cut_off)
        context = context or scope.child()
    context = (context or Context.begun(wall)).with_request_id()
    key = context.idempotency_key or run_id
    if context.idempotency_key:  # which names the run; each of its calls is another piece of work
        context = replace(context, idempotency_key="")
    if plan.spec.context:
        context = replace(context, metadata={**context.metadata, **travelling(plan.spec.context)})
    record, stages = _record(plan, run_id, wall)
    record.input_bytes = input.ByteSize()
    record.request_id, record.user_id = context.request_id, context.user_id
    return Run(plan, record, context, deadline, metrics.of(plan.name), {"input": input}, stages, key)


def _record(plan: Plan, run_id: str, wall: float) -> tuple[RunRecord, dict[str, StageRecord]]:
    """A run's empty record, its stages in the order of the file, and the same stages by id."""
    records = [StageRecord(step.id, step.target.agent, step.spec.name) for step in plan.steps]
    stages = {record.stage: record for record in records}
    if not plan.sequential:
        records.sort(key=lambda record: plan.order[record.stage])
    record = RunRecord(run_id, plan.name, plan.spec.version, wall, records)
    record.durable, record.types = plan.spec.durable, plan.types
    return record, stages


def _kept_for_undoing(plan: Plan, left: float) -> float:
    """Seconds of those that are left in which no stage may run any more, where a failure is to be undone."""
    if not any(step.spec.on_error == "compensate" for step in plan.steps):
        return 0.0
    return min(sum(step.undo.timeout for step in plan.steps if step.undo is not None), left * _UNDOING)


def _converted(plan: Plan, given: Message) -> Message:
    """An input in the plan's own class of its type.

    Raises:
        WrongType: it is of another type.
    """
    wanted = plan.contract.input_type
    name = given.DESCRIPTOR.full_name if isinstance(given, Message) else f"a {type(given).__name__}"
    if name != wanted:
        raise errors.WrongType(f"pipeline {plan.name} takes {wanted}, not {name}")
    return plan.contract.input.FromString(given.SerializeToString())
