from __future__ import annotations

from itertools import pairwise

import pytest

from atomesh.agents.builtin.text.languages import language
from atomesh.agents.builtin.text.sentences import fold, sentences


def split(text: str, code: str = "en") -> list[str]:
    return [fold(text[start:end]) for start, end in sentences(text, language(code))]


@pytest.mark.parametrize(
    "expected",
    [
        ["Dr. Smith paid 3.50 in the U.S. yesterday."],
        ["He lives in the U.S.", "The weather is fine."],
        ["J. R. R. Tolkien wrote it.", "Mr. and Mrs. Baggins read it at 5 p.m. yesterday."],
        ["They came at 5 p.m.", "Then they left."],
        ["See Fig. 2 and Smith et al. (2005), e.g. p. 7.", "It works."],
        ["He said no.", "Then he left."],
        ["Apples, pears etc. are sold.", "We sell apples, pears, etc.", "They are cheap."],
        ["Python 3.11 came out.", "It cost 1,000.50 in 2005.", "Nobody paid."],
        ["Wait... what?", "No...", "Yes!"],
        ['"Really?" he asked.', 'He said "Stop."', "Then he left."],
        ["(It was late.)", "[So it was.]", "“Good night!”", "He slept."],
        ["Go to https://a.example/x.html?y=1.2 now.", "Mail me@b.example.", "Bye."],
        ["Yahoo! is a company.", "I know!"],
        ["The ratio is .5 now .", "Then it ended ."],
        ["What?!", "No way!!!", "Yes."],
    ],
    ids=lambda expected: expected[0],
)
def test_joined_english_sentences_come_apart_again(expected: list[str]) -> None:
    assert split(" ".join(expected)) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("de", ["Am 3. Oktober kam z. B. Herr Dr. Müller.", "Er blieb.", "Das war 1990.", "Danach ging er."]),
        ("fr", ["M. Dupont habite p. 5 à Paris.", "Il part."]),
        ("es", ["El Sr. García vive aquí.", "¿Verdad?", "¡Sí!"]),
        ("it", ["Il dott. Rossi è qui.", "Lui parla."]),
        ("nl", ["Hij heeft o.a. Dr. Jansen gezien.", "Dat was bijv. gisteren."]),
        ("ru", ["Это ул. Ленина.", "Он там."]),
    ],
)
def test_each_language_has_abbreviations_of_its_own(code: str, expected: list[str]) -> None:
    assert split(" ".join(expected), code) == expected


@pytest.mark.parametrize(
    "expected",
    [
        ["我来了。", "你呢？", "好的！", "再见"],
        ["「行く。」と言った。", "東京です。"],
        ["यह है।", "वह नहीं॥", "क्या?"],
    ],
    ids=["chinese", "japanese", "hindi"],
)
def test_asian_marks_end_a_sentence_without_white_space(expected: list[str]) -> None:
    assert split("".join(expected)) == expected


def test_arabic_marks_end_a_sentence() -> None:
    assert split("هل أنت هنا؟ نعم. انا هنا۔ طيب") == ["هل أنت هنا؟", "نعم.", "انا هنا۔", "طيب"]


def test_a_missing_space_is_seen_before_a_word_of_grammar_and_not_inside_a_name() -> None:
    assert split("It works well.This one too!Then it stopped.") == [
        "It works well.",
        "This one too!",
        "Then it stopped.",
    ]
    assert len(split("Use java.util.List and Node.Js, or www.Example.The/x?A=B too")) == 1, "names have dots in them"


def test_a_text_without_capitals_is_split_at_its_marks() -> None:
    assert split("great phone! i love it. it works, e.g. here. bye") == [
        "great phone!",
        "i love it.",
        "it works, e.g. here.",
        "bye",
    ]


def test_an_empty_line_ends_a_sentence_and_a_wrapped_line_does_not() -> None:
    assert split("A title\r\n\r\nIt goes\r\non here. And\r\nhere.") == ["A title", "It goes on here.", "And here."]


def test_list_items_are_sentences_of_their_own() -> None:
    assert split("We need:\n- eggs\n- milk and\n  honey\n1. First. Second.\nb) third") == [
        "We need:",
        "- eggs",
        "- milk and honey",
        "1. First.",
        "Second.",
        "b) third",
    ]


def test_a_paragraph_without_any_mark_is_split_by_lines() -> None:
    assert split("roses are red\nviolets are blue\nsugar is sweet") == [
        "roses are red",
        "violets are blue",
        "sugar is sweet",
    ]


def test_what_has_no_letter_belongs_to_the_sentence_before() -> None:
    assert split("Great! 🎉🎉 \n\n***\n\nNext one. 😀") == ["Great! 🎉🎉 ***", "Next one. 😀"]


@pytest.mark.parametrize("text", ["a" * 5_000, "word " * 1_000, "...!!!???", "😀", ".", "\0"])
def test_a_text_that_cannot_be_split_is_one_sentence(text: str) -> None:
    assert split(text) == [fold(text)]


def test_only_white_space_has_no_sentence() -> None:
    assert split(" \r\n\t\u2003\u2028 ") == []


def test_sentences_are_in_order_trimmed_and_hold_every_visible_character(nasty: str) -> None:
    spans = sentences(nasty, language())
    assert all(a.end <= b.start for a, b in pairwise(spans)), "sentences never overlap"
    assert all(nasty[start:end] == nasty[start:end].strip() != "" for start, end in spans)
    kept = "".join(nasty[start:end] for start, end in spans)
    assert "".join(kept.split()) == "".join(nasty.split()), "nothing is lost but white space"
