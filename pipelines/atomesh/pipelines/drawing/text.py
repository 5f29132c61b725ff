"""A pipeline as text for a terminal: boxes in layers, or a list of them where they are too many for its width."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from atomesh.pipelines.drawing.chart import INPUT, OUTPUT, Box, Chart, chart_of, shortened
from atomesh.pipelines.drawing.layers import Key, Layers, depths, in_layers, places
from atomesh.pipelines.drawing.tracks import Net, nets_between, rows_between
from atomesh.pipelines.model import PipelineSpec
from atomesh.pipelines.plan import Plan

_INNER = (48, 32, 24, 18)
"""Widths of a box's text that are tried, the widest first. Below the last, lines of a few words break in three."""
_GAP = 3
_NARROWEST = 40


def as_text(spec: PipelineSpec, plan: Plan | None = None, width: int = 80) -> str:
    """The pipeline for a terminal of so many columns; at least 40 are taken.

    Raises:
        PipelineInvalid: a stage reads one that is not there, or stages wait for one another.
    """
    chart, width = chart_of(spec, plan), max(width, _NARROWEST)
    heading = [chart.title, *_wrapped(chart.about, width)]
    before = _before(chart)
    boxes = [box.id for box in chart.boxes]
    layers = in_layers(boxes, before, most=len(boxes) * width // _GAP)
    drawn = None
    if layers is not None and max(map(len, layers.rows)) <= width // _GAP:
        drawn = next((found for inner in _INNER if (found := _drawn(chart, layers, inner, width)) is not None), None)
    body = _told(chart, depths(boxes, before), width) if drawn is None else drawn
    return "\n".join(line.rstrip() for line in [*heading, "", *body]) + "\n"


def _before(chart: Chart) -> dict[str, list[str]]:
    before: dict[str, list[str]] = {box.id: [] for box in chart.boxes}
    for edge in chart.edges:
        before[edge.target].append(edge.source)
    return before


# -- drawn -------------------------------------------------------------------


def _drawn(chart: Chart, layers: Layers, inner: int, width: int) -> list[str] | None:
    """The graph; None where it is too wide, or its lines could not be told apart."""
    frames = {layers.boxes[box.id]: _frame(box, inner) for box in chart.boxes}
    sizes = {key: cell_len(frames[key][0]) if key in frames else 1 for row in layers.rows for key in row}
    exact = places(layers, lambda key: float(sizes[key]), _GAP)
    # Floored alike, boxes keep their distances, and what stood in a line still does.
    at = {key: math.floor(place) for key, place in exact.items()}
    least = min(at[key] - sizes[key] // 2 for key in at)
    at = {key: place - least for key, place in at.items()}
    if max(at[key] + sizes[key] // 2 for key in at) >= width:
        return None
    # Not at its corners.
    reach = {key: max(size // 2 - 2, 0) for key, size in sizes.items()}
    lines: list[str] = []
    for level, row in enumerate(layers.rows):
        lines += _row(row, frames, at)
        if level + 1 < len(layers.rows):
            nets = nets_between({key: layers.down[key] for key in row if layers.down[key]}, at, reach)
            between = None if nets is None else rows_between(nets, width)
            if nets is None or between is None:
                return None
            lines += [*_types(chart, row, layers, at, width), *between]
            lines.append(_arrows(layers.rows[level + 1], frames, nets, at))
    return lines


def _frame(box: Box, inner: int) -> list[str]:
    """A box's lines, all of one odd width, so that it has a middle."""
    content = [*_wrapped(box.title, inner), *itertools.chain.from_iterable(_wrapped(fact, inner) for fact in box.facts)]
    wide = max(map(cell_len, content))
    wide += 1 - wide % 2
    rows = [f"│ {line}{' ' * (wide - cell_len(line))} │" for line in content]
    top, bottom = ("╭╮", "╰╯") if box.id in (INPUT, OUTPUT) else ("┌┐", "└┘")
    rule = "─" * (wide + 2)
    return [f"{top[0]}{rule}{top[1]}", *rows, f"{bottom[0]}{rule}{bottom[1]}"]


def _row(row: Sequence[Key], frames: Mapping[Key, list[str]], at: Mapping[Key, int]) -> list[str]:
    """Boxes side by side, and the lines that pass between them."""
    height = max((len(frames[key]) for key in row if key in frames), default=0)
    lines = []
    for number in range(height):
        line = ""
        for key in row:
            frame = frames.get(key, [])
            # Below a box that ends early, and in a lane, the line goes on.
            piece = frame[number] if number < len(frame) else "│"
            line += " " * (at[key] - cell_len(piece) // 2 - cell_len(line)) + piece
        lines.append(line)
    return lines


def _types(chart: Chart, row: Sequence[Key], layers: Layers, at: Mapping[Key, int], width: int) -> list[str]:
    """A row with the type that goes down each line, where there are types."""
    if not any(key[0] in chart.gives and not layers.is_lane(key) for key in row):
        return []
    line = ""
    starts = [key for key in row if layers.down[key]]
    for number, key in enumerate(starts):
        end = at[starts[number + 1]] if number + 1 < len(starts) else width
        label = "" if layers.is_lane(key) else chart.gives.get(key[0], "")
        room = end - at[key] - 3
        label = shortened(label, room) if room > 5 else ""
        line += " " * (at[key] - cell_len(line)) + (f"│ {label}" if label else "│")
    return [line]


def _arrows(row: Sequence[Key], frames: Mapping[Key, list[str]], nets: Sequence[Net], at: Mapping[Key, int]) -> str:
    lanes = {at[key] for key in row if key not in frames}
    columns = sorted(column for net in nets for column in net.targets)
    line = ""
    for column in columns:
        line += " " * (column - len(line)) + ("│" if column in lanes else "▼")
    return line


# -- told --------------------------------------------------------------------


def _told(chart: Chart, depth: Mapping[str, int], width: int) -> list[str]:
    """The stages by layer: those with one number can run side by side."""
    labels: dict[str, list[str]] = {box.id: [] for box in chart.boxes}
    for edge in chart.edges:
        source = edge.source.lstrip("$")
        what = f" ({edge.label})" if edge.label else ""
        labels[edge.target].append(f"after {source}" if edge.waits else f"{source}{what}")
    aside = len(str(max(depth.values()))) + 2
    column = min(max(cell_len(box.title) for box in chart.boxes), width // 3) + 2
    lines: list[str] = []
    last = -1
    for box in sorted(chart.boxes, key=lambda box: depth[box.id]):
        number = f"{depth[box.id]:>{aside - 2}}" if depth[box.id] != last else ""
        last = depth[box.id]
        said = [*box.facts, *([f"reads {', '.join(labels[box.id])}"] if labels[box.id] else [])]
        facts = list(itertools.chain.from_iterable(_wrapped(fact, width - aside - column) for fact in said))
        titles = _wrapped(box.title, column - 2)
        for title, fact in itertools.zip_longest(titles, facts, fillvalue=""):
            lines.append(f"{number:{aside}}{title}{' ' * (column - cell_len(title))}{fact}")
            number = ""
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines of so many columns, broken between words, and within those that are longer."""
    lines, line = [], ""
    for word in text.split():
        while word:
            joined = f"{line} {word}" if line else word
            if cell_len(joined) <= width:
                line, word = joined, ""
            elif line:
                lines.append(line)
                line = ""
            else:
                cut = next(end for end in range(len(word), 0, -1) if cell_len(word[:end]) <= width)
                lines, word = [*lines, word[:cut]], word[cut:]
    return [*lines, line] if line else lines
