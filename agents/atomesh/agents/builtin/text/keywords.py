"""What a text is about: its words and phrases that come early, often, and for their own sake.

No corpus, no model, no part-of-speech tagger; one text is all it sees. Put
together from published parts, each kept because it helped on labelled texts
(docs/text-agent.md has the figures):

- candidates are runs of one to three words without stop words or punctuation
  between them, as in RAKE (Rose et al., 2010); a hyphenated word is not cut;
- early candidates weigh more, and so do phrases, as in KP-Miner (El-Beltagy
  and Rafea, 2009, Information Systems 34);
- what a candidate has from standing inside longer ones is taken off its
  count: C-value (Frantzi, Ananiadou and Mima, 2000, IJDL 3);
- words written in capitals weigh more, as in YAKE (Campos et al., 2020,
  Information Sciences 509).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from atomesh.agents.builtin.text.languages import Language
from atomesh.agents.builtin.text.sentences import fold, sentences
from atomesh.agents.builtin.text.words import Word, words

_LONGEST: Final = 3
"""Words in a phrase. Two miss a tenth of what people choose, four add nothing but noise."""

_PHRASE: Final = (1.0, 1.5, 1.6)
"""Weight by number of words: people choose phrases more often than their frequency says."""

_FREQUENCY: Final = 0.75
"""Power of the count: a word said twelve times is not twice as much the topic as one said six times."""

_EARLY: Final = 50
"""Words before a candidate that cost it two fifths of its weight, to the power below; 400 cost it three quarters."""
_PLACE: Final = 1.2

_NESTED: Final = 0.8
"""Share of the occurrences inside longer candidates that is taken off."""

_CAPITALS: Final = 0.6
"""How much more a word counts that is always written in capitals (YAKE, HDF5)."""

_BETWEEN: Final = re.compile(r"[\s\-/‐‑–]*\Z")
"""What may stand between two words of one phrase."""

_HYPHENS: Final = frozenset({"-", "‐", "‑"})
_ADDRESS: Final = re.compile(r"(?:https?://|www\.)\S+|[\w.+-]{1,64}@[\w-]{1,64}\.[\w.-]{1,64}")
_Stems = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Keyword:
    """A keyword as it stands in the text, 0 to 1, and how often it occurs."""

    text: str
    score: float
    count: int


class Keywords(NamedTuple):
    """The keywords, best first, and how sure they are."""

    keywords: list[Keyword]
    confidence: float


class _Token(NamedTuple):
    """A word that can be part of a keyword."""

    word: Word
    stem: str
    place: int
    """How many words stand before it in the text."""
    glued: bool
    """A hyphen ties it to the word before it."""
    fit: bool
    """It may end a noun phrase."""


class _Candidate:
    """All occurrences of one sequence of stems."""

    __slots__ = ("fit", "forms", "place")

    def __init__(self, place: int, fit: bool) -> None:
        self.place = place
        self.fit = fit
        self.forms: Counter[str] = Counter()


def keywords(text: str, language: Language, most: int) -> Keywords:
    """At most `most` keywords of the text, of different stems; none where it has no topic words."""
    runs = list(_runs(text, language))
    found = _candidates(text, runs)
    weights = _weights(found, _capitals(runs))
    order = sorted(weights, key=lambda stems: (-weights[stems], found[stems].place, len(stems)))[:most]
    best = [_keyword(found[stems].forms, weights[stems] / weights[order[0]]) for stems in order]
    return Keywords(best, _confidence(best))


def _keyword(forms: Counter[str], score: float) -> Keyword:
    """The form that occurs most, the earliest of equals."""
    return Keyword(forms.most_common(1)[0][0], round(score, 4), forms.total())


def _runs(text: str, language: Language) -> Iterator[list[_Token]]:
    """Topic words in a row, with nothing but spaces and hyphens between them."""
    addresses = [match.span() for match in _ADDRESS.finditer(text)]
    place = 0
    for start, end in sentences(text, language):
        run: list[_Token] = []
        for word in words(text[start:end]):
            word = Word(word.text, word.start + start, word.end + start)
            between = text[run[-1].word.end : word.start] if run else ""
            folded = language.fold(word.text)
            carries = _carries_topic(folded, language) and not _within(word.start, addresses)
            if run and not (carries and _BETWEEN.match(between)):
                yield run
                run = []
            if carries:
                fit = language.code != "en" or not folded.endswith(("ed", "ly"))
                run.append(_Token(word, language.stem(folded), place, bool(run) and between in _HYPHENS, fit))
            place += 1
        if run:
            yield run


def _carries_topic(folded: str, language: Language) -> bool:
    if folded in language.stop_words or (len(folded) < 2 and folded.isascii()):
        return False
    return any(c.isalpha() for c in folded)


def _within(place: int, spans: list[tuple[int, int]]) -> bool:
    """Whether a place is in one of the ordered spans; those behind it are dropped."""
    while spans and spans[0][1] <= place:
        spans.pop(0)
    return bool(spans) and spans[0][0] <= place


def _candidates(text: str, runs: Sequence[list[_Token]]) -> dict[_Stems, _Candidate]:
    """Every piece of a run of up to three words that cuts no hyphenated word."""
    found: dict[_Stems, _Candidate] = {}
    for run in runs:
        for i, first in enumerate(run):
            if first.glued:
                continue
            for j in range(i, min(len(run), i + _LONGEST)):
                if j + 1 < len(run) and run[j + 1].glued:
                    continue
                last = run[j]
                stems = tuple(token.stem for token in run[i : j + 1])
                candidate = found.get(stems)
                if candidate is None:
                    candidate = found[stems] = _Candidate(first.place, last.fit)
                candidate.forms[fold(text[first.word.start : last.word.end])] += 1
    return found


def _capitals(runs: Sequence[list[_Token]]) -> dict[str, float]:
    """Share of each stem's occurrences that have two capitals or more."""
    total: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    for run in runs:
        for token in run:
            total[token.stem] += 1
            capital[token.stem] += sum(c.isupper() for c in token.word.text) >= 2
    return {stem: capital[stem] / n for stem, n in total.items()}


def _weights(found: Mapping[_Stems, _Candidate], capitals: Mapping[str, float]) -> dict[_Stems, float]:
    """How much the text is about each candidate; above 0."""
    inside: Counter[_Stems] = Counter()
    holders: Counter[_Stems] = Counter()
    for stems, candidate in found.items():
        if len(stems) > 1:
            for part in {stems[1:], stems[:-1]}:
                inside[part] += candidate.forms.total()
                holders[part] += 1
    weights = {}
    for stems, candidate in found.items():
        count = float(candidate.forms.total())
        if holders[stems]:
            count = max(0.1, count - _NESTED * inside[stems] / holders[stems])
        weight = count**_FREQUENCY * _PHRASE[len(stems) - 1]
        weight /= math.log(2 + candidate.place / _EARLY) ** _PLACE
        weight *= 1 + _CAPITALS * max(capitals[stem] for stem in stems)
        weights[stems] = weight if candidate.fit else weight / 2
    return weights


def _confidence(best: Sequence[Keyword]) -> float:
    """The share of these keywords that should touch the topic: share a word with one that the author would name.

    A logistic curve of each keyword's score, its count and whether it is a
    phrase, fitted to papers with their authors' keywords; the mean over all.
    """
    if not best:
        return 0.0
    odds = [-1.9 + 1.4 * k.score + 0.35 * math.log(k.count) + (1.45 if " " in k.text else 0.0) for k in best]
    return round(sum(1 / (1 + math.exp(-x)) for x in odds) / len(odds), 4)
