"""The tables, targets and plots of bench_mux."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks._harness import Figures, median, ratios
from benchmarks._report import show, spread, table, verdict
from benchmarks._svg import Line, line_chart

if TYPE_CHECKING:
    from benchmarks.bench_mux import Cell

Found = Mapping["Cell", Mapping[str, Figures]]

NAMES = {"raw": "bare grpc.aio", "unary": "mesh, unary", "mux": "mesh, mux", "go": "bare grpc-go"}
RATE_TARGETS = {
    (1, 1): 1.4, (1, 8): 3.0, (1, 32): 6.0, (1, 128): 10.0,
    (3, 32): 3.5, (3, 128): 8.0,
}  # fmt: skip
"""Mux over bare throughput, by endpoints and concurrency."""
CPU_TARGET = 40.0
"""Microseconds per call of both sides at concurrency 32."""
BESIDE_TARGET = 0.35
"""p99 of small calls beside large ones, mux over unary."""
LARGE_TARGET = 0.8
"""Calls of 1 MiB per second, mux over unary."""


def show_all(found: Found) -> None:
    """Prints a table per group, and the targets."""
    tables = [_group(found, group) for group in ("rate", "size", "beside")]
    wanted = targets({cell: worlds for cell, worlds in found.items() if worlds.get("mux")})
    show(*(one for one in [*tables, wanted] if one.row_count))


def _group(found: Found, group: str) -> Table:
    titles = {
        "rate": "300 B there and back; median (range)",
        "size": "larger payloads there and back",
        "beside": "300 B beside two loops of 1 MiB calls",
    }
    columns = [
        "endpoints",
        "at once",
        "world",
        "calls/s",
        "of bare",
        "p50 ms",
        "p99 ms",
        "CPU us/call",
        "client/server",
    ]
    made = table(titles[group], *columns, *(["1 MiB calls/s"] if group == "beside" else []))
    for cell, worlds in found.items():
        if cell.group != group:
            continue
        size = f"{cell.size >> 10} KiB, " if group == "size" else ""
        for number, (world, figures) in enumerate(worlds.items()):
            where = (str(cell.endpoints), f"{size}{cell.concurrency}") if number == 0 else ("", "")
            made.add_row(*where, *_row(worlds, world, figures, group), end_section=number == len(worlds) - 1)
    return made


def _row(worlds: Mapping[str, Figures], world: str, figures: Figures, group: str) -> list[str]:
    of_bare = spread(ratios(worlds, world, "raw", "rate"), 2) if world != "raw" else ""
    sides = "/".join(f"{median(figures.get(side, [])):.0f}" for side in ("client_cpu_us", "server_cpu_us"))
    cells = [NAMES[world], spread(figures.get("rate", [])), of_bare]
    cells += [spread(figures.get(name, []), 2) for name in ("p50_ms", "p99_ms")]
    cells += [spread(figures.get("cpu_us", [])), sides]
    return [*cells, spread(figures.get("rate_2", []))] if group == "beside" else cells


def targets(found: Found) -> Table:
    """What was wanted of the mux, and whether it holds."""
    made = table("targets of the mux", "what", "found", "wanted", "verdict")
    for cell, worlds in found.items():
        at = f"{cell.endpoints} endpoint{'s' if cell.endpoints > 1 else ''}, {cell.concurrency} at once"
        wanted = RATE_TARGETS.get((cell.endpoints, cell.concurrency))
        if cell.group == "rate" and wanted is not None:
            made.add_row(*verdict(f"calls/s over bare, {at}", ratios(worlds, "mux", "raw", "rate"), wanted))
        if cell.group == "rate" and cell.concurrency == 32 and cell.endpoints == 1:
            cpu = worlds.get("mux", {}).get("cpu_us", [])
            made.add_row(*verdict(f"CPU us per call, both sides, {at}", cpu, CPU_TARGET, at_most=True))
        # "Unary" is the mesh's own; bare gRPC, with nothing of a mesh, is the harder one.
        for other, name in (("unary", "unary"), ("raw", "bare")):
            if cell.group == "beside":
                p99 = ratios(worlds, "mux", other, "p99_ms")
                made.add_row(*verdict(f"p99 beside 1 MiB calls over {name}, {at}", p99, BESIDE_TARGET, at_most=True))
            if cell.group == "size" and cell.size == 1 << 20:
                rate = ratios(worlds, "mux", other, "rate")
                made.add_row(*verdict(f"1 MiB calls/s over {name}, {at}", rate, LARGE_TARGET))
    return made


def plots(found: Found) -> dict[str, str]:
    """Calls per second and CPU per call over concurrency, for each number of endpoints."""
    made: dict[str, str] = {}
    for endpoints in sorted({cell.endpoints for cell in found if cell.group == "rate"}):
        chosen = {c: w for c, w in found.items() if c.group == "rate" and c.endpoints == endpoints}
        if len(chosen) < 2:
            continue
        where = f"{endpoints} endpoint{'s' if endpoints > 1 else ''}"
        for name, label in (("rate", "calls per second"), ("cpu_us", "CPU us per call, both sides")):
            made[f"mux-{name.removesuffix('_us')}-{endpoints}"] = line_chart(
                f"{label}, 300 B, {where}", "calls at once", _lines(chosen, name)
            )
    return made


def _lines(chosen: Mapping[Any, Mapping[str, Figures]], name: str) -> list[Line]:
    worlds = list(dict.fromkeys(world for found in chosen.values() for world in found))
    lines = []
    for world in worlds:
        points = [(str(c.concurrency), found[world].get(name, [])) for c, found in chosen.items() if world in found]
        lines.append(Line(NAMES[world], [(x, median(v), min(v), max(v)) for x, v in points if v]))
    return [line for line in lines if line.points]
