"""Plots as plain SVG text: medians as lines, ranges as thin bars, one label at each line's end.

No library: the benches need three shapes, and a file that a browser and a
repository's page show as it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

Point = tuple[str, float, float, float]
"""Where on the x axis, median, lowest, highest."""

COLOURS = ("#4c566a", "#2a78b8", "#d1495b", "#3a8f5c", "#b7791f", "#7b5ea7", "#1b998b", "#8d6e63", "#e07a5f", "#5c6bc0")
"""Told apart on white, in print, and by most who see few colours."""
WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 150, 48, 52
FONT = 'font-family="system-ui, sans-serif"'


@dataclass(frozen=True)
class Line:
    """One world's line."""

    name: str
    points: Sequence[Point]


def line_chart(title: str, x_title: str, lines: Sequence[Line], *, mark: float | None = None) -> str:
    """Lines over categories, on a logarithmic y axis; `mark` is a dashed line across."""
    ticks = list(dict.fromkeys(point[0] for line in lines for point in line.points))
    values = [v for line in lines for point in line.points for v in point[1:] if v > 0] + ([mark] if mark else [])
    low, high = _decades(min(values), max(values))

    def x(tick: str) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((ticks.index(tick) + 0.5) / len(ticks))

    def y(value: float) -> float:
        share = (math.log10(max(value, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    parts = [_text(LEFT, 26, title, size=15, weight=600), *_grid(low, high, y)]
    parts += [_text(x(tick), HEIGHT - BOTTOM + 20, tick, anchor="middle") for tick in ticks]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_title, anchor="middle"))
    if mark is not None:
        parts.append(_rule(y(mark), "#222", ' stroke-dasharray="5 4"'))
    ends = _spaced([y(line.points[-1][1]) for line in lines])
    for number, (line, end) in enumerate(zip(lines, ends, strict=True)):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(tick):.1f},{y(middle):.1f}" for tick, middle, _, _ in line.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for tick, middle, least, most in line.points:
            at = x(tick)
            bar = f'x1="{at:.1f}" x2="{at:.1f}" y1="{y(least):.1f}" y2="{y(most):.1f}"'
            parts.append(f'<line {bar} stroke="{colour}" stroke-width="1.2" opacity=".6"/>')
            parts.append(f'<circle cx="{at:.1f}" cy="{y(middle):.1f}" r="3.2" fill="{colour}"/>')
        parts.append(_text(WIDTH - RIGHT + 6, end + 4, line.name, colour=colour, weight=600))
    return _document(parts)


def _decades(low: float, high: float) -> tuple[float, float]:
    """The axis' ends: the nearest 1, 2 or 5 of a decade outside both."""
    steps = [step * 10.0**power for power in range(-9, 13) for step in (1, 2, 5)]
    return max(s for s in steps if s <= low * 0.95), min(s for s in steps if s >= high * 1.05)


def _grid(low: float, high: float, y: object) -> list[str]:
    assert callable(y)
    steps = [step * 10.0**power for power in range(-9, 13) for step in (1, 2, 5)]
    inside = [s for s in steps if low <= s * 1.0001 and s <= high * 1.0001]
    if len(inside) > 10:
        inside = [s for s in inside if math.isclose(math.log10(s) % 1, 0, abs_tol=1e-9) or s in (low, high)]
    parts = []
    for step in inside:
        parts += [_rule(y(step), "#ddd"), _text(LEFT - 8, y(step) + 4, _number(step), anchor="end")]
    return parts


def _spaced(ends: Sequence[float], gap: float = 15) -> list[float]:
    """The labels' heights, pushed apart so that none covers another."""
    order = sorted(range(len(ends)), key=lambda number: ends[number])
    placed = list(ends)
    for above, below in itertools.pairwise(order):
        placed[below] = max(placed[below], placed[above] + gap)
    overhang = max([0.0, *(placed[number] - (HEIGHT - BOTTOM) for number in order[-1:])])
    return [at - overhang for at in placed]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _rule(at: float, colour: str, more: str = "") -> str:
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="{colour}"{more}/>'


def _text(
    x: float, y: float, content: str, *, size: int = 12, anchor: str = "start", colour: str = "#333", weight: int = 400
) -> str:
    style = f'{FONT} font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(content)}</text>'


def _document(parts: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
