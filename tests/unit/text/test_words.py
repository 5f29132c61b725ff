from __future__ import annotations

from itertools import pairwise

import pytest

from atomesh.agents.builtin.text.words import word_count, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("can't stop, won’t stop", ["can't", "stop", "won’t", "stop"]),
        ("3.50 or 1,000,000 in the U.S.", ["3.50", "or", "1,000,000", "in", "the", "U.S"]),
        ("snake_case and kebab-case", ["snake_case", "and", "kebab", "case"]),
        ("'quoted' \"twice\"", ["quoted", "twice"]),
        ("one,two", ["one", "two"]),
        ("naïve cafe\u0301 nai\u0308ve", ["naïve", "cafe\u0301", "nai\u0308ve"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("العَرَبِيَّة لغة", ["العَرَبِيَّة", "لغة"]),
        ("東京 is 東京タワー", ["東", "京", "is", "東", "京", "タ", "ワ", "ー"]),
        ("abc漢字def", ["abc", "漢", "字", "def"]),
        ("안녕 하세요", ["안녕", "하세요"]),
        ("soft\u00adhyphen", ["soft\u00adhyphen"]),
        ("😀 👨‍👩‍👧 -- *** \0", []),
        ("____", []),
        ("x" * 9_999, ["x" * 9_999]),
    ],
)
def test_words_follow_the_documented_rule(text: str, expected: list[str]) -> None:
    assert [word.text for word in words(text)] == expected
    assert word_count(text) == len(expected)


def test_words_are_pieces_of_the_text_in_order(nasty: str) -> None:
    found = words(nasty)
    assert all(nasty[word.start : word.end] == word.text for word in found), "places are places in the text as given"
    assert all(a.end <= b.start for a, b in pairwise(found))
