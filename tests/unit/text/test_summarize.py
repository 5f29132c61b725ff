from __future__ import annotations

import pytest

from atomesh.agents.builtin.text.languages import language
from atomesh.agents.builtin.text.summarize import Summary, summarize

ARTICLE = """The harbour bridge was closed on Monday after engineers found cracks in two of its main cables.
Ferries will carry commuters across the harbour until the bridge opens again.
A man on the pier sold ice cream. The engineers said that the cracks in the cables are small,
but that the bridge must stay closed until both cables are replaced.
Replacing the cables of the bridge takes about six weeks, the engineers said. It rained a little.
The city promised free ferries for commuters while the bridge is closed."""


def texts(text: str, summary: Summary) -> list[str]:
    return [text[scored.span.start : scored.span.end] for scored in summary.sentences]


def test_the_summary_is_about_the_topic_and_in_the_order_of_the_text() -> None:
    summary = summarize(ARTICLE, language(), 3)
    chosen = texts(ARTICLE, summary)
    assert summary.total == 7
    assert len(chosen) == 3
    assert chosen[0].startswith("The harbour bridge was closed"), "the first sentence carries the news"
    assert not any("ice cream" in one or "rained" in one for one in chosen), "asides are left out"
    assert [scored.index for scored in summary.sentences] == sorted(scored.index for scored in summary.sentences)


def test_the_most_central_sentence_scores_one_and_none_more() -> None:
    scores = [scored.score for scored in summarize(ARTICLE, language(), 100).sentences]
    assert len(scores) == 7, "asked for more than there are, all come"
    assert max(scores) == 1.0
    assert all(0 <= score <= 1 for score in scores)


def test_more_sentences_cover_more_and_all_cover_all() -> None:
    coverage = [summarize(ARTICLE, language(), most).confidence for most in range(1, 8)]
    assert coverage == sorted(coverage)
    assert coverage[-1] == 1.0, "the whole text leaves nothing out"
    assert coverage[0] < 0.7


def test_the_same_thing_is_not_said_twice() -> None:
    text = (
        "The new battery lasts for two days of heavy use. " * 30
        + "And for heavy use the battery that is new lasts two days! The screen of the phone is dark in the sun."
    )
    assert [scored.index for scored in summarize(text, language(), 2).sentences] == [0, 31]
    assert len(summarize(text, language(), 100).sentences) == 32, "a repeat still comes before nothing"


def test_a_shuffled_position_moves_the_choice_to_the_front() -> None:
    """Four sentences that share no word: only place and length can tell them apart."""
    text = "Alpha beta gamma delta. Red green blue yellow. North south east west. Spring summer autumn winter."
    assert [scored.index for scored in summarize(text, language(), 2).sentences] == [0, 1]


@pytest.mark.parametrize("text", ["The of and.", "?!", "😀", "The. Of. And. It."])
def test_a_text_without_topic_words_still_has_a_summary(text: str) -> None:
    summary = summarize(text, language(), 1)
    assert len(summary.sentences) == 1
    assert 0 <= summary.confidence <= 1


def test_stop_words_and_stems_are_those_of_the_language() -> None:
    text = (
        "Die Häuser der Stadt sind alt. Das Haus ist alt. Der Hund schläft. Ein altes Haus in der Stadt wird verkauft."
    )
    german = [scored.score for scored in summarize(text, language("de"), 10).sentences]
    english = [scored.score for scored in summarize(text, language("en"), 10).sentences]
    assert german != english
    assert min(german) == german[2], "the dog has nothing to do with the houses"
