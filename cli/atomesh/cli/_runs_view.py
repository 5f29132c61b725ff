"""Runs as rows for people, as wide as their terminal; what went wrong stands below each."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from rich.text import Text

from atomesh.cli._output import cell, counted
from atomesh.cli._rows import Column, Row, cut, laid_out, wrapped
from atomesh.cli._run_data import standing
from atomesh.cli._run_tree import STYLES
from atomesh.cli._run_words import gone, in_place, left_out, short, took, what_next, whose
from atomesh.cli._tables import ago
from atomesh.core.times import from_duration, from_timestamp
from atomesh.pipelines import StageStatus
from atomesh.v1 import pipeline_pb2

_LIST_ERROR = 200  # characters of an error in a list: two lines; `runs status` has all of it
_ATTEMPTS = 20
"""Failed attempts of one stage that are shown. A stage that maps keeps a hundred, which --json has."""
_SHARES, _SHARE = 5, 0.01  # stages that took longest, and what is not worth a word

_RUN = (
    Column("run"),
    Column("pipeline", least=12),
    Column("status"),
    Column("started", right=True),
    Column("took", right=True),
)
_STAGE = (
    Column("stage", least=12, most=24),
    Column("status"),
    Column("items"),
    Column("agent", drop=1, least=8),
    Column("took", right=True),
    Column("waited", right=True, drop=5),
    Column("ran", right=True, drop=4),
    Column("attempts", right=True, drop=3),
    Column("endpoint", drop=2),
    Column("in/out bytes", right=True, drop=6),
)


def run_list(runs: Sequence[pipeline_pb2.Run], now: float, width: int | None) -> list[Text]:
    """One row for each run, and its error below; `now` is in Unix seconds."""
    rows = []
    for run in runs:
        status = standing(run)
        cells = {
            "run": cell(short(run.id)),
            "pipeline": cell(f"{run.pipeline} {run.version}", "bold"),
            "status": cell(status, STYLES.get(status, "")),
            "started": cell(ago(now - from_timestamp(run.started_at))),
            "took": cell(took(from_duration(run.duration)) if run.HasField("ended_at") else ""),
        }
        below = [cut(cell(_error(run), "dim"), _LIST_ERROR)] if run.HasField("error") else []
        rows.append(Row(cells, below))
    return laid_out(_RUN, rows, width)


def run_lines(run: pipeline_pb2.Run, now: float, width: int | None) -> list[Text]:
    """A run with its stages: its head in a few lines, then a row for each stage."""
    lines = [line for text in _head(run, now) for line in wrapped(text, width)]
    if run.stages:
        return [*lines, Text(), *laid_out(_STAGE, [_stage_row(stage) for stage in run.stages], width)]
    why = "they were not written" if run.HasField("ended_at") else "a run's are written when it ends"
    return [*lines, *wrapped(Text(f"nothing is known of its stages: {why}"), width)]


def interruption(run: pipeline_pb2.Run) -> str:
    """What became of a run whose process is gone, and what to do."""
    return f"interrupted: {gone(run.owner)}; {what_next(run.id, durable=run.durable)}"


def _head(run: pipeline_pb2.Run, now: float) -> Iterator[Text]:
    status = standing(run)
    yield cell(f"run {run.id}: {run.pipeline} {run.version}, ").append_text(cell(status, STYLES.get(status, "")))
    started = from_timestamp(run.started_at)
    at = datetime.datetime.fromtimestamp(started, datetime.UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    begun = f"started {ago(now - started)} ({at} UTC)"
    sizes = f"{counted(run.input_bytes, 'byte')} in"
    if run.HasField("ended_at"):
        spent = f"took {took(from_duration(run.duration))}"
        yield cell(f"{begun}, {spent}; {sizes}, {run.output_bytes} out")
    elif status == "interrupted":
        yield cell(f"{begun}; {sizes}")
        yield cell(interruption(run), "magenta")
    else:
        yield cell(f"{begun}, by {whose(run.owner)}; {sizes}")
    if run.HasField("error"):
        spent = " (all attempts used)" if run.error.retries_exhausted else ""
        where = f"failed at {run.error.stage}" if run.error.stage else "failed"
        yield cell(f"{where}: {run.error.type}: {run.error.message}{spent}", "red")
    for entry in () if run.HasField("error") else run.error_log:
        if not entry.stage:
            yield cell(entry.message)
    if run.HasField("summary") and run.stages:
        yield cell(_summary(run.summary))


def _summary(summary: pipeline_pb2.RunSummary) -> str:
    mean, least, most = (took(from_duration(part)) for part in (summary.average, summary.min, summary.max))
    told = f"{counted(summary.stages, 'stage')}, {summary.successes} went well, {summary.failures} failed"
    shares = sorted(summary.shares.items(), key=lambda share: (-share[1], share[0]))
    longest = ", ".join(f"{name} {share:.0%}" for name, share in shares[:_SHARES] if share >= _SHARE)
    return f"{told}; one took {mean} in the mean, {least} to {most}: {longest}" if len(shares) > 1 else told


def _error(run: pipeline_pb2.Run) -> str:
    return f"{run.error.stage}: {run.error.message}" if run.error.stage else run.error.message


def _stage_row(stage: pipeline_pb2.StageRun) -> Row:
    status = StageStatus(stage.status) if stage.status else StageStatus.PENDING
    name = status.name.lower()
    cells = {
        "stage": cell(stage.stage, "bold"),
        "status": cell(name, STYLES[name]),
        "items": cell(_items(stage, status)),
        "agent": cell(stage.agent),
        "endpoint": cell(stage.endpoint),
        "attempts": cell(str(stage.attempt_count or "")),
    }
    if stage.HasField("started_at"):
        cells["took"] = cell(took(from_duration(stage.duration)))
        cells["waited"] = cell(took(from_duration(stage.queue_wait)))
        cells["ran"] = cell(took(from_duration(stage.execution)))
        cells["in/out bytes"] = cell(f"{stage.input_bytes}/{stage.output_bytes}")
    return Row(cells, [cell(line, "dim") for line in _below(stage, status)])


def _items(stage: pipeline_pb2.StageRun, status: StageStatus) -> str:
    if status in (StageStatus.SUCCESS, StageStatus.SKIPPED, StageStatus.COMPENSATED):
        well = stage.items - stage.items_skipped
        return (
            f"{well} of {stage.items}, {stage.items_skipped} skipped" if stage.items_skipped else str(stage.items or "")
        )
    # How many of them had ended when it was stopped is not kept.
    return f"of {stage.items}" if stage.items else ""


def _below(stage: pipeline_pb2.StageRun, status: StageStatus) -> Iterator[str]:
    """What there is to say of a stage, and its attempts that failed."""
    failed = [attempt for attempt in stage.attempts if attempt.outcome != "OK"]
    if status is StageStatus.OMITTED:
        yield left_out(stage.reason)
    elif stage.reason and not stage.items_skipped:
        yield stage.reason
    if stage.fell_back_to:
        first = next((each.agent for each in stage.attempts if each.agent != stage.fell_back_to), "")
        yield in_place(stage.fell_back_to, first)
    if stage.circuit_open:
        yield "its circuit is open: no endpoint was to be tried"
    if stage.error and stage.error not in (attempt.error for attempt in failed):
        yield f"{stage.error_type}: {stage.error}" if stage.error_type else stage.error
    for attempt in failed[:_ATTEMPTS]:
        place = f"item {attempt.item}, " if attempt.HasField("item") else ""
        at = f" at {attempt.endpoint}" if attempt.endpoint else ""
        by = f" by {attempt.agent}" if attempt.agent != stage.agent else ""
        said = f": {attempt.error}" if attempt.error else ""
        yield f"{place}attempt {attempt.number}{by}{at}, {took(from_duration(attempt.duration))}: {attempt.outcome}{said}"
    if len(failed) > _ATTEMPTS:
        yield f"and {len(failed) - _ATTEMPTS} more; --json has them"
