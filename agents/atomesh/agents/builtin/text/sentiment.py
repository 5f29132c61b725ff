"""Whether a text speaks well or ill: VADER, with its labels at +-0.05.

C. J. Hutto and E. E. Gilbert (2014), "VADER: A Parsimonious Rule-based Model
for Sentiment Analysis of Social Media Text", ICWSM-14. A lexicon rated by
people and five rules (punctuation, capitals, degree words, "but", negation).
The lexicon ships in the library's wheel; it is English and so is this.
`judgements` adds words of reviews that it lacks.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from atomesh.agents.builtin.text.judgements import BLAME, PRAISE, STRENGTH

LANGUAGES: Final = ("en",)

_THRESHOLD: Final = 0.05
"""The authors' own: below it, either way, is neutral."""

_APOSTROPHES: Final = {ord("’"): "'", ord("‘"): "'", ord("ʼ"): "'"}

# P(right) as a logistic curve of |compound|, fitted to the answers that were
# not neutral on labelled tweets, product reviews and film reviews, each kind
# weighted alike; docs/text-agent.md has the table that it is judged by.
_INTERCEPT: Final = -0.2
_SLOPE: Final = 3.5
_NOTHING_KNOWN: Final = 0.2
"""How often "neutral" was right where no word of the lexicon occurred: it mostly means not knowing."""
_BALANCED: Final = 0.1
"""The same where words for and against cancelled out."""


@dataclass(frozen=True, slots=True)
class Mood:
    """The outcome: a label, VADER's scores, and how likely the label is right."""

    label: str
    compound: float
    positive: float
    neutral: float
    negative: float
    confidence: float


def sentiment(text: str) -> Mood:
    """The mood of an English text as one whole, in time linear in its length."""
    scores = _analyzer().polarity_scores(text.translate(_APOSTROPHES))
    compound = _clamp(scores["compound"], -1.0)
    label = "positive" if compound >= _THRESHOLD else "negative" if compound <= -_THRESHOLD else "neutral"
    positive, neutral, negative = (_clamp(scores[key]) for key in ("pos", "neu", "neg"))
    if label != "neutral":
        confidence = 1.0 / (1.0 + math.exp(-(_INTERCEPT + _SLOPE * abs(compound))))
    else:
        confidence = _BALANCED if positive or negative else _NOTHING_KNOWN
    return Mood(label, compound, positive, neutral, negative, round(confidence, 4))


def _clamp(value: float, least: float = 0.0) -> float:
    return min(1.0, max(least, float(value)))


@functools.cache
def _analyzer() -> SentimentIntensityAnalyzer:
    """Built at first use: it reads half a megabyte of lexicon. Only read afterwards, so threads may share it."""
    return _LinearVader()


class _Neighbours(NamedTuple):
    """The part of VADER's SentiText that one word's rules read."""

    words_and_emoticons: list[str]
    is_cap_diff: bool


class _LinearVader(SentimentIntensityAnalyzer):  # type: ignore[misc]  # the library carries no types
    """VADER with some more words, and its rules in linear time.

    The library lower-cases the whole text again for every word of its lexicon
    that occurs: 0.4 s for 10,000 hostile characters, where this takes 12 ms.
    Its rules look three words back and two ahead, so that much is enough.
    """

    def __init__(self) -> None:
        """Reads the lexicon from the wheel and adds what it lacks."""
        super().__init__()
        for words, strength in ((PRAISE, STRENGTH), (BLAME, -STRENGTH)):
            for word in sorted(words):
                self.lexicon.setdefault(word, strength)

    def sentiment_valence(
        self, valence: float, sentitext: Any, item: str, i: int, sentiments: list[float]
    ) -> list[float]:
        """Appends the valence of the word at `i`, by its neighbours; the library's hook."""
        if item.lower() not in self.lexicon:
            sentiments.append(valence)
            return sentiments
        first = max(0, i - 3)
        near = _Neighbours(sentitext.words_and_emoticons[first : i + 3], sentitext.is_cap_diff)
        super().sentiment_valence(valence, near, item, i - first, sentiments)
        return sentiments

    @staticmethod
    def _but_check(words_and_emoticons: list[str], sentiments: list[float]) -> list[float]:
        """What stands before the first "but" counts half, what follows one and a half times, as the paper says.

        The library looks each value up by its first equal one, which is
        quadratic and scales the wrong word where two are alike.
        """
        lowered = [word.lower() for word in words_and_emoticons]
        if "but" not in lowered:
            return sentiments
        but = lowered.index("but")
        return [s * 0.5 if i < but else s * 1.5 if i > but else s for i, s in enumerate(sentiments)]
