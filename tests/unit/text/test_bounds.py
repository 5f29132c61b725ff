"""Every operation is linear in the text. Counted in bytecodes, not timed."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest

from atomesh.agents.builtin.text import process
from atomesh.text.v1 import text_pb2

HOSTILE = {
    "sentences of one word": "Hi. ",
    "marks without space": "。我",
    "initials": "A. ",
    "abbreviations": "e.g. ",
    "dots": ".",
    "dots apart": ". ",
    "openers": "((",
    "quotes": '."',
    "hyphens": "-a",
    "one phrase": "data mesh ",
    "marks on letters": "a\u0301",
    "addresses": "a@b.",
    "half addresses": "a@",
    "links": "http://",
    "mood words": "x good ",
    "buts": "good but bad ",
    "emoji": "😀",
    "list items": "- a\n",
    "line ends": "\n",
    "white space": "a       ",
    "NUL": "a\0",
    "Han": "我",
    "commas": "1,",
    "apostrophes": "a'",
}


def _different(size: int) -> str:
    return " ".join(f"w{i:x}q." for i in range(size))[:size]


def _steps(text: str, operation: str) -> int:
    """Bytecodes that it takes, those of the libraries included, the stems already known."""
    request = text_pb2.TextInput(content=text, operation=operation)
    process(request)
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        process(request)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("operation", ["summarize", "extract_keywords", "sentiment"])
@pytest.mark.parametrize("pattern", [*HOSTILE, "all different"])
def test_twice_the_text_takes_at_most_about_twice_the_steps(pattern: str, operation: str) -> None:
    def text(size: int) -> str:
        return _different(size) if pattern == "all different" else (HOSTILE[pattern] * size)[:size] + "a"

    small, large = _steps(text(300), operation), _steps(text(600), operation)
    assert large <= 2.3 * small + 500, f"{small} steps for 300 characters, {large} for 600: more than linear"


@pytest.mark.parametrize("operation", ["summarize", "extract_keywords", "sentiment"])
@pytest.mark.parametrize("pattern", HOSTILE)
def test_the_longest_hostile_text_is_answered(pattern: str, operation: str) -> None:
    """A pattern that backtracks, which bytecodes do not show, would run into the suite's time limit here."""
    text = (HOSTILE[pattern] * 10_000)[:9_999] + "a"
    output = process(text_pb2.TextInput(content=text, operation=operation))
    assert 0 <= output.confidence <= 1
    assert len(output.result) <= len(text) + 2 * 10, "nothing is made longer"
