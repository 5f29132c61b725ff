"""One run while it goes on: its values, its record, and who is told of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from atomesh.core.context import Context
from atomesh.core.errors import AtomeshError
from atomesh.pipelines.events import Event, Listener
from atomesh.pipelines.metrics import PipelineSeries
from atomesh.pipelines.middleware import RunObserver
from atomesh.pipelines.plan import Plan, Step
from atomesh.pipelines.record import LogRecord, RunRecord, StageRecord
from atomesh.pipelines.tracing import RunTrace

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Run:
    """A run under way."""

    plan: Plan
    record: RunRecord
    context: Context
    deadline: float
    """Monotonic seconds."""
    series: PipelineSeries
    values: dict[str, Any]
    """The input, and the outputs of stages as they end."""
    stages: Mapping[str, StageRecord]
    key: str
    """What the idempotency keys of its calls begin with: its caller's own, or its id."""
    listener: Listener | None = None
    observers: Sequence[RunObserver] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    finished: list[Step] = field(default_factory=list)
    """Stages that have an output of their own, in the order in which they ended."""
    trace: RunTrace | None = None
    """Its spans, where it is traced."""
    task: asyncio.Task[Any] | None = None
    cancelled: bool = False
    """Somebody asked to cancel it, other than by cancelling its task."""
    resumed: bool = False
    """It began in another process."""
    repeat_interrupted: bool = False
    """It is resumed, and what was under way before may run twice."""

    def context_of(self, step: Step) -> Context:
        """What travels with the calls of a stage."""
        return self.context if self.trace is None else self.trace.context_of(step.id)

    def tell(self, event: Event) -> None:
        """Tells the one who follows the run; what goes wrong there is no fault of the run."""
        if self.listener is None:
            return
        try:
            self.listener(event)
        except Exception:
            log.exception("who follows run %s failed on %s", self.record.id, type(event).__name__)

    def observe(self, what: str, *about: Any) -> None:
        """Calls one method of every observer."""
        for observer in self.observers:
            try:
                getattr(observer, what)(self.record, *about)
            except Exception:
                log.exception("%s.%s failed on run %s", type(observer).__name__, what, self.record.id)

    def note(self, wall: float, stage: str, attempt: int, error: AtomeshError) -> None:
        """Adds an error to the run's log."""
        self.record.note(LogRecord(wall, stage, attempt, error.reason, str(error)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that went well, all or in part."""

    output: Message
    record: RunRecord
