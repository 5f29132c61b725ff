"""The tables, targets and plots of bench_registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks._harness import Figures, median, ratios
from benchmarks._registry_cells import Calls, Cell, Memory, Watch
from benchmarks._registry_growth import KINDS
from benchmarks._report import show, spread, table, verdict
from benchmarks._svg import Line, line_chart

Found = Mapping[Cell, Mapping[str, Figures]]
Row = tuple[str, ...]

NAMES = {"raw": "raw grpc.aio", "memory": "memory", "sqlite": "SQLite, durable", "equal": "one selector"}
NAMES["distinct"] = "a selector each"
DURABLE_TARGET = 0.5
"""Durable registrations over the ceiling, where there is concurrency."""
LAST_TARGETS = {100: 25.0, 1000: 250.0}
"""Milliseconds from a change to the last of so many watchers, p99."""
WATCHER_TARGET = 60.0
"""kB of the registry's memory for a watcher."""
FLAT_TARGET = 1.5
"""Processor time at the most endpoints over that at the fewest. One look at each
of 100,000 endpoints would be ten times a change at the least; below half as
much again is what deeper trees and colder caches take."""


def show_all(found: Found, growth: Mapping[str, Any] | None) -> None:
    """Prints a table per group, and the targets."""
    tables = [_calls(found, "register"), _calls(found, "renew"), _watch(found), _memory(found)]
    wanted = table("targets", "what", "found", "wanted", "verdict")
    for row in targets(found):
        wanted.add_row(*row)
    if growth is not None:
        tables += [_growth(growth), _start(growth)]
        for row in flat(growth):
            wanted.add_row(*row)
    show(*(one for one in [*tables, wanted] if one.row_count))


def _calls(found: Found, kind: str) -> Table:
    columns = ["of raw", "p50 ms", "p99 ms", "server CPU us", "of raw", "client CPU us"]
    more = ["operations per commit", "commit ms"] if kind == "register" else ["leases/s"]
    title = {
        "register": "registrations, each of a new endpoint with a contract of so many bytes",
        "renew": "renewals: a batch of one to five leases for each process",
    }[kind]
    made = table(title, "cell", "world", "calls/s", *columns, *more)
    for cell, worlds in found.items():
        if isinstance(cell, Calls) and cell.kind == kind:
            for number, (world, figures) in enumerate(worlds.items()):
                last = number == len(worlds) - 1
                made.add_row("" if number else _where(cell), *_call_row(worlds, world, figures, kind), end_section=last)
    return made


def _where(cell: Calls) -> str:
    if cell.kind == "renew":
        return f"{cell.tasks} at once, {cell.connections:,} connections"
    return f"{cell.tasks} at once, {'72 kB' if cell.contract == 'rules' else '1 kB'}"


def _call_row(worlds: Mapping[str, Figures], world: str, figures: Figures, kind: str) -> Sequence[str]:
    rate, cpu = ("", "")
    if world != "raw":
        rate, cpu = (spread(ratios(worlds, world, "raw", name), 2) for name in ("rate", "server_cpu_us"))
    row = [NAMES[world], spread(figures.get("rate", [])), rate]
    row += [_middle(figures, name, 1) for name in ("p50_ms", "p99_ms")]
    row += [_middle(figures, "server_cpu_us"), cpu, _middle(figures, "client_cpu_us")]
    if kind == "renew":
        return [*row, f"{3 * median(figures.get('rate', [])):,.0f}"]
    return [*row, *(_middle(figures, name, 1) for name in ("operations_per_commit", "commit_ms"))]


def _middle(figures: Figures, name: str, digits: int = 0) -> str:
    """The median alone: ranges are for what is judged, and for the JSON."""
    found = figures.get(name)
    return f"{median(found):,.{digits}f}" if found else ""


def _watch(found: Found) -> Table:
    columns = [f"{who} {share} ms" for who in ("first", "last") for share in ("p50", "p99")]
    made = table(
        "from sending a change to its watchers", "watchers", "world", *columns, "last after ack p50 ms",
        "last of raw, p50", "server CPU us each", "client CPU us each",
    )  # fmt: skip
    for cell, worlds in found.items():
        if isinstance(cell, Watch):
            for number, (world, figures) in enumerate(worlds.items()):
                row = ["" if number else str(cell), NAMES[world]]
                row += [_middle(figures, name, 1) for name in ("first_p50_ms", "first_p99_ms")]
                row += [spread(figures.get(name, []), 1) for name in ("last_p50_ms", "last_p99_ms")]
                row.append(_middle(figures, "after_ack_p50_ms", 1))
                row.append("" if world == "raw" else spread(ratios(worlds, world, "raw", "last_p50_ms"), 2))
                row += [_middle(figures, f"{side}_cpu_us") for side in ("server", "client")]
                made.add_row(*row, end_section=number == len(worlds) - 1)
    return made


def _memory(found: Found) -> Table:
    made = table("memory of a watcher, kB", "what", "world", "server", "client")
    for cell, worlds in found.items():
        if isinstance(cell, Memory):
            for number, (world, figures) in enumerate(worlds.items()):
                where = "a connection of its own" if cell.own else "on shared connections"
                sizes = [spread([size / 1e3 for size in figures.get(side, [])], 1) for side in ("server", "client")]
                made.add_row("" if number else where, NAMES[world], *sizes)
    return made


