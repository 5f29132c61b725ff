"""Text that cannot be processed is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--text, or a file with --file"),
        (("--text", "a", "--file", "b"), "one of them"),
        (("--text", "x" * 10_001), "10001 characters, the limit is 10000"),
        (("--text", "x", "--top-k", "0"), "--top-k is 0; expected 1 to 100"),
        (("--text", "x", "--max-sentences", "101"), "--max-sentences is 101"),
        (("--file", "/nonexistent"), "cannot be read"),
        (("--text", "\udcff"), "not UTF-8"),
    ],
)
def test_each_mistake_is_one_line(atomesh: Callable[..., Any], arguments: tuple[str, ...], said: str) -> None:
    ended = atomesh("process-text", *arguments)
    assert ended.code == 2
    assert said in ended.one_line()


def test_bytes_that_are_not_utf8_are_told_with_their_offset(atomesh: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes("Motörhead".encode("latin-1"))
    ended = atomesh("process-text", "--file", str(file))
    assert ended.code == 2
    assert "byte 0xf6 at offset 3" in ended.one_line()
