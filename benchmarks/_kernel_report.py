"""What bench_policies says of virtual time: each policy over the grid, the long round trips, the calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from rich.table import Table

from benchmarks._harness import median
from benchmarks._kernel_grid import LINKERD_SAID
from benchmarks._kernel_run import LATE
from benchmarks._policy_report import FIGURES, Result
from benchmarks._report import table
from benchmarks._traces import Plan

BESIDE = 1.1
"""What late binding's p99 may be over the best other policy's where round trips are long."""


def ratio(result: Result, figure: str) -> float:
    """Over the central queue."""
    return median([getattr(score, figure) for score in result.ratios])


def show_policies(title: str, results: Sequence[Result]) -> Table:
    """A row per policy, the best first: the median of its cells / the worst, and which that is."""
    heads = [figure.replace("_", " ") for figure in FIGURES]
    made = table(f"{title}: over the central queue, median cell / worst cell", "what", *heads, "worst p99 in")
    policies = list(dict.fromkeys(one.policy for one in results))
    rows: dict[str, list[Result]] = {policy: [one for one in results if one.policy == policy] for policy in policies}
    for policy in sorted(policies, key=lambda policy: median([ratio(one, "p99_wait") for one in rows[policy]])):
        cells = []
        for figure in FIGURES:
            found = [ratio(one, figure) for one in rows[policy]]
            cells.append(f"{_short(median(found))} / {_short(max(found))}")
        made.add_row(policy, *cells, str(max(rows[policy], key=Result.worst_p99).plan))
    return made


def show_over(results: Sequence[Result], limit: float) -> Table:
    """The cells in which late binding is over the limit; worst first."""
    made = table(f"late binding, cells over {limit:g}", "cell", *(figure.replace("_", " ") for figure in FIGURES))
    over = [one for one in results if one.policy == LATE and one.worst_p99() > limit]
    for one in sorted(over, key=Result.worst_p99, reverse=True):
        made.add_row(str(one.plan), *(_short(ratio(one, figure)) for figure in FIGURES))
    return made


def show_long(results: Sequence[Result], mean_cost: float) -> Table:
    """Late binding where round trips are long, and the policy that is best there beside it, for each figure."""
    heads = ("late: p99 wait", "best other", "late: p99 slowdown", "best other")
    made = table("long round trips: over the central queue", "cell", *heads, "late over best")
    cells: dict[tuple[float, Plan], list[Result]] = {}
    for one in results:
        cells.setdefault((one.round_trip, one.plan), []).append(one)
    for (round_trip, plan), here in cells.items():
        late = next((one for one in here if one.policy == LATE), None)
        others = [one for one in here if one.policy != LATE]
        if late is None or not others:
            continue
        row, shares = [], []
        for figure in ("p99_wait", "p99_slowdown"):
            best = min(others, key=partial(ratio, figure=figure))
            row += [_short(ratio(late, figure)), f"{_short(ratio(best, figure))} ({best.policy})"]
            shares.append(ratio(late, figure) / ratio(best, figure))
        colour = "green" if max(shares) <= BESIDE else "red"
        said = f"[{colour}]{shares[0]:.2f}, {shares[1]:.2f}[/{colour}]"
        made.add_row(f"{round_trip / mean_cost:.0%} of a service: {plan}", *row, said)
    return made


def show_linkerd(found: Mapping[str, float]) -> Table:
    """Whether the world of events is what others have measured."""
    made = table("Linkerd's published scenario, answered within 1 s", "what", "here", "published")
    for policy, share in found.items():
        said = LINKERD_SAID.get(policy)
        made.add_row(policy, f"{share:.2%}", f"{said:.1%}" if said else "")
    return made


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"
