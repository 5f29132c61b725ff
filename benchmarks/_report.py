"""What a bench leaves: tables on the terminal, JSON and SVG in benchmarks/results/."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks._harness import median

RESULTS = Path(__file__).parent / "results"


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median and range, the latter where there is one; a dash where nothing was measured."""
    if not values:
        return "-"
    low, high = min(values), max(values)
    if round(low, digits) == round(high, digits):
        return f"{median(values):,.{digits}f}"
    return f"{median(values):,.{digits}f} [dim]({low:,.{digits}f}-{high:,.{digits}f})[/dim]"


def table(title: str, *columns: str) -> Table:
    """A table as all benches print it: figures to the right."""
    made = Table(title=title, title_justify="left")
    for column in columns:
        made.add_column(column, justify="left" if column in ("world", "cell", "what") else "right")
    return made


def show(*tables: Table) -> None:
    """Prints; as wide as the figures are where nobody watches."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    for one in tables:
        console.print(one)


def machine(**more: object) -> dict[str, object]:
    """What the figures belong to."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "grpcio": metadata.version("grpcio"),
        "protobuf": metadata.version("protobuf"),
        "cores": os.cpu_count(),
        "cpu": model,
        "load_average": os.getloadavg()[0],
        **more,
    }


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def write(name: str, report: Mapping[str, Any], plots: Mapping[str, str] | None = None) -> None:
    """Writes results/<name>.json, and each plot as results/<its name>.svg, and says where."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    for plot, content in (plots or {}).items():
        (RESULTS / f"{plot}.svg").write_text(content)
    names = [f"{name}.json", *(f"{plot}.svg" for plot in plots or {})]
    print(f"written to {RESULTS}/: {', '.join(names)}")


def verdict(name: str, values: Sequence[float], target: float, *, at_most: bool = False) -> tuple[str, ...]:
    """A row of the table of targets: what, found, wanted, and whether it holds."""
    if not values:
        return name, "-", _bound(target, at_most), "not measured"
    middle = median(values)
    holds = middle <= target if at_most else middle >= target
    return name, spread(values, 2), _bound(target, at_most), "[green]met[/green]" if holds else "[red]missed[/red]"


def _bound(target: float, at_most: bool) -> str:
    return f"{'at most' if at_most else 'at least'} {target:g}"
