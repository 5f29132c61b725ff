"""A pipeline as a picture: SVG that needs nothing else and suits light pages and dark ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from rich.cells import cell_len

from atomesh.pipelines.drawing.chart import INPUT, OUTPUT, Box, Chart, Edge, chart_of, shortened
from atomesh.pipelines.drawing.layers import in_layers, places, without_lanes
from atomesh.pipelines.model import PipelineSpec
from atomesh.pipelines.plan import Plan

_LETTER, _LINE = 7.3, 17.0
"""Pixels of a character of 12 px monospace, which is 0.6 of its size in most faces, and of a line."""
_TEXT = 46
"""Characters of a line in a box; the whole of it is in the box's tooltip."""
_PAD, _MARGIN, _GAP, _ROOM = 12.0, 24.0, 28.0, 44.0
_MOST_LABELS = 8
"""Labels above one box. More would push the layers apart; the others are in the edges' tooltips."""
_STYLE = """
.atomesh-pipeline{--ground:#ffffff;--box:#f3f6fa;--end:#e6f2ec;--rim:#4c566a;--ink:#1d2530;--soft:#55606f;--line:#2a78b8}
@media (prefers-color-scheme:dark){
.atomesh-pipeline{--ground:#14181f;--box:#1f2630;--end:#1c2f28;--rim:#8b97a8;--ink:#e8edf3;--soft:#aab5c3;--line:#6db3ea}}
.atomesh-pipeline text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:var(--ink);white-space:pre}
.atomesh-pipeline .t{font-weight:700}
.atomesh-pipeline .f{fill:var(--soft)}
.atomesh-pipeline .l{fill:var(--soft);font-size:11px;paint-order:stroke;stroke:var(--ground);stroke-width:4px;text-anchor:middle}
.atomesh-pipeline rect{fill:var(--box);stroke:var(--rim);stroke-width:1.2}
.atomesh-pipeline .e{fill:var(--end)}
.atomesh-pipeline .g{fill:var(--ground);stroke:none}
.atomesh-pipeline path{fill:none;stroke:var(--line);stroke-width:1.5}
.atomesh-pipeline .w{stroke-dasharray:5 4}
.atomesh-pipeline marker path{fill:var(--line);stroke:none}
"""


def as_svg(spec: PipelineSpec, plan: Plan | None = None) -> str:
    """The pipeline as the text of an SVG file.

    Raises:
        PipelineInvalid: a stage reads one that is not there, or stages wait for one another.
    """
    return _Picture(chart_of(spec, plan)).text()


@dataclass(frozen=True)
class _Frame:
    """A box and what stands in it."""

    box: Box
    lines: tuple[str, ...]
    entries: tuple[Edge, ...]

    @property
    def width(self) -> float:
        labels = [cell_len(edge.label) * 0.92 for edge in self.entries[:_MOST_LABELS]]
        return max([cell_len(line) for line in self.lines] + labels) * _LETTER + 2 * _PAD

    @property
    def height(self) -> float:
        return len(self.lines) * _LINE + _PAD


