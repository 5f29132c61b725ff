"""The languages that the rules know: stop words, stemmer, elision.

The stemmers are Snowball's (M. F. Porter, 2001, snowballstem.org), in pure
Python. They keep state while they stem, so one lock guards them, and a
bounded memo in front makes the lock rare: prose repeats itself.
"""

from __future__ import annotations

import functools
import re
import threading
from dataclasses import dataclass
from typing import Final, cast

import snowballstemmer

from atomesh.agents.builtin.text.stopwords import STOP_WORDS

DEFAULT: Final = "en"

_STEMMERS: Final = {
    "da": "danish",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ru": "russian",
    "sv": "swedish",
}

SUPPORTED: Final = tuple(sorted(_STEMMERS))
"""ISO 639-1 codes of the languages that have both a stemmer and stop words here."""

_ELIDED: Final = re.compile(r"(?:[cdjlmnst]|qu|jusqu|lorsqu|puisqu|un|all|dall|dell|nell|sull|quell|quest)'(?=\w)")
"""French and Italian articles and pronouns that lean on the next word: l'homme, dell'arte."""

_LONGEST_STEMMED: Final = 64
"""Characters; longer "words" are data, and would fill the memo with it."""

_stemming = threading.Lock()


class UnsupportedLanguage(ValueError):
    """An operation does not know the language asked for."""

    def __init__(self, language: str, supported: tuple[str, ...], operation: str = "") -> None:
        """`supported`: the languages that would do, as ISO 639-1 codes."""
        where = f" for {operation}" if operation else ""
        super().__init__(f'unsupported language "{language}"{where}; one of {", ".join(supported)}')
        self.language = language
        self.supported = supported


@dataclass(frozen=True, slots=True)
class Language:
    """What the rules know of one language."""

    code: str
    stop_words: frozenset[str]

    def fold(self, word: str) -> str:
        """A word as stop words are written: lower case, ASCII apostrophe, no elided article, no possessive s."""
        folded = word.lower()
        if "’" in folded:
            folded = folded.replace("’", "'")
        if "'" not in folded:
            return folded
        if self.code in ("fr", "it"):
            return _ELIDED.sub("", folded, count=1) if _ELIDED.match(folded) else folded
        if folded in self.stop_words:
            return folded
        return folded.removesuffix("'s")

    def stem(self, folded: str) -> str:
        """The stem of a folded word; words of over 64 characters are their own."""
        return folded if len(folded) > _LONGEST_STEMMED else _stem(self.code, folded)


def language(code: str = "") -> Language:
    """The language of an ISO 639-1 code; none is English.

    Raises:
        UnsupportedLanguage: it has no stop words or no stemmer here.
    """
    if (code or DEFAULT) not in _STEMMERS:
        raise UnsupportedLanguage(code, SUPPORTED)
    return _language(code or DEFAULT)


@functools.cache
def _language(code: str) -> Language:
    return Language(code, frozenset(STOP_WORDS[code].split()))


@functools.cache
def _stemmer(code: str) -> snowballstemmer.stemmer:
    return snowballstemmer.stemmer(_STEMMERS[code])


# 16,384 words are the vocabulary of a few novels, in about 3 MB.
@functools.lru_cache(maxsize=16_384)
def _stem(code: str, folded: str) -> str:
    with _stemming:
        return cast(str, _stemmer(code).stemWord(folded))
