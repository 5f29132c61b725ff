"""A run as its events tell of it, and each event in one line."""

from __future__ import annotations

from dataclasses import dataclass, field

from atomesh.cli._output import counted
from atomesh.cli._run_words import in_place, items_told, left_out, took
from atomesh.pipelines import (
    AttemptFailed,
    Event,
    RunEnded,
    RunRecord,
    RunStarted,
    RunStatus,
    StageEnded,
    StageProgress,
    StageRecord,
    StageStarted,
    StageStatus,
)

_WELL = (StageStatus.SUCCESS, StageStatus.SKIPPED, StageStatus.COMPENSATED)
NOT_UNDONE = "not undone"


@dataclass(slots=True)
class Seen:
    """What is known of a run so far; times are monotonic seconds."""

    run: RunRecord | None = None
    began: float = 0.0
    ended: bool = False
    interrupted: bool = False
    """A durable run that its process leaves: it can be resumed, whatever its record says here."""
    begun: dict[str, float] = field(default_factory=dict)
    """When each stage began."""
    waits: dict[str, str] = field(default_factory=dict)
    """What stages under way wait for."""
    _done: dict[str, int] = field(default_factory=dict)
    _agents: dict[str, str] = field(default_factory=dict)
    """Whose each stage was before any fallback."""

    def take(self, event: Event, now: float) -> None:
        """One more event of the run."""
        self.run = event.run
        if isinstance(event, RunStarted):
            self.began = now
            self._agents = {stage.stage: stage.agent for stage in event.run.stages}
        elif isinstance(event, StageStarted):
            self.begun[event.stage.stage] = now
        elif isinstance(event, StageProgress):
            self._done[event.stage.stage] = event.done
        elif isinstance(event, AttemptFailed) and event.retry_in is not None:
            place = f"item {event.attempt.item}, " if event.attempt.item is not None else ""
            self.waits[event.stage.stage] = (
                f"{place}attempt {event.attempt.number} {event.attempt.outcome}{_again(event)}"
            )
        elif isinstance(event, AttemptFailed):
            self.waits.pop(event.stage.stage, None)  # its error says more
        elif isinstance(event, StageEnded):
            self.waits.pop(event.stage.stage, None)
        elif isinstance(event, RunEnded):
            self.ended = True

    def stands(self) -> str:
        """How the run stands, in a word."""
        if self.run is None:
            return "pending"
        open_still = self.run.status in (RunStatus.RUNNING, RunStatus.CANCELLED)
        if (self.interrupted and open_still) or (self.ended and not self.run.status.ended):
            return "interrupted"
        return self.run.status.name.lower()

    def items(self, stage: StageRecord) -> str:
        """How far a stage that maps has come; empty for others."""
        done = stage.items if stage.status in _WELL else self._done.get(stage.stage, 0)
        return items_told(stage.items, done, stage.items_skipped)

    def instead(self, stage: StageRecord) -> str:
        """Who did it in whose place; empty where nobody had to."""
        return in_place(stage.fell_back_to, self._agents.get(stage.stage, "")) if stage.status in _WELL else ""

    def said(self, stage: StageRecord) -> str:
        """What there is to say of a stage: what it waits for, and why it is not as it should be."""
        if stage.status is StageStatus.OMITTED:
            return left_out(stage.reason)
        reason = "" if stage.items_skipped else stage.reason
        return "; ".join(part for part in (self.waits.get(stage.stage, ""), reason, stage.error) if part)

    def line(self, event: Event) -> str:
        """An event in one line; empty where it is not worth one. `take` has taken it."""
        if isinstance(event, RunStarted):
            return f"run {event.run.id}: {event.run.pipeline} {event.run.version}, {counted(len(event.run.stages), 'stage')}"
        if isinstance(event, AttemptFailed):
            return self._failed(event)
        if isinstance(event, StageEnded):
            return self._ended(event.stage)
        if isinstance(event, StageProgress):
            total, done = event.stage.items, event.done
            tenth = 20 <= total != done and 10 * done // total > 10 * (done - 1) // total
            return f"{event.stage.stage}: {items_told(total, done, event.stage.items_skipped)}" if tenth else ""
        if isinstance(event, RunEnded):
            return f"run {event.run.id}: {self.stands()} in {took(event.run.seconds)}"
        return ""

    def _failed(self, event: AttemptFailed) -> str:
        attempt, stage = event.attempt, event.stage.stage
        place = f"item {attempt.item}, " if attempt.item is not None else ""
        by = f" by {attempt.agent}" if attempt.agent != self._agents.get(stage, attempt.agent) else ""
        return f"{stage}: {place}attempt {attempt.number}{by} failed: {attempt.error}{_again(event)}"

    def _ended(self, stage: StageRecord) -> str:
        said = self.said(stage)
        if stage.status is StageStatus.OMITTED:
            return f"{stage.stage}: {said}"
        if stage.status is StageStatus.COMPENSATED:
            return f"{stage.stage}: undone"
        if stage.reason.startswith(NOT_UNDONE):
            return f"{stage.stage}: {stage.reason}"
        ended = f"{stage.stage}: {stage.status.name.lower()} in {took(stage.seconds)}"
        told = ", ".join(part for part in (ended, self.items(stage), self.instead(stage)) if part)
        return f"{told}: {said}" if said else told


def _again(event: AttemptFailed) -> str:
    return f", again in {event.retry_in:.1f} s" if event.retry_in is not None else ""