class _Picture:
    """One chart, placed."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        entries: dict[str, list[Edge]] = {box.id: [] for box in chart.boxes}
        for edge in chart.edges:
            entries[edge.target].append(edge)
        boxes = [box.id for box in chart.boxes]
        before = {box: [edge.source for edge in entries[box]] for box in boxes}
        self._layers = in_layers(boxes, before) or without_lanes(boxes, before)
        frames = {box.id: _frame(box, entries[box.id]) for box in chart.boxes}
        widths = {self._layers.boxes[box]: frame.width for box, frame in frames.items()}
        self._x = places(self._layers, lambda key: widths.get(key, 2.0), _GAP)
        self._frames = {box: self._sorted(frame) for box, frame in frames.items()}
        self._tops, self._bottoms, self._height = self._levels()
        self._width = max(self._x[key] + widths.get(key, 2.0) / 2 for key in self._x)

    def _sorted(self, frame: _Frame) -> _Frame:
        """Its entries from left to right by where they come from, so that they do not cross above it."""

        def column(edge: Edge) -> float:
            lane = (edge.source, self._layers.boxes[frame.box.id][1] - 1)
            return self._x.get(lane, self._x[self._layers.boxes[edge.source]])

        return _Frame(frame.box, frame.lines, tuple(sorted(frame.entries, key=column)))

    def _levels(self) -> tuple[list[float], list[float], float]:
        tops: list[float] = []
        bottoms: list[float] = []
        y = 2 * _LINE
        for row in self._layers.rows:
            frames = [self._frames[key[0]] for key in row if not self._layers.is_lane(key)]
            labels = max((min(sum(bool(e.label) for e in f.entries), _MOST_LABELS) for f in frames), default=0)
            y += (_ROOM + labels * _LINE) if tops else 0.0
            tops.append(y)
            y += max((frame.height for frame in frames), default=_LINE)
            bottoms.append(y)
        return tops, bottoms, y

    # -- text ----------------------------------------------------------------

    def text(self) -> str:
        width, height = max(self._width, 240.0) + 2 * _MARGIN, self._height + 2 * _MARGIN
        size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
        named = escape(self._chart.title)
        about = f"<desc>{escape(self._chart.about)}</desc>" if self._chart.about else ""
        marker = (
            '<defs><marker id="atomesh-arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z"/></marker></defs>'
        )
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="atomesh-pipeline" role="img" {size}>',
            f"<title>{named}</title>{about}<style>{_STYLE}</style>{marker}",
            '<rect class="g" width="100%" height="100%"/>',
            f'<g transform="translate({_MARGIN:.0f} {_MARGIN:.0f})">',
            f'<text class="t" x="0" y="10">{named}</text>',
        ]
        edges = [self._lanes(box) for box in self._frames]
        edges += [self._edge(edge, place) for frame in self._frames.values() for place, edge in _placed(frame)]
        labels = [text for frame in self._frames.values() for text in self._labels(frame)]
        return "\n".join(
            [*parts, *filter(None, edges), *map(self._box, self._frames.values()), *labels, "</g>", "</svg>", ""]
        )

    def _lanes(self, source: str) -> str:
        """The way of a box's edges through the layers below it, once for all of them; dashed where none reads."""
        out = [edge for edge in self._chart.edges if edge.source == source]
        depth = {edge.target: self._layers.boxes[edge.target][1] for edge in out}
        read = max((depth[edge.target] for edge in out if not edge.waits), default=0)
        x, y, paths = *self._foot(source), {"": "", ' class="w"': ""}
        for lane in self._layers.lanes(source):
            kind = "" if lane[1] < read else ' class="w"'
            start = "" if paths[kind] else f"M{x:.1f} {y:.1f}"
            paths[kind] += start + _curve(x, y, self._x[lane], self._tops[lane[1]]) + f"V{self._bottoms[lane[1]]:.1f}"
            x, y = self._x[lane], self._bottoms[lane[1]]
        return "".join(f'<path{kind} d="{path}"/>' for kind, path in paths.items() if path)

    def _edge(self, edge: Edge, aside: float) -> str:
        """From the one's foot, or its last lane, to the other's head."""
        end = self._layers.boxes[edge.target]
        x, y = self._leaves(edge)
        top = self._tops[end[1]] - (6 if self._frames[edge.target].box.maps else 1)
        path = f"M{x:.1f} {y:.1f}" + _curve(x, y, self._x[end] + aside, top)
        kind = ' class="w"' if edge.waits else ""
        told = f"{edge.source.lstrip('$')} to {edge.target.lstrip('$')}" + (f": {edge.label}" if edge.label else "")
        return f'<path{kind} d="{path}" marker-end="url(#atomesh-arrow)"><title>{escape(told)}</title></path>'

    def _foot(self, box: str) -> tuple[float, float]:
        key = self._layers.boxes[box]
        return self._x[key], self._tops[key[1]] + self._frames[box].height

    def _leaves(self, edge: Edge) -> tuple[float, float]:
        """Where it is before its last layer."""
        lane = (edge.source, self._layers.boxes[edge.target][1] - 1)
        if lane == self._layers.boxes[edge.source] or lane not in self._x:
            return self._foot(edge.source)
        return self._x[lane], self._bottoms[lane[1]]

    def _box(self, frame: _Frame) -> str:
        key = self._layers.boxes[frame.box.id]
        left, top = self._x[key] - frame.width / 2, self._tops[key[1]]
        end = frame.box.id in (INPUT, OUTPUT)
        kind = f'class="e" rx="{min(16.0, frame.height / 2):.0f}"' if end else 'rx="4"'
        place = f'x="{left:.1f}" y="{top:.1f}" width="{frame.width:.1f}" height="{frame.height:.1f}"'
        told = "\n".join(filter(None, (frame.box.title, *frame.box.facts, frame.box.about)))
        parts = [f"<g><title>{escape(told)}</title><rect {kind} {place}/>"]
        if frame.box.maps:  # a second rim, as of a stack of them
            parts.insert(1, f'<rect rx="4" transform="translate(5 -5)" {place}/>')
            parts[0], parts[1] = f"<g><title>{escape(told)}</title>", parts[1] + f"<rect {kind} {place}/>"
        for number, line in enumerate(frame.lines):
            x, y = left + _PAD, top + _PAD / 2 + _LINE * number + 13
            parts.append(f'<text class="{"f" if number else "t"}" x="{x:.1f}" y="{y:.1f}">{escape(line)}</text>')
        return "".join([*parts, "</g>"])

    def _labels(self, frame: _Frame) -> list[str]:
        """What each entry brings, one above the other so that none covers its neighbour."""
        key = self._layers.boxes[frame.box.id]
        top = self._tops[key[1]]
        said = [(place, edge) for place, edge in _placed(frame) if edge.label][:_MOST_LABELS]
        return [
            f'<text class="l" x="{self._x[key] + place:.1f}" y="{top - 14 - _LINE * number:.1f}">{escape(edge.label)}</text>'
            for number, (place, edge) in enumerate(said)
        ]


def _frame(box: Box, entries: Sequence[Edge]) -> _Frame:
    lines = (box.title, *box.facts)
    return _Frame(box, tuple(shortened(line, _TEXT) for line in lines), tuple(entries))


def _placed(frame: _Frame) -> list[tuple[float, Edge]]:
    """Its entries along its head, from the middle."""
    count = len(frame.entries)
    span = frame.width * 0.6
    return [(span * ((place + 0.5) / count - 0.5), edge) for place, edge in enumerate(frame.entries)]


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    if abs(x - to_x) < 0.1:
        return f"V{to_y:.1f}"
    middle = (y + to_y) / 2
    return f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
