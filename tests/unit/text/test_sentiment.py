from __future__ import annotations

import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from atomesh.agents.builtin.text.judgements import BLAME, PRAISE
from atomesh.agents.builtin.text.sentiment import sentiment


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("I love it, it is great!", "positive"),
        ("This is terrible. I hate it.", "negative"),
        ("The meeting is on Tuesday.", "neutral"),
        ("It is not good.", "negative"),
        ("It isn’t good.", "negative"),
        ("The plot is good, but the acting is terrible.", "negative"),
        ("A mediocre and overpriced phone.", "negative"),
        ("Sturdy, user-friendly and reliable.", "positive"),
        ("😀😀", "positive"),
        ("?!", "neutral"),
        ("\0", "neutral"),
    ],
)
def test_the_label_is_what_a_reader_would_say(text: str, label: str) -> None:
    assert sentiment(text).label == label


def test_the_scores_are_vaders_own_where_it_knows_the_words() -> None:
    vader = SentimentIntensityAnalyzer()
    for text in (
        "VADER is smart, handsome, and funny!",
        "The book was only kind of good. It isn't really horrible, just the worst :(",
        "At least it isn't a horrible book. Not such a badass after all, yeah right.",
        "Today SUX! but I'll live, without a doubt never so happy lol 😁",
        "no problem at all, no worries, there is no good or bad",
    ):
        theirs = vader.polarity_scores(text)
        ours = sentiment(text)
        assert (ours.compound, ours.positive, ours.neutral, ours.negative) == pytest.approx(
            (theirs["compound"], theirs["pos"], theirs["neu"], theirs["neg"])
        ), text


def test_but_halves_what_stands_before_and_stresses_what_follows() -> None:
    """The library finds a value by its first equal one, and here would scale the wrong "good"."""
    after = sentiment("It is bad but good, so good, and good")
    before = sentiment("It is good, so good, and good but bad")
    assert after.compound > sentiment("It is bad and good, so good, and good").compound
    assert before.compound < sentiment("It is good, so good, and good and bad").compound


def test_the_added_words_are_new_to_vader_and_judge_one_way() -> None:
    known = SentimentIntensityAnalyzer().lexicon
    assert not PRAISE & BLAME
    assert sorted(word for word in PRAISE | BLAME if word in known) == [], "VADER's own ratings are better"
    assert all(word == word.lower() for word in PRAISE | BLAME)


def test_a_clearer_mood_is_surer_and_not_knowing_is_least_sure() -> None:
    strong = sentiment("Absolutely wonderful, the best, I love it!!!").confidence
    weak = sentiment("It was okay, fine").confidence
    nothing = sentiment("The meeting is on Tuesday").confidence
    assert nothing < weak < strong < 1
    assert sentiment("good bad").confidence < nothing or sentiment("good bad").label != "neutral"
