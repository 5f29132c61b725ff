"""How a run looks while it goes on: a live tree of its stages on a terminal, a line for each step elsewhere. On stderr."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from atomesh.cli._output import cell, console, note
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.pipelines import (
    AttemptFailed,
    Event,
    RunEnded,
    RunRecord,
    RunStarted,
    StageEnded,
    StageProgress,
    StageRecord,
    StageStarted,
    StageStatus,
)

_MARKS = {
    StageStatus.PENDING: ("·", "dim"),
    StageStatus.RUNNING: ("▸", "cyan"),
    StageStatus.SUCCESS: ("✓", "green"),
    StageStatus.FAILED: ("✗", "red"),
    StageStatus.CANCELLED: ("✗", "yellow"),
    StageStatus.SKIPPED: ("»", "yellow"),
    StageStatus.OMITTED: ("-", "dim"),
    StageStatus.COMPENSATED: ("↶", "yellow"),
}
_RATE = 10  # pictures a second: an eye takes no more, and each costs a millisecond


class RunView:
    """Shows a run; `listen` is what the runner calls."""

    def __init__(self, *, quiet: bool = False) -> None:
        """`quiet` shows nothing."""
        self._quiet = quiet
        self._run: RunRecord | None = None
        self._begun: dict[str, float] = {}
        self._done: dict[str, int] = {}
        self._waits: dict[str, str] = {}
        self._live: Live | None = None
        if sys.stderr.isatty() and not quiet:
            self._live = Live(console=console(stderr=True), refresh_per_second=_RATE, get_renderable=self._picture)

    def __enter__(self) -> Self:
        """Begins to show."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the last picture standing."""
        if self._live is not None:
            self._live.stop()

    def listen(self, event: Event) -> None:
        """Takes an event of the run."""
        self._run = event.run
        if isinstance(event, StageStarted):
            self._begun[event.stage.stage] = SYSTEM_CLOCK.now()
        elif isinstance(event, StageProgress):
            self._done[event.stage.stage] = event.done
        elif isinstance(event, AttemptFailed):
            again = f", again in {event.retry_in:.1f} s" if event.retry_in is not None else ""
            self._waits[event.stage.stage] = f"attempt {event.attempt.number} {event.attempt.outcome}{again}"
        elif isinstance(event, StageEnded):
            self._waits.pop(event.stage.stage, None)
        if self._live is None and not self._quiet and (line := _line(event)):
            note(line)

    def _picture(self) -> Any:
        run = self._run
        if run is None:
            return Text("starting ...", style="dim")
        tree = Tree(cell(f"{run.pipeline} {run.version}  run {run.id}", "bold"), guide_style="dim")
        for stage in run.stages:
            tree.add(self._row(stage))
        return tree

    def _row(self, stage: StageRecord) -> Text:
        mark, style = _MARKS[stage.status]
        row = Text(f"{mark} ", style=style)
        row.append_text(cell(f"{stage.name or stage.stage:<20}", style))
        row.append_text(cell(f" {self._seconds(stage):>9}  {stage.agent}", "dim"))
        done = self._done.get(stage.stage, stage.items if stage.status is not StageStatus.RUNNING else 0)
        if stage.items:
            row.append(f"  {done}/{stage.items}")
        if said := self._waits.get(stage.stage) or stage.error or stage.reason:
            row.append_text(cell(f"  {said:.80}", "yellow"))
        return row

    def _seconds(self, stage: StageRecord) -> str:
        if stage.status is StageStatus.RUNNING:
            return took(SYSTEM_CLOCK.now() - self._begun.get(stage.stage, SYSTEM_CLOCK.now()))
        return took(stage.seconds) if stage.ran else ""


def _line(event: Event) -> str:
    """An event in one line; empty where it is not worth one."""
    if isinstance(event, RunStarted):
        return f"run {event.run.id}: {event.run.pipeline} {event.run.version}, {len(event.run.stages)} stages"
    if isinstance(event, AttemptFailed):
        again = f"; again in {event.retry_in:.1f} s" if event.retry_in is not None else ""
        return f"{event.stage.stage}: attempt {event.attempt.number} failed: {event.attempt.error}{again}"
    if isinstance(event, StageEnded):
        stage = event.stage
        said = stage.error or stage.reason
        items = f", {stage.items} items" if stage.items else ""
        return f"{stage.stage}: {stage.status.name.lower()} in {took(stage.seconds)}{items}" + (
            f" ({said})" if said else ""
        )
    if isinstance(event, StageProgress):
        total, done = event.stage.items, event.done
        tenth = total >= 20 and 10 * done // total > 10 * (done - 1) // total
        return f"{event.stage.stage}: {done} of {total} items" if tenth else ""
    if isinstance(event, RunEnded):
        stands = event.run.status.name.lower() if event.run.status.ended else "interrupted"
        return f"run {event.run.id}: {stands} in {took(event.run.seconds)}"
    return ""


def took(seconds: float) -> str:
    """`12.3 ms`, `4.56 s` or `3 m 20 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds:.2f} s" if seconds < 120 else f"{int(seconds // 60)} m {int(seconds % 60)} s"
