"""Nothing raw from the network reaches a terminal, and JSON stays JSON."""

from __future__ import annotations

import json

import pytest

from atomesh.cli._output import escape, to_json

HOSTILE = "a\x1b]0;owned\x07b\u202ec\x9bd\x00e\ufeff"


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    shown = escape(HOSTILE)
    assert shown.isprintable()
    assert shown == "a\\x1b]0;owned\\x07b\\u202ec\\x9bd\\x00e\\ufeff"


def test_letters_of_any_script_stay_as_they_are() -> None:
    text = "Zoë, 東京, \u06a9\u200c\u0645 🎈"
    assert escape(text) == text


def test_a_lone_surrogate_can_be_shown() -> None:
    assert escape("x\udcff") == "x\\udcff"


@pytest.mark.parametrize("value", [HOSTILE, "line\nbreak", "\u2028", "\U000e0001 tag", "x\ud800", "Zoë"])
def test_json_holds_nothing_a_terminal_would_obey_and_parses_back(value: str) -> None:
    text = to_json({"k": value}, indent=None)
    assert text.isprintable()
    assert json.loads(text) == {"k": value}
