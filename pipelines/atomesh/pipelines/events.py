"""What a run tells while it goes on. Each event has the run's own records, as they are then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import Message

from atomesh.core.times import to_duration, to_timestamp
from atomesh.pipelines.record import AttemptRecord, RunRecord, StageRecord
from atomesh.v1 import pipeline_pb2

MAX_RUN = 3 * 1024 * 1024 + 512 * 1024
"""Bytes of a run in one message. gRPC takes 4 MiB, and the descriptors of its
types are in the message too; half would leave out outputs that fit."""


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run began."""

    run: RunRecord


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage began."""

    run: RunRecord
    stage: StageRecord


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt failed; `retry_in` is seconds until the next one, None where there is none."""

    run: RunRecord
    stage: StageRecord
    attempt: AttemptRecord
    retry_in: float | None


@dataclass(frozen=True, slots=True)
class StageProgress:
    """So many items of a stage that maps have ended."""

    run: RunRecord
    stage: StageRecord
    done: int


@dataclass(frozen=True, slots=True)
class StageEnded:
    """A stage ended, however; `output` is what went on from it."""

    run: RunRecord
    stage: StageRecord
    output: Message | list[Message] | None


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run ended; nothing follows."""

    run: RunRecord


Event: TypeAlias = RunStarted | StageStarted | AttemptFailed | StageProgress | StageEnded | RunEnded
Listener: TypeAlias = Callable[[Event], None]


def to_proto(event: Event, wall: float, max_output: int, *, stage_outputs: bool) -> pipeline_pb2.RunEvent:
    """The message that tells it; outputs above `max_output` bytes are left out."""
    proto = pipeline_pb2.RunEvent(run_id=event.run.id, time=to_timestamp(wall))
    if isinstance(event, RunStarted):
        proto.run_started.pipeline = event.run.pipeline
        proto.run_started.stages.extend(stage.stage for stage in event.run.stages)
    elif isinstance(event, StageStarted):
        proto.stage_started.stage, proto.stage_started.agent = event.stage.stage, event.stage.agent
        proto.stage_started.items = event.stage.items
    elif isinstance(event, AttemptFailed):
        proto.attempt_failed.stage = event.stage.stage
        proto.attempt_failed.attempt.CopyFrom(event.attempt.to_proto())
        if event.retry_in is not None:
            proto.attempt_failed.retry_in.CopyFrom(to_duration(event.retry_in))
    elif isinstance(event, StageProgress):
        progress = proto.stage_progress
        progress.stage, progress.done, progress.items = event.stage.stage, event.done, event.stage.items
    elif isinstance(event, StageEnded):
        proto.stage_ended.CopyFrom(event.stage.to_proto(max_output if stage_outputs else -1))
    else:
        proto.run_ended.CopyFrom(event.run.to_proto(max_output))
        if not stage_outputs:
            for stage in proto.run_ended.stages:
                del stage.output[:]
        fit(proto.run_ended)
    return proto


def fit(run: pipeline_pb2.Run) -> None:
    """Takes out of a run what makes it larger than MAX_RUN: outputs of stages, last ones first, then the log's end.

    Its final output and its stages stay, with the sizes of what was taken out.
    """
    over = run.ByteSize() - MAX_RUN
    for stage in reversed(run.stages if over > 0 else ()):
        if stage.output and over > 0:
            before = stage.ByteSize()
            del stage.output[:]
            over -= before - stage.ByteSize()
    while over > 0 and run.error_log:
        over -= run.error_log.pop().ByteSize()
