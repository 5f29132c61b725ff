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
from atomesh.core.times import set_duration, set_timestamp
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
        proto = pipeline_pb2.StageAttempt()
        self.write(proto)
        return proto

    def write(self, proto: pipeline_pb2.StageAttempt) -> None:
        """Fills an empty message in place, which costs a third of making one and copying it into another."""
        proto.number, proto.agent, proto.endpoint = self.number, self.agent, self.endpoint
        proto.outcome, proto.error = self.outcome, self.error
        set_timestamp(proto.started_at, self.started_at)
        set_duration(proto.duration, self.seconds)
        if self.queue_wait:
            set_duration(proto.queue_wait, self.queue_wait)
        if self.item is not None:
            proto.item = self.item


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
    execution: float = 0.0
    """Seconds that agents ran for it, by their own clocks."""
    endpoint: str = ""
    input_bytes: int = 0
    output_bytes: int = 0
    outputs: Sequence[Message] = field(default=(), repr=False)
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
        proto = pipeline_pb2.StageRun()
        self.write(proto, max_output)
        return proto

    def write(self, proto: pipeline_pb2.StageRun, max_output: int) -> None:
        """Fills an empty message in place."""
        proto.stage, proto.name, proto.agent, proto.endpoint = self.stage, self.name, self.agent, self.endpoint
        proto.status = pipeline_pb2.StageStatus.ValueType(self.status)
        proto.input_bytes, proto.output_bytes = self.input_bytes, self.output_bytes
        proto.attempt_count = self.attempt_count
        if self.ran:
            set_timestamp(proto.started_at, self.started_at)
            set_duration(proto.duration, self.seconds)
        if self.queue_wait:
            set_duration(proto.queue_wait, self.queue_wait)
        if self.execution:
            set_duration(proto.execution, self.execution)
        for attempt in self.attempts:
            attempt.write(proto.attempts.add())
        if self.error_type or self.reason or self.fell_back_to or self.circuit_open:
            self._write_trouble(proto)
        if self.items:
            proto.items, proto.items_skipped = self.items, self.items_skipped
        if self.output_bytes <= max_output:
            for output in self.outputs:
                pack_partial_into(proto.output.add(), output)

    def _write_trouble(self, proto: pipeline_pb2.StageRun) -> None:
        proto.error, proto.error_type, proto.reason = self.error, self.error_type, self.reason
        proto.retries_exhausted, proto.circuit_open = self.retries_exhausted, self.circuit_open
        proto.fell_back_to = self.fell_back_to


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One thing that went wrong in a run."""

    time: float
    stage: str
    attempt: int
    type: str
    message: str

    def write(self, proto: pipeline_pb2.LogEntry) -> None:
        """Fills an empty message in place."""
        set_timestamp(proto.time, self.time)
        proto.stage, proto.attempt, proto.type, proto.message = self.stage, self.attempt, self.type, self.message


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
    output: Message | None = field(default=None, repr=False)
    output_bytes: int = 0
    owner: str = ""
    durable: bool = False
    request_id: str = ""
    user_id: str = ""
    types: RunTypes | None = field(default=None, repr=False)
    """What it takes to read the outputs; kept once, however many runs have it."""

    def note(self, entry: LogRecord) -> None:
        """Adds to the error log, up to its limit."""
        if len(self.log) < MAX_LOG:
            self.log.append(entry)

    def to_proto(self, max_output: int = 0) -> pipeline_pb2.Run:
        """The message that shows it; outputs of more than `max_output` bytes are left out, 0 leaves out all."""
        proto = pipeline_pb2.Run()
        proto.id, proto.pipeline, proto.version, proto.owner = self.id, self.pipeline, self.version, self.owner
        proto.status = pipeline_pb2.RunStatus.ValueType(self.status)
        proto.input_bytes, proto.output_bytes, proto.durable = self.input_bytes, self.output_bytes, self.durable
        proto.request_id, proto.user_id = self.request_id, self.user_id
        proto.descriptor_hash = self.types.hash if self.types is not None else ""
        set_timestamp(proto.started_at, self.started_at)
        set_duration(proto.duration, self.seconds)
        if self.ended_at:
            set_timestamp(proto.ended_at, self.ended_at)
        for stage in self.stages:
            stage.write(proto.stages.add(), max_output)
        for entry in self.log:
            entry.write(proto.error_log.add())
        if self.status.ended:
            summarize(self.stages, proto.summary)
        if self.failure is not None:
            failure, error = self.failure, proto.error
            error.stage, error.type, error.message = failure.stage, failure.type, failure.message
            error.retries_exhausted = failure.retries_exhausted
        if self.output is not None and self.output_bytes <= max_output:
            pack_partial_into(proto.output, self.output)
        return proto


def summarize(stages: Sequence[StageRecord], summary: pipeline_pb2.RunSummary) -> None:
    """Fills in the figures of a run that has ended."""
    ran = [stage.seconds for stage in stages if stage.ran]
    total = sum(ran)
    summary.stages = len(stages)
    summary.successes = sum(stage.status in (StageStatus.SUCCESS, StageStatus.COMPENSATED) for stage in stages)
    summary.failures = sum(stage.failed for stage in stages)
    set_duration(summary.average, total / len(ran) if ran else 0.0)
    set_duration(summary.min, min(ran, default=0.0))
    set_duration(summary.max, max(ran, default=0.0))
    set_duration(summary.total, total)
    if total > 0:
        for stage in stages:
            if stage.ran:
                summary.shares[stage.stage] = stage.seconds / total


def packed(message: Message) -> any_pb2.Any:
    """The message in an Any."""
    found = any_pb2.Any()
    pack_partial_into(found, message)
    return found


def pack_partial_into(into: any_pb2.Any, message: Message) -> None:
    """Puts the message into an Any in place; a required field that it lacks is no reason not to show the rest."""
    into.type_url = TYPE_URL_PREFIX + message.DESCRIPTOR.full_name
    into.value = message.SerializePartialToString()
