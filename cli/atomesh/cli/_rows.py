"""Rows of cells under headings, each with lines of its own below it, in as many columns as there are.

A rich table breaks a long cell over lines within its column, where words are
cut and ids cannot be copied. Here columns fall away or are cut as it gets
narrow, and what is long stands below its row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

_GAP = 2
_INDENT = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column; it is not shown where all its cells are empty."""

    name: str
    right: bool = False
    drop: int = 0
    """Where it is narrow, the column with the highest falls away first; 0 stays."""
    least: int = 0
    """Cut down to so many characters before rows get too wide; 0 is never cut."""
    most: int = 0
    """Never wider where there is a width at all; 0 is as wide as its longest cell."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its cells by their column's name, and what stands below it."""

    cells: Mapping[str, Text]
    below: Sequence[Text] = ()


def laid_out(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[Text]:
    """The lines, headings first; None is as wide as it takes."""
    widths = _widths(columns, rows, width)
    shown = [column for column in columns if column.name in widths]
    lines = [_line(shown, widths, {column.name: Text(column.name, style="dim") for column in shown})]
    for row in rows:
        lines.append(_line(shown, widths, row.cells))
        for text in row.below:
            lines += wrapped(text, width, indent=_INDENT)
    return lines


def wrapped(text: Text, width: int | None, *, indent: int = 0) -> list[Text]:
    """The text on as many lines as it takes, broken between words; lines after the first are set in."""
    margin = " " * indent
    if width is None or text.cell_len + indent <= width:
        return [Text(margin).append_text(text)]
    room = max(8, width - indent - _INDENT)
    parts = text.wrap(Console(width=room), room, overflow="fold")
    return [Text(margin + (" " * _INDENT if place else "")).append_text(part) for place, part in enumerate(parts)]


def cut(text: Text, width: int) -> Text:
    """The text in at most so many columns, an ellipsis where some of it is missing."""
    short = text.copy()
    short.truncate(max(1, width), overflow="ellipsis")
    return short


def show(out: Console, lines: Iterable[Text]) -> None:
    """Prints lines as they are laid out."""
    for line in lines:
        line.rstrip()
        out.print(line, soft_wrap=True)


def room(out: Console) -> int | None:
    """What `laid_out` may use: a terminal's columns, or as many as it takes."""
    return out.width if out.is_terminal else None


def _widths(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> dict[str, int]:
    """How wide each column that is shown is."""
    widths: dict[str, int] = {}
    for column in columns:
        longest = max((row.cells[column.name].cell_len for row in rows if column.name in row.cells), default=0)
        if longest:
            widths[column.name] = max(longest, len(column.name))
    if width is None:
        return widths
    widths |= {c.name: min(c.most, widths[c.name]) for c in columns if c.most and c.name in widths}
    for column in sorted((c for c in columns if c.drop), key=lambda column: -column.drop):
        if _total(widths) <= width:
            break
        widths.pop(column.name, None)
    while (over := _total(widths) - width) > 0:
        spare = {c.name: widths[c.name] - c.least for c in columns if c.least and widths.get(c.name, 0) > c.least}
        if not spare:
            break
        most = max(spare, key=lambda name: spare[name])
        widths[most] -= min(over, spare[most])
    return widths


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + _GAP * max(0, len(widths) - 1)


def _line(columns: Sequence[Column], widths: Mapping[str, int], cells: Mapping[str, Text]) -> Text:
    line = Text()
    for place, column in enumerate(columns):
        text = cut(cells.get(column.name, Text()), widths[column.name])
        pad = " " * (widths[column.name] - text.cell_len)
        line.append(" " * _GAP if place else "")
        line.append_text(Text(pad).append_text(text) if column.right else text.append(pad))
    return line
