from __future__ import annotations

import os
import subprocess
import sys

import pytest

from atomesh.agents.builtin.text import SUPPORTED_LANGUAGES, UnknownOperation, UnsupportedLanguage, process
from atomesh.core.rules import WIRE_RULES
from atomesh.text.v1 import text_pb2

OPERATIONS = ("summarize", "extract_keywords", "sentiment")
TEXT = "The mesh routes calls. The mesh keeps leases! Dr. Smith loves the mesh. Nobody pays 3.50 for it. It is great."


def run(content: str, operation: str, **options: object) -> text_pb2.TextOutput:
    return process(
        text_pb2.TextInput(content=content, operation=operation, options=text_pb2.TextOptions(**options))  # type: ignore[arg-type]  # each test names its own
    )


def test_a_summary_fills_its_part_and_the_result() -> None:
    output = run(TEXT, "summarize", max_sentences=2)
    assert output.WhichOneof("structured") == "summary"
    assert output.summary.total_sentences == 5
    assert len(output.summary.sentences) == 2
    assert output.result == " ".join(sentence.text for sentence in output.summary.sentences)
    assert output.word_count == 21


def test_keywords_fill_their_part_and_the_result() -> None:
    output = run(TEXT, "extract_keywords", top_k=3)
    assert output.WhichOneof("structured") == "keywords"
    assert output.result == ", ".join(keyword.text for keyword in output.keywords.keywords)
    assert len(output.keywords.keywords) == 3


def test_sentiment_fills_its_part_and_the_result() -> None:
    output = run(TEXT, "sentiment")
    assert output.WhichOneof("structured") == "sentiment"
    assert output.result == output.sentiment.label == "positive"


def test_defaults_are_three_sentences_and_ten_keywords() -> None:
    colours = ("red", "green", "blue", "black", "white", "grey", "pink")
    long = " ".join(f"The {colour} system has {colour} parts." for colour in colours)
    assert len(run(long, "summarize").summary.sentences) == 3
    assert len(run(long, "extract_keywords").keywords.keywords) == 10


def test_who_ran_it_and_how_long_is_left_to_the_agent() -> None:
    for operation in OPERATIONS:
        output = run(TEXT, operation)
        assert output.processing_time_ms == 0
        assert not output.metadata


@pytest.mark.parametrize("operation", OPERATIONS)
def test_whatever_the_text_the_output_keeps_the_contract(nasty: str, operation: str) -> None:
    content = nasty[:10_000]
    assert WIRE_RULES.check(text_pb2.TextInput(content=content, operation=operation)) == (), "the input is allowed"
    output = run(content, operation)
    assert WIRE_RULES.check(output) == ()
    assert output == run(content, operation), "the same input gives the same output"
    assert text_pb2.TextOutput.FromString(output.SerializeToString()) == output


@pytest.mark.parametrize("code", SUPPORTED_LANGUAGES)
def test_every_supported_language_summarizes_and_finds_keywords(nasty_texts: tuple[str, ...], code: str) -> None:
    for content in nasty_texts:
        for operation in ("summarize", "extract_keywords"):
            assert WIRE_RULES.check(run(content[:300], operation, language=code)) == (), content[:300]


@pytest.mark.parametrize("operation", ["summarize", "extract_keywords"])
def test_an_unsupported_language_is_refused_by_name(operation: str) -> None:
    with pytest.raises(UnsupportedLanguage, match=r'^unsupported language "zh"; one of da, de, en, ') as caught:
        run(TEXT, operation, language="zh")
    assert caught.value.supported == SUPPORTED_LANGUAGES


def test_sentiment_knows_english_alone_and_says_so() -> None:
    assert run(TEXT, "sentiment", language="en").result == "positive"
    with pytest.raises(UnsupportedLanguage, match=r'^unsupported language "de" for sentiment; one of en$'):
        run(TEXT, "sentiment", language="de")


def test_an_unknown_operation_is_refused_by_name() -> None:
    message = r'^unknown operation "translate"; one of summarize, extract_keywords, sentiment$'
    with pytest.raises(UnknownOperation, match=message):
        run(TEXT, "translate")


SCRIPT = """
import hashlib, sys
from atomesh.agents.builtin.text import process
from atomesh.text.v1 import text_pb2
text = sys.stdin.read()
for operation in ("summarize", "extract_keywords", "sentiment"):
    output = process(text_pb2.TextInput(content=text, operation=operation))
    print(operation, hashlib.sha256(output.SerializeToString(deterministic=True)).hexdigest())
"""


def test_the_order_of_hashes_changes_nothing() -> None:
    """Words that tie in every score, in several scripts: any order taken from a set would show."""
    text = " ".join(f"{a}{b} {b}{a}e. Naïve {a} हिन्दी {b}, 東京 e\u0301{a}!" for a in "xyzvw" for b in "klmno")

    def outputs(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(
            command, input=text, env=environment, capture_output=True, text=True, encoding="utf-8", check=True
        )
        return done.stdout

    first = outputs("1")
    assert first.count("\n") == 3
    assert first == outputs("2") == outputs("77"), "one input, one output, whatever the hashes"
