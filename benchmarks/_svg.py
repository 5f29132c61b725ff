"""Plots as plain SVG text: medians, with thin bars for ranges, on a logarithmic axis.

No library: the benches need two shapes, and a file that a browser and a
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

COLOURS = ("#4c566a", "#2a78b8", "#d1495b", "#3a8f5c", "#b7791f", "#7b5ea7", "#0f9ea8", "#8d6e63", "#e0662f", "#5c6bc0")
"""Told apart on white, in print, and by most who see few colours."""
WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 190, 48, 52
FONT = 'font-family="system-ui, sans-serif"'
_STEPS = [step * 10.0**power for power in range(-9, 13) for step in (1, 2, 5)]


@dataclass(frozen=True)
class Line:
    """One world's points."""

    name: str
    points: Sequence[Point]


class _Axes:
    """Places for categories and values."""

    def __init__(self, lines: Sequence[Line], mark: float | None) -> None:
        self.ticks = list(dict.fromkeys(point[0] for line in lines for point in line.points))
        values = [v for line in lines for point in line.points for v in point[1:] if v > 0]
        values += [mark] if mark else []
        self.low = max(step for step in _STEPS if step <= min(values) * 0.95)
        self.high = min(step for step in _STEPS if step >= max(values) * 1.05)
        self.span = (WIDTH - LEFT - RIGHT) / len(self.ticks)

    def x(self, tick: str) -> float:
        return LEFT + self.span * (self.ticks.index(tick) + 0.5)

    def y(self, value: float) -> float:
        share = math.log10(max(value, self.low) / self.low) / math.log10(self.high / self.low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    def draw(self, x_title: str) -> list[str]:
        """Both axes, with lines across at round numbers."""
        inside = [step for step in _STEPS if self.low <= step * 1.0001 and step <= self.high * 1.0001]
        if len(inside) > 10:
            inside = [step for step in inside if round(math.log10(step), 6).is_integer()]
        parts = []
        for step in inside:
            number = f"{step:,.0f}" if step >= 1 else f"{step:g}"
            parts += [_rule(self.y(step), "#ddd"), _text(LEFT - 8, self.y(step) + 4, number, anchor="end")]
        parts += [_text(self.x(tick), HEIGHT - BOTTOM + 20, tick, anchor="middle") for tick in self.ticks]
        return [*parts, _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_title, anchor="middle")]


def line_chart(title: str, x_title: str, lines: Sequence[Line]) -> str:
    """Lines over ordered categories, each named at its end."""
    axes = _Axes(lines, None)
    parts = [_title(title), *axes.draw(x_title)]
    ends = _spaced([axes.y(line.points[-1][1]) for line in lines])
    for line, end, colour in zip(lines, ends, itertools.cycle(COLOURS), strict=False):
        path = " ".join(f"{axes.x(tick):.1f},{axes.y(middle):.1f}" for tick, middle, _, _ in line.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += _points(axes, line, 0.0, colour)
        parts.append(_text(WIDTH - RIGHT + 6, end + 4, line.name, colour=colour, bold=True))
    return _document(parts)


def dot_chart(title: str, x_title: str, lines: Sequence[Line], mark: float) -> str:
    """Points side by side within categories that have no order; `mark` is a dashed line across."""
    axes = _Axes(lines, mark)
    parts = [_title(title), *axes.draw(x_title)]
    parts.append(_rule(axes.y(mark), "#222", ' stroke-dasharray="5 4"'))
    for number, (line, colour) in enumerate(zip(lines, itertools.cycle(COLOURS), strict=False)):
        aside = axes.span * 0.7 * ((number + 0.5) / len(lines) - 0.5)
        parts += _points(axes, line, aside, colour)
        at = TOP + 8 + 18 * number
        parts.append(f'<circle cx="{WIDTH - RIGHT + 12}" cy="{at}" r="4" fill="{colour}"/>')
        parts.append(_text(WIDTH - RIGHT + 22, at + 4, line.name, colour=colour, bold=True))
    return _document(parts)


def _points(axes: _Axes, line: Line, aside: float, colour: str) -> list[str]:
    parts = []
    for tick, middle, least, most in line.points:
        at = axes.x(tick) + aside
        bar = f'x1="{at:.1f}" x2="{at:.1f}" y1="{axes.y(least):.1f}" y2="{axes.y(most):.1f}"'
        parts.append(f'<line {bar} stroke="{colour}" stroke-width="1.2" opacity=".6"/>')
        parts.append(f'<circle cx="{at:.1f}" cy="{axes.y(middle):.1f}" r="3.2" fill="{colour}"/>')
    return parts


def _spaced(ends: Sequence[float], gap: float = 15) -> list[float]:
    """The labels' heights, pushed apart so that none covers another."""
    order = sorted(range(len(ends)), key=lambda number: ends[number])
    placed = list(ends)
    for above, below in itertools.pairwise(order):
        placed[below] = max(placed[below], placed[above] + gap)
    overhang = max([0.0, *(placed[number] - (HEIGHT - BOTTOM) for number in order[-1:])])
    return [at - overhang for at in placed]


def _rule(at: float, colour: str, more: str = "") -> str:
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="{colour}"{more}/>'


def _title(content: str) -> str:
    return _text(LEFT, 26, content, bold=True).replace('font-size="12"', 'font-size="15"')


def _text(x: float, y: float, content: str, *, anchor: str = "start", colour: str = "#333", bold: bool = False) -> str:
    style = f'{FONT} font-size="12" font-weight="{600 if bold else 400}" fill="{colour}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(content)}</text>'


def _document(parts: Sequence[str]) -> str:
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    body = "\n".join(['<rect width="100%" height="100%" fill="#fff"/>', *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{body}\n</svg>\n'
