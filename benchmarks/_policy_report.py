"""The tables, targets and plots of bench_policies, for virtual time and real gRPC alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from rich.table import Table

from benchmarks._harness import median
from benchmarks._report import table
from benchmarks._score import Score
from benchmarks._svg import Line, dot_chart
from benchmarks._traces import Plan

LATE = "late_binding"
"""The policy that the targets are for."""


@dataclass(slots=True)
class Result:
    """One policy in one cell, over all seeds."""

    plan: Plan
    policy: str
    round_trip: float
    """Seconds; of real runs the first one's."""
    ratios: list[Score] = field(default_factory=list)
    """Over the central queue, one per seed."""
    scores: list[Score] = field(default_factory=list)
    """The policy's own figures: seconds, and slowdowns."""
    failed: int = 0
    over_slots: int = 0
    """Endpoints that ever ran more at once than their slots."""

    def worst_p99(self) -> float:
        """The larger of the p99 ratios, wait and slowdown, medians of the seeds."""
        return max(median([one.p99_wait for one in self.ratios]), median([one.p99_slowdown for one in self.ratios]))


FIGURES = ("mean_wait", "p99_wait", "mean_slowdown", "p99_slowdown")


def show_results(title: str, results: Sequence[Result]) -> Table:
    """A row per cell and policy, the best policy of each cell first."""
    heads = ("mean wait", "p99 wait", "mean slowdown", "p99 slowdown")
    made = table(f"{title}: over the central queue", "cell", "policy", *heads, "p99 wait ms", "failed")
    for plan in dict.fromkeys(one.plan for one in results):
        here = sorted((one for one in results if one.plan == plan), key=Result.worst_p99)
        for number, one in enumerate(here):
            ratios = [[getattr(score, name) for score in one.ratios] for name in FIGURES]
            cells = [_brief(values) for values in ratios]
            wait = f"{median([score.p99_wait for score in one.scores]) * 1e3:,.1f}"
            last = number == len(here) - 1
            where = str(plan) if number == 0 else ""
            made.add_row(where, one.policy, *cells, wait, str(one.failed or ""), end_section=last)
    return made


def _brief(values: Sequence[float]) -> str:
    middle = median(values)
    spread = f" [dim]({min(values):.2f}-{max(values):.2f})[/dim]" if len(values) > 1 else ""
    return f"{middle:.2f}{spread}"


def show_targets(results: Iterable[Result], limit: float, median_limit: float | None) -> Table:
    """Whether late binding is where it should be: in each cell, and in the median cell."""
    late = [one for one in results if one.policy == LATE]
    made = table("targets of late binding, p99 over the central queue", "what", "found", "wanted", "verdict")
    if not late:
        return made
    for name in ("p99_wait", "p99_slowdown"):
        found = [(median([getattr(score, name) for score in one.ratios]), str(one.plan)) for one in late]
        worst, where = max(found)
        made.add_row(f"{name}, worst cell ({where})", f"{worst:.2f}", f"at most {limit:g}", _holds(worst <= limit))
        if median_limit is not None:
            middle = median([value for value, _ in found])
            said = f"at most {median_limit:g}"
            made.add_row(f"{name}, median cell", f"{middle:.2f}", said, _holds(middle <= median_limit))
    over = sum(one.over_slots for one in late)
    made.add_row("endpoints that ran more than their slots", str(over), "0", _holds(over == 0))
    return made


def _holds(good: bool) -> str:
    return "[green]met[/green]" if good else "[red]missed[/red]"


def plot(title: str, results: Sequence[Result], name: str = "p99_wait") -> str:
    """One policy per line over the cells."""
    cells = [(plan, f"{number}") for number, plan in enumerate(dict.fromkeys(one.plan for one in results), start=1)]
    lines = []
    for policy in dict.fromkeys(one.policy for one in results):
        points = []
        for plan, label in cells:
            for one in results:
                if one.plan == plan and one.policy == policy:
                    values = [getattr(score, name) for score in one.ratios]
                    points.append((label, median(values), min(values), max(values)))
        lines.append(Line(policy, points))
    return dot_chart(title, "cell, in the order of the table", lines, mark=1.0)


def to_json(results: Iterable[Result]) -> list[dict[str, object]]:
    """For the file."""
    return [{**asdict(one), "cell": str(one.plan)} for one in results]
