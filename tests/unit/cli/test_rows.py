"""Rows that are as wide as their terminal, with what is long below them."""

from __future__ import annotations

import pytest
from rich.text import Text

from atomesh.cli._rows import Column, Row, cut, laid_out, wrapped

COLUMNS = (Column("run"), Column("pipeline", least=8), Column("took", right=True, drop=1), Column("note"))
LONG = "the words are bad, and this message goes on for longer than any terminal is wide"


def drawn(rows: list[Row], width: int | None) -> list[str]:
    return [line.plain.rstrip() for line in laid_out(COLUMNS, rows, width)]


def row(pipeline: str = "report", *below: str) -> Row:
    cells = {"run": Text("3f2a91bc4f11"), "pipeline": Text(pipeline), "took": Text("4.56 s")}
    return Row(cells, [Text(text) for text in below])


def test_columns_stand_below_their_headings_and_empty_ones_are_left_out() -> None:
    assert drawn([row(), row("a")], 80) == [
        "run           pipeline    took",
        "3f2a91bc4f11  report    4.56 s",
        "3f2a91bc4f11  a         4.56 s",
    ]


def test_where_it_is_narrow_columns_fall_away_and_then_long_cells_are_cut() -> None:
    name = "a-pipeline-of-a-long-name"
    assert drawn([row(name)], 60)[1] == f"3f2a91bc4f11  {name}  4.56 s"
    assert drawn([row(name)], 44) == [f"run           {'pipeline':<25}".rstrip(), f"3f2a91bc4f11  {name}"]
    assert drawn([row(name)], 30)[1] == "3f2a91bc4f11  a-pipeline-of-a…"
    assert drawn([row(name)], 10)[1] == "3f2a91bc4f11  a-pipel…", "an id is never cut: nobody could copy it"


def test_what_is_long_stands_below_its_row_broken_between_words() -> None:
    _, _, *below = drawn([row("report", LONG)], 40)
    assert len(below) > 1
    assert all(line.startswith("  ") and len(line) <= 40 for line in below)
    assert " ".join(line.strip() for line in below) == LONG, "no word is cut, none is lost"
    assert drawn([row("report", LONG)], None)[2] == f"  {LONG}", "a line for a program is one line"


@pytest.mark.parametrize("width", [1, 3, 8])
def test_a_terminal_of_a_few_columns_is_no_error(width: int) -> None:
    assert drawn([row("report", LONG)], width)
    assert wrapped(Text(LONG), width)
    assert cut(Text("wide 字字"), width).cell_len <= width


def test_wide_characters_are_counted_as_they_are_drawn() -> None:
    first, second = drawn([row("字字"), row("abcd")], 80)[1:]
    assert first.index("4.56") == second.index("4.56") - 2, "two columns each"
