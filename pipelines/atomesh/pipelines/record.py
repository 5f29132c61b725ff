"""A run as it is kept: what each stage and attempt did, when, and how it ended.

Plain values that the runner fills in while it works; `to_proto` is called by
whoever writes or shows them, off the runner's path. Times are Unix seconds by
the runner's clock, durations are seconds by its monotonic one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from google.protobuf import any_pb2
from google.protobuf.message import Message

from atomesh.core.contract import TYPE_URL_PREFIX
from atomesh.core.times import to_duration, to_timestamp
from atomesh.v1 import pipeline_pb2

MAX_LOG = 1000
"""Entries of a run's error log. A stage that maps over a million bad items would
else keep a million lines; half hides how a long run went, twice nobody reads."""

MAX_ITEM_ATTEMPTS = 100
"""Failed attempts that a stage which maps keeps one by one."""


class RunStatus(IntEnum):
    """How a run stands; the numbers are those of the proto, which says what each means."""

    PENDING = 1
    RUNNING = 2
    SUCCESS = 3
    FAILED = 4
    CANCELLED = 5
    PARTIAL = 6

    @property
    def ended(self) -> bool:
        """Whether nothing more happens."""
        return self > RunStatus.RUNNING


class StageStatus(IntEnum):
    """How a stage stands; the numbers are those of the proto, which says what each means."""

    PENDING = 1
    RUNNING = 2
    SUCCESS = 3
    FAILED = 4
    CANCELLED = 5
    SKIPPED = 6
    OMITTED = 7
    COMPENSATED = 8


@dataclass(slots=True)
class AttemptRecord:
    """One try at a stage, or at one item of it."""

    number: int
    agent: str
    started_at: float
    endpoint: str = ""
    seconds: float = 0.0
    queue_wait: float = 0.0
    outcome: str = ""
    error: str = ""
    item: int | None = None

    def to_proto(self) -> pipeline_pb2.StageAttempt:
        """The message that shows it."""
        return pipeline_pb2.StageAttempt(
            number=self.number,
            agent=self.agent,
            endpoint=self.endpoint,
            started_at=to_timestamp(self.started_at),
            duration=to_duration(self.seconds),
            queue_wait=to_duration(self.queue_wait),
            outcome=self.outcome,
            error=self.error,
            item=self.item,
        )


@dataclass(slots=True)
class StageRecord:
    """One stage of a run."""

    stage: str
    agent: str
    name: str = ""
    status: StageStatus = StageStatus.PENDING
    started_at: float = 0.0
    seconds: float = 0.0
    queue_wait: float = 0.0
    endpoint: str = ""
    input_bytes: int = 0
    output_bytes: int = 0
    outputs: Sequence[Message] = ()
    """As they came; held until the run is written."""
    attempts: list[AttemptRecord] = field(default_factory=list)
    attempt_count: int = 0
    error: str = ""
    error_type: str = ""
    retries_exhausted: bool = False
    circuit_open: bool = False
    fell_back_to: str = ""
    reason: str = ""
    items: int = 0
    items_skipped: int = 0

    @property
    def ran(self) -> bool:
        """Whether it was begun."""
        return self.started_at > 0

    @property
    def failed(self) -> bool:
        """Whether its own work failed, whatever went on in its place."""
        return self.status in (StageStatus.FAILED, StageStatus.SKIPPED)

    def to_proto(self, max_output: int) -> pipeline_pb2.StageRun:
        """The message that shows it; outputs of more than `max_output` bytes together are left out."""
        proto = pipeline_pb2.StageRun(
            stage=self.stage,
            name=self.name,
            agent=self.agent,
            status=pipeline_pb2.StageStatus.ValueType(self.status),
            started_at=to_timestamp(self.started_at) if self.ran else None,
            duration=to_duration(self.seconds),
            queue_wait=to_duration(self.queue_wait),
            endpoint=self.endpoint,
            input_bytes=self.input_bytes,
            output_bytes=self.output_bytes,
            attempts=[attempt.to_proto() for attempt in self.attempts],
            error=self.error,
            error_type=self.error_type,
            retries_exhausted=self.retries_exhausted,
            circuit_open=self.circuit_open,
            fell_back_to=self.fell_back_to,
            reason=self.reason,
            items=self.items,
            items_skipped=self.items_skipped,
            attempt_count=self.attempt_count,
        )
        if self.output_bytes <= max_output:
            proto.output.extend(packed(output) for output in self.outputs)
        return proto


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One thing that went wrong in a run."""

    time: float
    stage: str
    attempt: int
    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed."""

    stage: str
    type: str
    message: str
    retries_exhausted: bool = False


@dataclass(frozen=True, slots=True)
class RunTypes:
    """The types of a plan's messages: a serialized FileDescriptorSet, and its SHA-256 in hex."""

    hash: str
    descriptor_set: bytes


