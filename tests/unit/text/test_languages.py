from __future__ import annotations

import sys
import threading

import pytest
import snowballstemmer

from atomesh.agents.builtin.text import languages
from atomesh.agents.builtin.text.languages import SUPPORTED, UnsupportedLanguage, language

STEM = languages._stem.__wrapped__  # without its memo, so that every call stems


def test_every_supported_language_stems_and_knows_its_stop_words() -> None:
    assert {"en", "de", "fr", "es", "it", "pt", "nl"} <= set(SUPPORTED)
    for code in SUPPORTED:
        one = language(code)
        assert len(one.stop_words) > 90, f"{code} has too few stop words to mean anything"
        assert all(word == word.lower() for word in one.stop_words), f"{code}: stop words are compared in lower case"
        assert one.stem(one.fold("Organisation")), f"{code} must have a stemmer"


def test_no_language_said_is_english() -> None:
    assert language() is language("en")


@pytest.mark.parametrize("code", ["xx", "zh", "EN", "eng"])
def test_an_unsupported_language_is_refused_by_name_with_those_supported(code: str) -> None:
    with pytest.raises(UnsupportedLanguage) as caught:
        language(code)
    assert caught.value.language == code
    assert caught.value.supported == SUPPORTED
    assert f'"{code}"' in str(caught.value)
    assert "da, de, en, es, fr, it, nl, no, pt, ru, sv" in str(caught.value)
    assert "\n" not in str(caught.value), "an error is one line"


@pytest.mark.parametrize(
    ("code", "word", "folded"),
    [
        ("en", "Smith’s", "smith"),
        ("en", "it's", "it's"),
        ("en", "O'Neill", "o'neill"),
        ("fr", "L'homme", "homme"),
        ("fr", "aujourd'hui", "aujourd'hui"),
        ("it", "dell’arte", "arte"),
        ("de", "Häuser", "häuser"),
    ],
)
def test_words_are_folded_as_stop_words_are_written(code: str, word: str, folded: str) -> None:
    assert language(code).fold(word) == folded


def test_data_that_looks_like_a_word_is_its_own_stem() -> None:
    assert language().stem("ing" * 30) == "ing" * 30, "the memo must not fill with data"


def test_stems_are_right_on_many_threads_at_once() -> None:
    """The stemmer keeps state while it stems: without a lock, threads get each other's letters."""
    vocabulary = [
        f"{a}{b}{ending}" for a in "bcdfgh" for b in "aeio" for ending in ("tional", "nesses", "lizing", "ves")
    ]
    alone = snowballstemmer.stemmer("english")
    wanted = {word: alone.stemWord(word) for word in vocabulary}
    wrong: list[str] = []

    def stem(words: list[str]) -> None:
        wrong.extend(word for word in words for _ in range(20) if STEM("en", word) != wanted[word])

    threads = [threading.Thread(target=stem, args=(vocabulary[i::4],)) for i in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
