"""Runs as data for programs."""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from atomesh.cli._messages import to_data
from atomesh.cli._tables import timestamp
from atomesh.core.times import from_duration, from_timestamp
from atomesh.pipelines import RunStatus, StageStatus
from atomesh.pipelines.machine import this_host
from atomesh.pipelines.owner import owner_gone
from atomesh.v1 import pipeline_pb2


def standing(run: pipeline_pb2.Run) -> str:
    """How a run stands, in a word; one whose process is gone was interrupted."""
    status = RunStatus(run.status) if run.status else RunStatus.PENDING
    if status is RunStatus.RUNNING and owner_gone(run.owner, this_host()):
        return "interrupted"
    return status.name.lower()


def run_data(run: pipeline_pb2.Run, descriptor_set: bytes = b"") -> dict[str, Any]:
    """All of a run; outputs as JSON where their types are kept, else as base64."""
    reader = _Reader(descriptor_set)
    return {
        "id": run.id,
        "pipeline": run.pipeline,
        "version": run.version,
        "status": standing(run),
        "started_at": timestamp(from_timestamp(run.started_at)),
        "ended_at": timestamp(from_timestamp(run.ended_at)) if run.HasField("ended_at") else None,
        "seconds": from_duration(run.duration),
        "durable": run.durable,
        "owner": run.owner,
        "request_id": run.request_id,
        "user_id": run.user_id,
        "input_bytes": run.input_bytes,
        "output_bytes": run.output_bytes,
        "output": reader.read(run.output) if run.HasField("output") else None,
        "error": _error(run) if run.HasField("error") else None,
        "stages": [_stage(stage, reader) for stage in run.stages],
        "error_log": [
            {"time": timestamp(from_timestamp(e.time)), "stage": e.stage, "attempt": e.attempt}
            | {"type": e.type, "message": e.message}
            for e in run.error_log
        ],
        "summary": _summary(run.summary) if run.HasField("summary") else None,
    }


class _Reader:
    """Reads outputs by the types that were kept with them."""

    def __init__(self, descriptor_set: bytes) -> None:
        self._pool: Any = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file:
            self._pool.Add(file)

    def read(self, packed: any_pb2.Any) -> Any:
        """JSON data; type and base64 where the type is not known."""
        name = packed.type_url.rpartition("/")[2]
        try:
            kind = message_factory.GetMessageClass(self._pool.FindMessageTypeByName(name))
            return to_data(kind.FromString(packed.value), whole=True)
        except (KeyError, DecodeError):
            return {"type": name, "base64": base64.b64encode(packed.value).decode("ascii")}


def _stage(stage: pipeline_pb2.StageRun, reader: _Reader) -> dict[str, Any]:
    outputs = [reader.read(output) for output in stage.output]
    return {
        "stage": stage.stage,
        "name": stage.name,
        "agent": stage.agent,
        "status": StageStatus(stage.status).name.lower() if stage.status else "pending",
        "started_at": timestamp(from_timestamp(stage.started_at)) if stage.HasField("started_at") else None,
        "seconds": from_duration(stage.duration),
        "queue_wait_seconds": from_duration(stage.queue_wait),
        "execution_seconds": from_duration(stage.execution),
        "endpoint": stage.endpoint,
        "input_bytes": stage.input_bytes,
        "output_bytes": stage.output_bytes,
        "output": outputs if stage.items else (outputs[0] if outputs else None),
        "attempt_count": stage.attempt_count,
        "attempts": [_attempt(attempt) for attempt in stage.attempts],
        "error": stage.error,
        "error_type": stage.error_type,
        "retries_exhausted": stage.retries_exhausted,
        "circuit_open": stage.circuit_open,
        "fell_back_to": stage.fell_back_to,
        "reason": stage.reason,
        "items": stage.items,
        "items_skipped": stage.items_skipped,
    }


def _attempt(attempt: pipeline_pb2.StageAttempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "agent": attempt.agent,
        "endpoint": attempt.endpoint,
        "started_at": timestamp(from_timestamp(attempt.started_at)),
        "seconds": from_duration(attempt.duration),
        "queue_wait_seconds": from_duration(attempt.queue_wait),
        "outcome": attempt.outcome,
        "error": attempt.error,
        "item": attempt.item if attempt.HasField("item") else None,
    }


def _error(run: pipeline_pb2.Run) -> dict[str, Any]:
    error = run.error
    about = {"stage": error.stage, "type": error.type, "message": error.message}
    return {**about, "retries_exhausted": error.retries_exhausted}


def _summary(summary: pipeline_pb2.RunSummary) -> dict[str, Any]:
    seconds = {name: from_duration(getattr(summary, name)) for name in ("average", "min", "max", "total")}
    counts = {"stages": summary.stages, "successes": summary.successes, "failures": summary.failures}
    return {**counts, **{f"{name}_seconds": value for name, value in seconds.items()}, "shares": dict(summary.shares)}
