"""How the demo looks: a bar and a live table on a terminal, a line for every tenth elsewhere. 80 columns do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from atomesh.cli._demo_work import Tally, quantile
from atomesh.cli._output import cell, console, say

_RECENT = 400
"""Calls over which the live quantiles are taken: of all, they would hardly move
any more when something happens."""

_STYLES = {"serving": "green", "killed": "red", "draining": "yellow", "drained": "yellow", "joining": "cyan"}


@dataclass
class Row:
    """One endpoint of the demo."""

    name: str
    address: str = ""
    state: str = "starting"
    in_flight: int = 0


class View:
    """Shows the demo as it goes on."""

    def __init__(self, tally: Tally, rows: Sequence[Row], clock: Callable[[], float], *, silent: bool) -> None:
        """`clock` is seconds since the work began. `silent` shows nothing: the report alone is wanted."""
        self._tally = tally
        self._rows = rows
        self._clock = clock
        self._silent = silent
        self._told_tenths = 0
        self._events: list[str] = []
        self._live: Live | None = None
        self._bar = Progress(
            TextColumn("calls"),
            BarColumn(bar_width=36),
            TextColumn("{task.completed}/{task.total}  {task.fields[rate]}"),
        )
        self._task = self._bar.add_task("calls", total=tally.total, rate="")
        if sys.stdout.isatty() and not silent:
            self._live = Live(console=console(), auto_refresh=False, transient=False)

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
            self.refresh()
            self._live.stop()

    def tell(self, text: str) -> None:
        """Something happened."""
        line = f"{self._clock():5.1f} s  {text}"
        self._events.append(line)
        if self._live is None and not self._silent:
            say(line)

    def say(self, text: str) -> None:
        """Something happened after the picture was done."""
        if not self._silent:
            say(text)

    def refresh(self) -> None:
        """Shows things as they are now."""
        tally, seconds = self._tally, self._clock()
        rate = f"{tally.done / seconds:,.0f}/s" if seconds > 0.2 else ""
        if self._live is not None:
            self._bar.update(self._task, completed=tally.done, rate=rate)
            self._live.update(self._picture(), refresh=True)
            return
        tenths = 10 * tally.done // max(1, tally.total)
        if tenths > self._told_tenths and not self._silent:
            self._told_tenths = tenths
            p99 = quantile(tally.seconds[-_RECENT:], 0.99) * 1000
            say(
                f"{seconds:5.1f} s  {tenths * 10:3d} %  {tally.done} calls, {len(tally.failures)} failed, "
                f"{rate}, p99 {p99:.0f} ms"
            )

    def _picture(self) -> RenderableType:
        parts: list[Any] = [self._bar, self._table()]
        parts += [Text(line, style="dim") for line in self._events[-8:]]
        return Group(*parts)

    def _table(self) -> Table:
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("endpoint", "state"):
            table.add_column(name)
        for name in ("calls", "share", "in flight", "p50 ms", "p99 ms"):
            table.add_column(name, justify="right")
        for row in self._rows:
            seconds = self._tally.by_endpoint.get(row.address, [])
            recent = seconds[-_RECENT:]
            table.add_row(
                cell(row.address or row.name),
                cell(row.state, _STYLES.get(row.state, "")),
                str(len(seconds)),
                f"{len(seconds) / max(1, self._tally.answered):.0%}",
                str(row.in_flight),
                f"{quantile(recent, 0.5) * 1000:.1f}",
                f"{quantile(recent, 0.99) * 1000:.1f}",
            )
        return table


def show_report(report: dict[str, Any]) -> None:
    """What happened, for people."""
    verdict = "nothing was lost" if report["ok"] else "this is not as it should be"
    say("")
    say(f"{report['calls']} calls in {report['seconds']:.1f} s, {report['failures']} failures: {verdict}")
    reasons = ", ".join(f"{count} {reason}" for reason, count in report["rerouted_attempts"].items())
    facts = [
        ("p50 / p99", f"{report['p50_ms']:.1f} ms / {report['p99_ms']:.1f} ms"),
        ("answers", f"{report['checked']} checked, {report['wrong']} wrong"),
        ("retries", f"{report['retries']}" + (f" (attempts that went elsewhere: {reasons})" if reasons else "")),
        ("ejections", str(report["ejections"])),
        ("the kill", _kill(report)),
        (
            "the drain",
            f"{report['drain_seconds']:.1f} s until the process had ended"
            if report["drain_seconds"] is not None
            else "did not end",
        ),
    ]
    for name, fact in facts:
        say(f"  {name:<10} {fact}")
    out = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 2))
    for name in ("endpoint", "became", "calls", "share", "p50 ms", "p99 ms"):
        out.add_column(name, justify="left" if name in ("endpoint", "became") else "right")
    for row in report["endpoints"]:
        out.add_row(
            cell(row["address"]),
            cell(row["became"]),
            str(row["calls"]),
            f"{row['share']:.0%}",
            f"{row['p50_ms']:.1f}",
            f"{row['p99_ms']:.1f}",
        )
    console().print(out)
    for problem in report["problems"]:
        say(f"  problem: {problem}")


def _kill(report: dict[str, Any]) -> str:
    last = report["last_affected_ms"]
    if last is None:
        return "no call was affected"
    return f"{report['affected']} calls affected, the last one answered {last:.0f} ms after SIGKILL"
