"""Which sentences say the most: LexRank, biased to the front, without repetition.

G. Erkan and D. R. Radev (2004), "LexRank: Graph-based Lexical Centrality as
Salience in Text Summarization", JAIR 22: sentences vote for sentences like
them (cosine of TF-IDF, continuous weights, damped as PageRank). The damping
jumps not to all alike but mostly to the front of the text and to sentences
with something in them: biased LexRank (Otterbacher, Erkan and Radev, 2009,
"Biased LexRank", Information Processing & Management 45). The choice then
penalises likeness to what is chosen already: maximal marginal relevance
(Carbonell and Goldstein, 1998, SIGIR).

The matrix of likenesses is never written down. It is X times X transposed, X
the sparse matrix of sentences by words, so one step of the power iteration is
two passes over the words of the text: linear, where the matrix would take 25
million entries for 10,000 characters of "Hi. Hi. Hi.".
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from atomesh.agents.builtin.text.languages import Language
from atomesh.agents.builtin.text.sentences import Span, sentences
from atomesh.agents.builtin.text.words import words

_FOLLOW: Final = 0.8
"""Share of the score that likeness decides; PageRank's 0.85 leaves position too little, 0.7 too much on reviews."""

_FRONT: Final = 5.0
"""The first sentence draws 1 + 5 times what the last does, the second 1 + 5/2, the third 1 + 5/3."""

_LENGTH: Final = 0.35
"""Power of the length in the jump: without it one-word sentences are drawn as often as full ones."""

_FULL_LENGTH: Final = 40
"""Words from which on a sentence draws no more: beyond, length is no merit."""

_REPETITION: Final = 0.15
"""Weight of likeness to what is chosen. 0 repeats itself on reviews, 0.5 drifts off the topic."""

_SAME: Final = 0.9
"""Likeness from which on two sentences say the same thing."""

_POOL: Final = 4
"""Candidates per sentence chosen. Likeness takes 0.15 at most, so what scores far below is never chosen."""

_STEPS: Final = 30
"""At most: 0.8^30 is a thousandth, and the order of the leading sentences no longer changes."""

_STILL: Final = 1e-5
"""Movement, of scores that sum to 1, at which the walk has arrived; prose takes about fifteen steps."""

_Vector = dict[str, float]


@dataclass(frozen=True, slots=True)
class Scored:
    """A sentence of the summary."""

    span: Span
    index: int
    score: float


class Summary(NamedTuple):
    """The sentences chosen in the order of the text, how many there are, and the share of its content they cover."""

    sentences: list[Scored]
    total: int
    confidence: float


def summarize(text: str, language: Language, most: int) -> Summary:
    """At most `most` sentences of the text; the central one scores 1."""
    spans = sentences(text, language)
    bags = [_bag(text[start:end], language) for start, end in spans]
    vectors = _vectors(bags)
    scores = _centrality(vectors, _pull(spans, text))
    top = max(scores, default=0.0) or 1.0
    chosen = sorted(_choose(vectors, [score / top for score in scores], most))
    picked = [Scored(spans[i], i, round(scores[i] / top, 4)) for i in chosen]
    return Summary(picked, len(spans), _coverage(bags, chosen))


def _bag(sentence: str, language: Language) -> Counter[str]:
    """The stems of the words that carry topic, counted."""
    folded = (language.fold(word.text) for word in words(sentence))
    return Counter(language.stem(word) for word in folded if word not in language.stop_words)


def _vectors(bags: Sequence[Counter[str]]) -> list[_Vector]:
    """TF-IDF over the text's own sentences, each of length 1; empty where a sentence has no topic word."""
    spread = Counter(stem for bag in bags for stem in bag)
    vectors = []
    for bag in bags:
        raw = {stem: (1 + math.log(n)) * math.log(1 + len(bags) / spread[stem]) for stem, n in bag.items()}
        length = math.sqrt(sum(weight * weight for weight in raw.values()))
        vectors.append({stem: weight / length for stem, weight in raw.items()})
    return vectors


def _pull(spans: Sequence[Span], text: str) -> list[float]:
    """How much the jump favours each sentence, by place and length; sums to 1."""
    raw = []
    for i, (start, end) in enumerate(spans):
        size = min(_FULL_LENGTH, text.count(" ", start, end) + 1)
        raw.append((1 + _FRONT / (1 + i)) * size**_LENGTH)
    total = sum(raw)
    return [pull / total for pull in raw]


def _centrality(vectors: Sequence[_Vector], pull: Sequence[float]) -> list[float]:
    """The stationary distribution of the walk, by power iteration."""
    degrees = _likeness(vectors, [1.0] * len(vectors))
    scores = list(pull)
    for _ in range(_STEPS):
        # Rounding leaves 1e-16 where a sentence is like no other: no vote to give.
        votes = [score / degree if degree > 1e-9 else 0.0 for score, degree in zip(scores, degrees, strict=True)]
        followed = _likeness(vectors, votes)
        before = scores
        scores = [(1 - _FOLLOW) * p + _FOLLOW * f for p, f in zip(pull, followed, strict=True)]
        if sum(abs(now - then) for now, then in zip(scores, before, strict=True)) < _STILL:
            break
    return scores


def _likeness(vectors: Sequence[_Vector], weights: Sequence[float]) -> list[float]:
    """The matrix of cosines, its diagonal left out, times a vector."""
    total: _Vector = {}
    for vector, weight in zip(vectors, weights, strict=True):
        if weight:
            for stem, x in vector.items():
                total[stem] = total.get(stem, 0.0) + x * weight
    return [
        max(0.0, sum(x * total.get(stem, 0.0) for stem, x in vector.items()) - weight) if vector else 0.0
        for vector, weight in zip(vectors, weights, strict=True)
    ]


def _choose(vectors: Sequence[_Vector], scores: Sequence[float], most: int) -> list[int]:
    """Greedily the best by score less likeness to the chosen; the earlier of equals; a repeat only for want of others."""
    repeats = _repeats(vectors)
    pool = sorted(range(len(scores)), key=lambda i: (i in repeats, -scores[i], i))[: most * _POOL + 20]
    left = dict.fromkeys(pool, 0.0)  # sentence: its greatest likeness to a chosen one
    chosen: list[int] = []
    while left and len(chosen) < most:
        best = max(left, key=lambda i: (left[i] < _SAME, (1 - _REPETITION) * scores[i] - _REPETITION * left[i], -i))
        chosen.append(best)
        del left[best]
        taken = vectors[best]
        for i in left:
            left[i] = max(left[i], sum(x * taken[stem] for stem, x in vectors[i].items() if stem in taken))
    return chosen


def _repeats(vectors: Sequence[_Vector]) -> set[int]:
    """The sentences whose topic words an earlier one has, each as often."""
    seen: set[tuple[tuple[str, float], ...]] = set()
    found: set[int] = set()
    for i, vector in enumerate(vectors):
        key = tuple(sorted(vector.items()))
        if key in seen:
            found.add(i)
        seen.add(key)
    return found


def _coverage(bags: Sequence[Counter[str]], chosen: Sequence[int]) -> float:
    """Share of the text's topic words, each as often as it occurs, whose stem the summary has; 1 for the whole text."""
    total: Counter[str] = Counter()
    for bag in bags:
        total.update(bag)
    if not total or len(chosen) == len(bags):
        return 1.0 if len(chosen) == len(bags) else 0.0
    kept = {stem for i in chosen for stem in bags[i]}
    return round(sum(n for stem, n in total.items() if stem in kept) / total.total(), 4)
