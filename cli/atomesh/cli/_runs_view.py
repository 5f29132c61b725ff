"""Runs as data for programs and as tables for people."""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from rich.table import Table

from atomesh.cli._messages import to_data
from atomesh.cli._output import cell
from atomesh.cli._run_view import took
from atomesh.cli._tables import timestamp
from atomesh.core.times import from_duration, from_timestamp
from atomesh.pipelines import RunStatus, StageStatus
from atomesh.pipelines.machine import this_host
from atomesh.pipelines.owner import owner_gone
from atomesh.v1 import pipeline_pb2

_STYLES = {
    "success": "green",
    "partial": "yellow",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "interrupted": "magenta",
    "skipped": "yellow",
    "compensated": "yellow",
    "omitted": "dim",
    "pending": "dim",
}


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


def run_table(runs: list[pipeline_pb2.Run]) -> Table:
    """One row for each run."""
    table = _table(("run", "pipeline", "status", "started", "took", "failed stage"))
    for run in runs:
        status = standing(run)
        table.add_row(
            cell(run.id),
            cell(f"{run.pipeline} {run.version}", "bold"),
            cell(status, _STYLES.get(status, "")),
            cell(timestamp(from_timestamp(run.started_at)) or ""),
            cell(took(from_duration(run.duration)) if run.HasField("ended_at") else ""),
            cell(f"{run.error.stage}: {run.error.message}" if run.HasField("error") else ""),
        )
    return table


def stage_table(run: pipeline_pb2.Run) -> Table:
    """One row for each stage, and one below it for each attempt that failed."""
    table = _table(("stage", "status", "agent", "took", "waited", "ran", "attempts", "endpoint", "in / out bytes", ""))
    for stage in run.stages:
        name = StageStatus(stage.status).name.lower() if stage.status else "pending"
        marks = [stage.error, stage.reason, f"fell back to {stage.fell_back_to}" if stage.fell_back_to else ""]
        marks += ["circuit open"] if stage.circuit_open else []
        items = f" ({stage.items} items)" if stage.items else ""
        ran = stage.HasField("started_at")
        table.add_row(
            cell(f"{stage.stage}{items}", "bold"),
            cell(name, _STYLES.get(name, "")),
            cell(stage.agent),
            cell(took(from_duration(stage.duration)) if ran else ""),
            cell(took(from_duration(stage.queue_wait)) if ran else ""),
            cell(took(from_duration(stage.execution)) if ran else ""),
            cell(str(stage.attempt_count or "")),
            cell(stage.endpoint),
            cell(f"{stage.input_bytes} / {stage.output_bytes}" if ran else ""),
            cell("; ".join(mark for mark in marks if mark)),
        )
        for attempt in stage.attempts:
            if attempt.outcome != "OK":
                item = f" item {attempt.item}" if attempt.HasField("item") else ""
                spent = took(from_duration(attempt.duration))
                line = f"  attempt {attempt.number}{item}"
                table.add_row(
                    *(cell(text, "dim") for text in (line, attempt.outcome, attempt.agent, spent, "", "", "")),
                    *(cell(text, "dim") for text in (attempt.endpoint, "", attempt.error)),
                )
    return table


def run_lines(run: pipeline_pb2.Run) -> list[str]:
    """A run's head in a few lines."""
    lines = [f"run {run.id}: {run.pipeline} {run.version}, {standing(run)}"]
    started = timestamp(from_timestamp(run.started_at))
    ended = f", took {took(from_duration(run.duration))}" if run.HasField("ended_at") else f", by {run.owner}"
    lines.append(f"started {started}{ended}, input {run.input_bytes} bytes, output {run.output_bytes} bytes")
    if run.HasField("error"):
        spent = " (all attempts used)" if run.error.retries_exhausted else ""
        lines.append(f"failed at {run.error.stage or 'no stage'}: {run.error.type}: {run.error.message}{spent}")
    if run.HasField("summary"):
        s = run.summary
        shares = ", ".join(f"{name} {share:.0%}" for name, share in sorted(s.shares.items(), key=lambda i: -i[1]))
        lines.append(
            f"{s.stages} stages, {s.successes} went well, {s.failures} failed; a stage took "
            f"{took(from_duration(s.average))} in the mean, {took(from_duration(s.min))} to "
            f"{took(from_duration(s.max))}; {shares}"
        )
    return lines


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


def _table(columns: tuple[str, ...]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
