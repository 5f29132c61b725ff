from __future__ import annotations

import pytest

from atomesh.agents.builtin.text.keywords import keywords
from atomesh.agents.builtin.text.languages import language

ABSTRACT = """A service mesh for typed agents. We describe a service mesh in which typed agents find each other
by capability. The service mesh keeps leases, and the load balancer of the service mesh ejects endpoints that fail.
YAML is not needed. Late binding keeps the waiting time short: late binding beats round robin. Nothing else matters."""


def found(text: str, most: int = 10, code: str = "en") -> list[str]:
    return [keyword.text for keyword in keywords(text, language(code), most).keywords]


def test_the_topic_comes_first() -> None:
    assert found(ABSTRACT, 2) == ["service mesh", "typed agents"]
    assert "late binding" in [text.lower() for text in found(ABSTRACT)]


def test_keywords_stand_in_the_text_and_are_counted() -> None:
    for keyword in keywords(ABSTRACT, language(), 100).keywords:
        assert keyword.text in " ".join(ABSTRACT.split())
        assert keyword.count >= 1
    assert keywords(ABSTRACT, language(), 1).keywords[0].count == 4


def test_scores_fall_from_one() -> None:
    scores = [keyword.score for keyword in keywords(ABSTRACT, language(), 100).keywords]
    assert scores[0] == 1.0
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_a_word_that_only_lives_inside_a_phrase_comes_after_it() -> None:
    text = "Neural networks learn. Neural networks forget. Deep neural networks dream. Neural networks sleep."
    ranked = [keyword.lower() for keyword in found(text, 20)]
    assert ranked[0] == "neural networks"
    assert ranked.index("neural networks") < ranked.index("neural")


def test_forms_of_one_word_are_one_keyword_in_its_most_common_form() -> None:
    best = keywords("Cats sleep. The cat eats. A cat plays, and cats purr near the cat.", language(), 1).keywords[0]
    assert (best.text, best.count) == ("cat", 5)


def test_early_words_beat_late_ones_of_equal_frequency() -> None:
    filler = "It is what it is. " * 40
    assert found(f"Zebras graze. {filler} Lions hunt.", 2)[0] in ("Zebras", "Zebras graze")


def test_phrases_do_not_reach_over_punctuation_stop_words_or_sentences() -> None:
    assert not {"red green", "green blue", "blue yellow"} & set(found("red, green of blue. yellow", 50))


def test_hyphenated_words_stay_whole() -> None:
    ranked = found("A client-side load balancer. Every client-side choice is cheap.", 50)
    assert "client-side" in ranked
    assert not {"client", "side", "side load"} & set(ranked)


def test_addresses_and_numbers_are_no_keywords() -> None:
    text = "Read https://example.org/manual/install or mail help@example.org 42 times in 2024, 3.14."
    ranked = " ".join(found(text, 50)).lower()
    assert not any(word in ranked for word in ("http", "example", "manual", "help", "42", "2024", "3.14"))


@pytest.mark.parametrize("text", ["the of and it", "?!", "😀", "1 2 3", "\0"])
def test_a_text_without_topic_words_has_no_keywords_and_no_confidence(text: str) -> None:
    result = keywords(text, language(), 10)
    assert result.keywords == []
    assert result.confidence == 0.0


def test_stop_words_are_those_of_the_language() -> None:
    text = "Das Haus und der Garten. Und das Haus ist alt, und der Garten ist neu."
    assert {"und", "das", "der", "ist"} & {word.lower() for word in found(text, 50, "en")}
    assert not {"und", "das", "der", "ist"} & {word.lower() for word in found(text, 50, "de")}


def test_repeated_phrases_are_surer_than_words_said_once() -> None:
    sure = keywords(ABSTRACT, language(), 2).confidence
    unsure = keywords("Alpha, beta, gamma, delta, epsilon.", language(), 5).confidence
    assert 0 < unsure < sure < 1


def test_every_script_has_keywords() -> None:
    assert found("東京は大きい。東京は高い。")
    assert found("Москва растет. В Москве живут. Москву любят.", code="ru")[0] == "Москва"
    assert found("हिन्दी भाषा। हिन्दी भाषा।")[0] == "हिन्दी भाषा"