def targets(found: Found) -> list[Row]:
    """What was wanted of calls, watches and memory, and whether it holds."""
    rows: list[Row] = []
    for cell, worlds in found.items():
        if isinstance(cell, Calls) and cell.kind == "register" and cell.tasks > 1:
            # The second is what a loaded machine hardly disturbs: either server fills its core.
            over = ratios(worlds, "sqlite", "raw", "rate")
            rows.append(verdict(f"durable registrations over raw, {_where(cell)}", over, DURABLE_TARGET))
            cheaper = ratios(worlds, "raw", "sqlite", "server_cpu_us")
            rows.append(verdict("the same by the servers' processor time for each", cheaper, DURABLE_TARGET))
        elif isinstance(cell, Watch) and (bound := LAST_TARGETS.get(cell.streams)):
            for world in (world for world in worlds if world != "raw"):
                late, raw = (worlds[which].get("last_p99_ms", []) for which in (world, "raw"))
                name = f"change to last of {cell}, {NAMES[world]}, p99 ms (raw: {median(raw):.0f})"
                rows.append(verdict(name, late, bound, at_most=True))
        elif isinstance(cell, Memory):
            sizes = [size / 1e3 for size in worlds.get("equal", {}).get("server", [])]
            rows.append(verdict(f"kB of a watcher, {cell}", sizes, WATCHER_TARGET, at_most=True))
    return rows


def _growth(growth: Mapping[str, Any]) -> Table:
    made = table("among so many endpoints", "what", "endpoints", "server CPU us", "calls/s", "p50 ms", "p99 ms")
    for shape, of in (("many", ""), ("one", ", all of one agent")):
        sizes = list(growth[shape])
        for name in growth[shape][sizes[0]]:
            for number, size in enumerate(sizes):
                row = ["" if number else f"{name}{of}", f"{int(size):,}"]
                for figure, digits in (("server_cpu_us", 0), ("rate", 0), ("p50_ms", 2), ("p99_ms", 2)):
                    row.append(spread([one[figure] for one in growth[shape][size][name]], digits))
                made.add_row(*row, end_section=number == len(sizes) - 1)
    return made


def _start(growth: Mapping[str, Any]) -> Table:
    starts = growth["start"]
    size = max(starts[0], key=int)
    empty, full = ([start[which] for start in starts] for which in ("0", size))
    made = table(f"start on SQLite, and {int(size):,} endpoints in memory", "what", "empty", f"{int(size):,} endpoints")
    made.add_row("takes calls after s", *(spread([one["serves"] for one in side], 2) for side in (empty, full)))
    made.add_row("finds by capability after s, nobody renewing", "", spread([one["finds"] for one in full], 2))
    made.add_row("resident MB", *(spread([one["bytes"] / 1e6 for one in side]) for side in (empty, full)))
    each = [(f["bytes"] - e["bytes"]) / int(size) for e, f in zip(empty, full, strict=True)]
    made.add_row("bytes per endpoint, restored from SQLite", "", spread(each))
    filled = growth["filled"]
    made.add_row("bytes per endpoint, registered in memory", "", f"{filled['bytes_per_endpoint']:,.0f}")
    made.add_row(
        "registrations/s into memory, first and last tenth", "", f"{filled['first']:,.0f}, {filled['last']:,.0f}"
    )
    return made


def flat(growth: Mapping[str, Any]) -> list[Row]:
    """Whether what a change and a look-up cost depends on how many endpoints there are."""
    rows = []
    for shape, more in (("many", ""), ("one", ", all of one agent")):
        sizes = list(growth[shape])
        if len(sizes) > 1:
            for name in (name for name in KINDS if name in growth[shape][sizes[0]]):
                few, most = (
                    [one["server_cpu_us"] for one in growth[shape][size][name]] for size in (sizes[0], sizes[-1])
                )
                over = [late / early for early, late in zip(few, most, strict=True)]
                what = f"CPU at {int(sizes[-1]):,} over {int(sizes[0]):,}: {name}{more}"
                rows.append(verdict(what, over, FLAT_TARGET, at_most=True))
    return rows


def plots(found: Found) -> dict[str, str]:
    """Registrations per second over concurrency, and how late the last watcher is over their number."""
    made = {}
    for contract in sorted({cell.contract for cell in found if isinstance(cell, Calls) and cell.kind == "register"}):
        chosen = [
            cell for cell in found if isinstance(cell, Calls) and (cell.kind, cell.contract) == ("register", contract)
        ]
        if len(chosen) > 1:
            lines = _lines([(str(cell.tasks), found[cell]) for cell in chosen], "rate")
            title = f"registrations per second, {_where(chosen[0]).partition(', ')[2]}"
            made[f"registry-registrations-{contract}"] = line_chart(title, "registrations at once", lines)
    watches = [cell for cell in found if isinstance(cell, Watch) and not cell.own]
    if len(watches) > 1:
        lines = _lines([(f"{cell.streams:,}", found[cell]) for cell in watches], "last_p50_ms")
        made["registry-last-watcher"] = line_chart("ms from a change to the last watcher, median", "watchers", lines)
    return made


def _lines(columns: Sequence[tuple[str, Mapping[str, Figures]]], name: str) -> list[Line]:
    worlds = list(dict.fromkeys(world for _, figures in columns for world in figures))
    lines = []
    for world in worlds:
        points = [(tick, figures.get(world, {}).get(name, [])) for tick, figures in columns]
        lines.append(Line(NAMES[world], [(tick, median(v), min(v), max(v)) for tick, v in points if v]))
    return [line for line in lines if line.points]
