"""Where words begin and end, in any script.

The rule, a small subset of Unicode's word boundaries (UAX #29):

- letters and digits with their combining marks and joiners make a word;
- one of `. ' ’ ·` between two letters or digits, an underscore, and a comma
  between two digits keep a word together: "can't", "3.50", "U.S", "snake_case";
- every Chinese character, kana and iteration mark is a word of its own, for
  nothing in the text says where the real ones end. Thai, Lao and Khmer write
  without spaces too, and there a run of letters is one word.

Emoji and punctuation are no words. One pass, linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, NamedTuple

IDEOGRAPHS: Final = (
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
"""The inside of a character class: Han, Hiragana, Katakana."""

_WORD: Final = re.compile(
    rf"[{IDEOGRAPHS}]_*"
    rf"|[^\W_{IDEOGRAPHS}](?:[^\W{IDEOGRAPHS}]|[.'’·](?=[^\W_{IDEOGRAPHS}])|(?<=\d),(?=\d))*"
)

_JOINERS: Final = frozenset("\u00ad\u200c\u200d\u2060")


class Word(NamedTuple):
    """A word and its place in the text, in characters."""

    text: str
    start: int
    end: int


def words(text: str) -> list[Word]:
    """The words in order, as they stand in the text."""
    return [Word(text[match.start() : match.end()], *match.span()) for match in _WORD.finditer(_shadow(text))]


def word_count(text: str) -> int:
    """How many words the text has."""
    return sum(1 for _ in _WORD.finditer(_shadow(text)))


def _shadow(text: str) -> str:
    """The text with an underscore for every mark and joiner: same length, and `\\w` then means what it should.

    Python's `\\w` leaves out combining marks, which would cut most Hindi,
    Thai and decomposed European words to pieces.
    """
    if text.isascii():
        return text
    joining = {ord(c): "_" for c in set(text) if c in _JOINERS or unicodedata.category(c)[0] == "M"}
    return text.translate(joining) if joining else text
