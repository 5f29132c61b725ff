"""What can go wrong with pipelines, beside what can go wrong with calls.

AtomeshError
├── InvalidArgument
│   └── PipelineInvalid      a pipeline is wrong in itself (`problems`, each with its line)
├── NotFound
│   ├── UnknownRun
│   ├── UnknownPipeline
│   └── UnknownDefinition
├── Conflict
│   ├── RunExists            the run's id is taken
│   ├── NotResumable         it has ended, is not durable, or is still being run
│   └── Interrupted          a stage was under way when its process died, and must not run twice
├── Refused
│   └── StoreUnavailable     the store cannot be reached now
├── Cancelled
│   └── RunCancelled         with the run's record
└── AgentFailed
    └── RunFailed            a stage failed for good; with the run's record

StoreUnusable (no AtomeshError) is for whoever starts a process: the file is
another program's, corrupt, or of a newer version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from atomesh.core.errors import AgentFailed, Cancelled, Conflict, InvalidArgument, NotFound, Refused
from atomesh.pipelines.record import RunRecord, StageRecord

_TRACED = 20
"""Stages in the trace that an error carries: its status must fit a gRPC trailer."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a pipeline."""

    message: str
    path: str = ""
    """Where in the file, such as `stages.summary.input`."""
    line: int | None = None
    """From 1; None where it was not read from a file."""

    def __str__(self) -> str:
        """`line 7: stages.summary.input: ...`."""
        place = f"line {self.line}: " if self.line is not None else ""
        return place + (f"{self.path}: {self.message}" if self.path else self.message)


class PipelineInvalid(InvalidArgument):
    """A pipeline is wrong in itself."""

    reason = "PIPELINE_INVALID"

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        """`source` is the file's name; the message is the first problem, and how many more there are."""
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{source}: {problems[0]}{more}" if source else f"{problems[0]}{more}")
        self.problems = tuple(problems)
        self.source = source


class UnknownRun(NotFound):
    """No such run is in the store."""

    reason = "UNKNOWN_RUN"


class UnknownPipeline(NotFound):
    """No such pipeline is stored or served."""

    reason = "UNKNOWN_PIPELINE"


class UnknownDefinition(NotFound):
    """No such definition is stored."""

    reason = "UNKNOWN_DEFINITION"


class RunExists(Conflict):
    """The run's id is taken."""

    reason = "RUN_EXISTS"


class NotResumable(Conflict):
    """The run cannot be resumed."""

    reason = "NOT_RESUMABLE"


class Interrupted(Conflict):
    """The work was under way when its process died; nobody knows how far it came."""

    reason = "INTERRUPTED"
    executed = True  # as far as anybody knows


class StoreUnavailable(Refused):
    """The store of runs cannot be reached now."""

    reason = "STORE_UNAVAILABLE"


class StoreUnusable(Exception):
    """The store cannot be used at all; the message says why and what to do."""


class RunCancelled(Cancelled):
    """A run was cancelled."""

    def __init__(self, message: str, run: RunRecord) -> None:
        """With what became of it."""
        super().__init__(message)
        self.run = run


class RunFailed(AgentFailed):
    """A stage failed for good. The run's id, the stage and the trace travel with it over the wire."""

    def __init__(self, run: RunRecord) -> None:
        """Says which stage, why, and after what."""
        failure = run.failure
        stage, kind, message = (failure.stage, failure.type, failure.message) if failure else ("", "", "")
        where = f"stage {stage} of {run.pipeline}" if stage else run.pipeline
        super().__init__(f"{where} failed: {message} (run {run.id})", reason="RUN_FAILED", details=trace(run))
        self.run = run
        self.failed_stage = stage
        self.failed_with = kind


def trace(run: RunRecord) -> dict[str, Any]:
    """The run in short: its id, the stage that failed, and how each stage ended."""
    return {
        "run_id": run.id,
        "failed_stage": run.failure.stage if run.failure else "",
        "error_type": run.failure.type if run.failure else "",
        "stages": [_line(stage) for stage in run.stages[:_TRACED]],
    }


def _line(stage: StageRecord) -> str:
    took = f" {stage.seconds * 1000:.0f} ms" if stage.ran else ""
    error = f" {stage.error_type}" if stage.error_type else ""
    return f"{stage.stage} {stage.status.name.lower()}{took}{error}"
