"""Where sentences begin and end.

Rules, not a trained model: the decisions of Punkt (Kiss and Strunk, 2006,
"Unsupervised Multilingual Sentence Boundary Detection", Computational
Linguistics 32) with the lists that Punkt learns written down. A full stop
ends a sentence unless it belongs to an abbreviation, an initial, a number or
a name with dots in it. Where it may be both (`U.S.`, `etc.`), what follows
decides: a lower-case letter starts no sentence, a capitalised word of grammar
("The", "He") does.

`!`, `?` and `…` end one unless it goes on in lower case ('"Really?" he
asked'). Chinese, Japanese, Arabic and Indic marks end one whether or not
white space follows. An empty line always ends one, a single line end only
before a list item, or where the paragraph has no mark at all.

Every step looks at a bounded piece of text around a mark: the work is linear
in the text, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from atomesh.agents.builtin.text.abbreviations import ABBREVIATIONS, Abbreviations
from atomesh.agents.builtin.text.languages import Language

_UNSPACED: Final = "。！？｡．؟۔।॥።፧။៕"
_MARKS: Final = ".!?…‥՜՞⸮‽⁇⁈⁉" + _UNSPACED
_CLOSERS: Final = "\"'”’»›)]}」』】〉》）］｝*_"
_OPENERS: Final = "\"'“‘„«‹([{「『【〈《（［｛¿¡*_—–-"

_END: Final = re.compile(rf"[{re.escape(_MARKS)}](?:[{re.escape(_MARKS)}]| (?=[.!?…](?!\w)))*[{re.escape(_CLOSERS)}]*")
_LINE: Final = re.compile(r"[^\n\r\v\f\u0085\u2028\u2029]*(?:\r\n|[\n\r\v\f\u0085\u2028\u2029]|\Z)")
_LIST_ITEM: Final = re.compile(r"[ \t]*(?:[-*+•‣◦▪·–—]|\(?\d{1,3}[.)]|\(?[A-Za-z][.)])[ \t]+\S")
_AFTER: Final = re.compile(rf"\s*[{re.escape(_OPENERS)}]{{0,3}}(\w[\w'’]{{0,30}})(\.?)")
_START: Final = re.compile(r"[.!?][\"'”’)]?\s+(\w)")
_DOTTED: Final = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")
_LOOKBACK: Final = 40
"""Characters before a mark that may matter; no abbreviation is longer."""

_ORDINAL_LANGUAGES: Final = frozenset({"da", "de", "no"})
"""Where "3." is how one writes "third"."""


class Span(NamedTuple):
    """A piece of a text, in characters."""

    start: int
    end: int


def sentences(text: str, language: Language) -> list[Span]:
    """The sentences in order, trimmed; one at least wherever the text has anything but white space.

    What has neither letter nor digit (an emoji, a row of stars) belongs to the
    sentence before it.
    """
    rules = _Rules(text, language)
    found: list[Span] = []
    for block in _blocks(text):
        for span in rules.split(block):
            trimmed = _trim(text, span)
            if trimmed is None:
                continue
            if found and not any(c.isalnum() for c in text[trimmed.start : trimmed.end]):
                found[-1] = Span(found[-1].start, trimmed.end)
            else:
                found.append(trimmed)
    return found


def fold(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def _trim(text: str, span: Span) -> Span | None:
    piece = text[span.start : span.end]
    left = len(piece) - len(piece.lstrip())
    kept = len(piece.strip())
    return Span(span.start + left, span.start + left + kept) if kept else None


def _blocks(text: str) -> Iterator[Span]:
    """Paragraphs; list items and, where a paragraph has no mark at all, lines on their own."""
    lines: list[Span] = []
    for match in _LINE.finditer(text):
        line = Span(*match.span())
        blank = not match.group().strip()
        if blank or (lines and _LIST_ITEM.match(text, line.start, line.end)):
            yield from _paragraph(text, lines)
            lines = []
        if not blank:
            lines.append(line)
    yield from _paragraph(text, lines)


def _paragraph(text: str, lines: list[Span]) -> Iterator[Span]:
    if not lines:
        return
    whole = Span(lines[0].start, lines[-1].end)
    if _LIST_ITEM.match(text, *whole) or _END.search(text, *whole):
        yield whole
    else:
        yield from lines


class _Rules:
    """The decision at each mark of one text."""

    def __init__(self, text: str, language: Language) -> None:
        self._text = text
        self._language = language
        self._abbreviations: Abbreviations = ABBREVIATIONS[language.code]
        starts = _START.findall(text)
        # In a text that starts its sentences in lower case, that says nothing.
        self._capitalises = sum(c.isupper() for c in starts) >= sum(c.islower() for c in starts)

    def split(self, block: Span) -> Iterator[Span]:
        """The pieces between the marks that end sentences."""
        start = block.start
        for match in _END.finditer(self._text, *block):
            if self._ends(match, block):
                yield Span(start, match.end())
                start = match.end()
        if start < block.end:
            yield Span(start, block.end)

    def _ends(self, match: re.Match[str], block: Span) -> bool:
        text, stop, marks = self._text, match.end(), match.group()
        if stop >= block.end:
            return True
        if any(mark in _UNSPACED for mark in marks):
            # 「行く。」と言った: the quotation is part of the sentence.
            return not (marks[-1] in _CLOSERS and text[stop] in "とっ")
        before = self._before(match.start(), block)
        if not text[stop].isspace():
            return self._ends_unspaced(before, marks, stop)
        after = _AFTER.match(text, stop, block.end)
        following = after.group(1) if after else ""
        if self._capitalises and following[:1].islower():
            return False
        if marks[0] != "." or marks[:2] in ("..", ". ", ".!", ".?"):
            return True
        return self._full_stop_ends(before, after, match.start() - len(before) == block.start)

    def _full_stop_ends(self, before: str, after: re.Match[str] | None, leads: bool) -> bool:
        """Whether one full stop with white space after it ends the sentence. `leads`: `before` opens the block."""
        token = before.lstrip(_OPENERS).lower()
        following = after.group(1) if after else ""
        if token in self._abbreviations.leading or (leads and token.isdigit()):
            return False
        if token in self._abbreviations.numbering:
            return not following[:1].isdigit()
        ordinal = token.isdigit() and len(token) <= 2 and self._language.code in _ORDINAL_LANGUAGES
        initial = len(token) == 1 and token.isalpha()
        if initial and after and len(following) == 1 and after.group(2):
            return False  # J. R. Smith
        if initial or ordinal or token in self._abbreviations.closing or _DOTTED.fullmatch(token):
            return not following or self._is_grammar(following)
        return True

    def _ends_unspaced(self, before: str, marks: str, stop: int) -> bool:
        """Whether a mark with no space after it ends the sentence: "It works well.This one too"."""
        after = _AFTER.match(self._text, stop)
        if after is None or not self._text[stop].isupper() or len(before) < 2 or not before.isalpha():
            return False
        return marks[0] in "!?…" or (before.islower() and self._is_grammar(after.group(1)))

    def _is_grammar(self, word: str) -> bool:
        """A capitalised stop word; in a text without capitals, any stop word."""
        return (word[:1].isupper() or not self._capitalises) and self._language.fold(word) in self._language.stop_words

    def _before(self, stop: int, block: Span) -> str:
        """What stands before a mark, back to white space; at most a few dozen characters of it."""
        head = self._text[max(block.start, stop - _LOOKBACK) : stop]
        return head.split()[-1] if head and not head[-1].isspace() else ""