@dataclass(slots=True)
class RunRecord:
    """One run of a pipeline, as far as it has come."""

    id: str
    pipeline: str
    version: str
    started_at: float
    stages: list[StageRecord]
    status: RunStatus = RunStatus.RUNNING
    ended_at: float = 0.0
    seconds: float = 0.0
    failure: Failure | None = None
    log: list[LogRecord] = field(default_factory=list)
    input_bytes: int = 0
    output: Message | None = None
    output_bytes: int = 0
    owner: str = ""
    durable: bool = False
    request_id: str = ""
    user_id: str = ""
    types: RunTypes | None = None
    """What it takes to read the outputs; kept once, however many runs have it."""

    def note(self, entry: LogRecord) -> None:
        """Adds to the error log, up to its limit."""
        if len(self.log) < MAX_LOG:
            self.log.append(entry)

    def to_proto(self, max_output: int = 0) -> pipeline_pb2.Run:
        """The message that shows it; outputs of more than `max_output` bytes are left out, 0 leaves out all."""
        proto = pipeline_pb2.Run(
            id=self.id,
            pipeline=self.pipeline,
            version=self.version,
            status=pipeline_pb2.RunStatus.ValueType(self.status),
            started_at=to_timestamp(self.started_at),
            ended_at=to_timestamp(self.ended_at) if self.ended_at else None,
            duration=to_duration(self.seconds),
            stages=[stage.to_proto(max_output) for stage in self.stages],
            error_log=[
                pipeline_pb2.LogEntry(
                    time=to_timestamp(e.time), stage=e.stage, attempt=e.attempt, type=e.type, message=e.message
                )
                for e in self.log
            ],
            input_bytes=self.input_bytes,
            output_bytes=self.output_bytes,
            summary=summarize(self.stages) if self.status.ended else None,
            owner=self.owner,
            durable=self.durable,
            request_id=self.request_id,
            user_id=self.user_id,
            descriptor_hash=self.types.hash if self.types is not None else "",
        )
        if self.failure is not None:
            proto.error.CopyFrom(
                pipeline_pb2.RunError(
                    stage=self.failure.stage,
                    type=self.failure.type,
                    message=self.failure.message,
                    retries_exhausted=self.failure.retries_exhausted,
                )
            )
        if self.output is not None and self.output_bytes <= max_output:
            proto.output.CopyFrom(packed(self.output))
        return proto


def summarize(stages: Sequence[StageRecord]) -> pipeline_pb2.RunSummary:
    """The figures of a run that has ended."""
    ran = [stage.seconds for stage in stages if stage.ran]
    total = sum(ran)
    return pipeline_pb2.RunSummary(
        stages=len(stages),
        successes=sum(stage.status in (StageStatus.SUCCESS, StageStatus.COMPENSATED) for stage in stages),
        failures=sum(stage.failed for stage in stages),
        average=to_duration(total / len(ran) if ran else 0.0),
        min=to_duration(min(ran, default=0.0)),
        max=to_duration(max(ran, default=0.0)),
        total=to_duration(total),
        shares={stage.stage: stage.seconds / total for stage in stages if stage.ran and total > 0},
    )


def packed(message: Message) -> any_pb2.Any:
    """The message in an Any."""
    return any_pb2.Any(
        type_url=TYPE_URL_PREFIX + message.DESCRIPTOR.full_name, value=message.SerializePartialToString()
    )
