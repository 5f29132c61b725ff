"""A run's spans: the run, its stages in it, and in those the calls that they make.

All are INTERNAL: what leaves the process are the attempts of calls. A run that
is resumed in another process is a span of its own, beside the one that broke off.
"""

from __future__ import annotations

from atomesh.core import tracing
from atomesh.core.context import Context
from atomesh.core.errors import Cancelled
from atomesh.core.tracing import Span, SpanKind, Tracer
from atomesh.pipelines.errors import Interrupted
from atomesh.pipelines.record import RunRecord, StageRecord, StageStatus


class RunTrace:
    """The spans of one run."""

    def __init__(self, tracer: Tracer, run: RunRecord, context: Context) -> None:
        """Begins the run's own, under what the context names."""
        about = {
            tracing.PIPELINE: run.pipeline,
            tracing.VERSION: run.version,
            tracing.RUN_ID: run.id,
            tracing.REQUEST_ID: context.request_id,
        }
        self._run = run
        self._span = tracer.begin(f"run {run.pipeline}", SpanKind.INTERNAL, context.traceparent, about)
        self._stages: dict[str, Span] = {}
        self.context = context.traced(self._span.traceparent)
        """What travels with the run."""

    def begin(self, stage: StageRecord) -> None:
        """A stage has its turn."""
        about = {
            tracing.PIPELINE: self._run.pipeline,
            tracing.RUN_ID: self._run.id,
            tracing.STAGE: stage.stage,
            tracing.AGENT: stage.agent,
        }
        self._stages[stage.stage] = self._span.child(f"stage {stage.stage}", SpanKind.INTERNAL, about)

    def context_of(self, stage: str) -> Context:
        """What travels with the calls of a stage."""
        return self.context.traced(self._stages[stage].traceparent)

    def stage_ended(self, stage: StageRecord) -> None:
        """A stage has ended, or was left out."""
        span = self._stages.pop(stage.stage)
        if span.recording:
            span.set(
                {
                    tracing.STATUS: stage.status.name,
                    tracing.ATTEMPTS: stage.attempt_count,
                    tracing.ITEMS: stage.items,
                    tracing.QUEUE_WAIT: stage.queue_wait,
                    tracing.ENDPOINT: stage.endpoint,
                }
            )
        _end(span, stage.error_type if stage.status is StageStatus.FAILED else _cancelled(stage.status.name))

    def end(self, run: RunRecord) -> None:
        """The run has ended, or waits for somebody to have a word to say."""
        self._span.set({tracing.STATUS: run.status.name})
        reason = run.failure.type if run.failure is not None else _cancelled(run.status.name)
        _end(self._span, reason if run.status.ended else Interrupted.reason)


def _cancelled(status: str) -> str:
    return Cancelled.reason if status == "CANCELLED" else ""


def _end(span: Span, reason: str) -> None:
    if reason:
        span.set({tracing.REASON: reason, tracing.ERROR_TYPE: reason})
    span.end(reason)
