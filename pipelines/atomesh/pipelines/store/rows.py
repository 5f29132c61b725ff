"""A run as one row: what is searched by as columns, the rest as protobuf.

`head` is the run as lists show it, `whole` all of it. A run that is under way
has a head alone, made of what does not change: its record is the runner's
until it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from atomesh.core.times import to_timestamp
from atomesh.pipelines.record import RunRecord, RunStatus, RunTypes
from atomesh.v1 import pipeline_pb2


@dataclass(frozen=True, slots=True)
class Row:
    """One run; its fields, but for `types`, are the columns."""

    id: str
    pipeline: str
    status: int
    started_at: float
    ended_at: float | None
    owner: str
    durable: bool
    head: bytes
    whole: bytes | None = None
    types: RunTypes | None = None
    """Kept in a table of their own, once for all runs that have them."""

    @property
    def size(self) -> int:
        """Bytes that it holds, roughly."""
        return len(self.head) + len(self.whole or b"")

    def values(self) -> dict[str, Any]:
        """By column."""
        return {
            "id": self.id,
            "pipeline": self.pipeline,
            "status": self.status,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "owner": self.owner,
            "durable": self.durable,
            "head": self.head,
            "whole": self.whole,
        }


def begun(run: RunRecord) -> Row:
    """The row of a run that goes on; reads nothing that its runner may still change."""
    head = pipeline_pb2.Run(
        id=run.id,
        pipeline=run.pipeline,
        version=run.version,
        status=pipeline_pb2.RUN_STATUS_RUNNING,
        started_at=to_timestamp(run.started_at),
        input_bytes=run.input_bytes,
        owner=run.owner,
        durable=run.durable,
        request_id=run.request_id,
        user_id=run.user_id,
    )
    return Row(
        id=run.id,
        pipeline=run.pipeline,
        status=RunStatus.RUNNING,
        started_at=run.started_at,
        ended_at=None,
        owner=run.owner,
        durable=run.durable,
        head=head.SerializeToString(),
    )


def ended(run: RunRecord, max_output: int) -> Row:
    """The row of a run that has ended; outputs above `max_output` bytes are left out, 0 leaves out all."""
    proto = shown(run, max_output)
    whole = proto.SerializeToString()
    return Row(
        id=run.id,
        pipeline=run.pipeline,
        status=run.status,
        started_at=run.started_at,
        ended_at=run.ended_at or run.started_at,
        owner=run.owner,
        durable=run.durable,
        head=listed(proto).SerializeToString(),
        whole=whole,
        types=run.types if max_output > 0 else None,
    )


def listed(run: pipeline_pb2.Run) -> pipeline_pb2.Run:
    """The same message as lists show it, made smaller in place."""
    for field in ("stages", "error_log", "output"):
        run.ClearField(field)
    return run


def shown(run: RunRecord, max_output: int) -> pipeline_pb2.Run:
    """All of a run; outputs above `max_output` bytes are left out, 0 leaves out all, empty ones too."""
    proto = run.to_proto(max_output)
    if max_output <= 0:
        proto.ClearField("output")
        for stage in proto.stages:
            stage.ClearField("output")
    return proto
