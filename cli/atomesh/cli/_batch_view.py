"""How a batch looks from outside: a bar on a terminal, a line for every tenth elsewhere, the figures at the end. All on stderr."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from atomesh.cli._output import console, counted, note

if TYPE_CHECKING:
    from atomesh.pipelines.batch import BatchSummary, Progress

_EVERY_SECONDS = 10.0
"""Between two lines where nobody knows how many inputs there are."""
_SETTLED_SECONDS = 0.2
"""Before it, items per second are those of a start."""
_ENDPOINTS = 10  # rows; all are in --json


class View:
    """Shows how far a batch is."""

    def __init__(self, total: int | None, *, bar: bool) -> None:
        """`total` lines, where that is known; `bar` is whether a terminal's stderr is free for one."""
        self._total = total
        self._skipped = 0
        self._tenths = 0
        self._told_at = 0.0
        self._bar: Any = None
        self._task: Any = None
        if bar and sys.stderr.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("batch"),
                BarColumn(bar_width=36),
                TextColumn("{task.fields[told]}"),
                TimeElapsedColumn(),
                console=console(stderr=True),
                transient=True,
                auto_refresh=False,
            )

    def __enter__(self) -> Self:
        """Begins to show."""
        if self._bar is not None:
            self._task = self._bar.add_task("batch", total=self._total, told="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Takes the bar away; what is left is for the summary to say."""
        if self._bar is not None:
            self._bar.stop()

    def skip(self) -> None:
        """A line was passed over: there is nothing to do for it."""
        self._skipped += 1

    def show(self, progress: Progress) -> None:
        """How far it is."""
        done = progress.ended + self._skipped
        told = f"{done}/{self._total}" if self._total is not None else f"{done}"
        failed = progress.ended - progress.succeeded
        told += f", {failed} failed, {progress.outstanding} running"
        if progress.seconds > _SETTLED_SECONDS:
            told += f", {progress.ended / progress.seconds:,.0f}/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, told=told)
            self._bar.refresh()
        elif self._due(done, progress):
            note(f"{progress.seconds:6.1f} s  {self._share(done)}{told}")

    def _share(self, done: int) -> str:
        return f"{100 * done // max(1, self._total):3d} %  " if self._total is not None else ""

    def _due(self, done: int, progress: Progress) -> bool:
        if self._total is None:
            due = progress.seconds - self._told_at >= _EVERY_SECONDS
            self._told_at = progress.seconds if due else self._told_at
            return due
        tenths = 10 * done // max(1, self._total)
        due = tenths > self._tenths
        self._tenths = max(tenths, self._tenths)
        return due


def show_summary(summary: BatchSummary, status: str, more: list[tuple[str, str]]) -> None:
    """The figures, for people."""
    s = summary
    note(
        f"batch {s.batch_id}: {counted(s.total, 'item')}, {s.succeeded} succeeded, {s.failed} failed"
        + (f", {s.timed_out} timed out" if s.timed_out else "")
        + (f", {s.cancelled} cancelled" if s.cancelled else "")
        + (f", {s.not_run} not begun" if s.not_run else "")
        + f" in {s.duration:.1f} s: {status}"
    )
    waits = f"of it waiting {_ms(s.mean_queue_wait)}"
    busy = f"busy for {s.efficiency:.1%} of the time ({s.efficiency_fed:.1%} while there was work left)"
    calls = f"{s.concurrency_mean:.1f} calls at once, at most {s.concurrency_max}"
    times = f"mean {_ms(s.mean_seconds)}, p50 {_ms(s.p50_seconds)}, p99 {_ms(s.p99_seconds)}"
    facts = [
        ("time", f"{times}, {waits}; {s.throughput:,.1f} items/s"),
        ("slots", f"{s.slots_mean:.1f}, {busy}; {calls}"),
    ]
    shares = sorted(s.by_endpoint.items(), key=lambda named: -named[1].items)
    for name, share in shares[:_ENDPOINTS]:
        failed = f", {share.failed} failed" if share.failed else ""
        facts.append((name, f"{counted(share.items, 'item')}{failed}, mean {_ms(share.mean_seconds)}"))
    if len(shares) > _ENDPOINTS:
        facts.append(("...", f"and {counted(len(shares) - _ENDPOINTS, 'endpoint')} more"))
    if s.by_error:
        facts.append(("errors", ", ".join(f"{count} {name}" for name, count in s.by_error.items())))
    width = max(len(name) for name, _ in (*facts, *more))
    for name, fact in (*facts, *more):
        note(f"  {name:<{width}}  {fact}")


def _ms(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
