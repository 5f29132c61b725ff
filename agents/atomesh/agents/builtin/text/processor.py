"""One text in, one outcome out: what stands behind the agent `text-processor`.

Everything of TextOutput is filled but `processing_time_ms` and `metadata`,
which say who ran it and how long it took: the agent's to add.
"""

from __future__ import annotations

from typing import Final

from atomesh.agents.builtin.text import sentiment as moods
from atomesh.agents.builtin.text.keywords import keywords
from atomesh.agents.builtin.text.languages import DEFAULT, UnsupportedLanguage, language
from atomesh.agents.builtin.text.sentences import fold
from atomesh.agents.builtin.text.summarize import summarize
from atomesh.agents.builtin.text.words import word_count
from atomesh.text.v1 import text_pb2

DEFAULT_MAX_SENTENCES: Final = 3
DEFAULT_TOP_K: Final = 10


class UnknownOperation(ValueError):
    """The input asks for something that the agent does not do; the contract's rules refuse it earlier."""

    def __init__(self, operation: str) -> None:
        """`operation`: as asked for."""
        super().__init__(f'unknown operation "{operation}"; one of {", ".join(_OPERATIONS)}')
        self.operation = operation


def process(text: text_pb2.TextInput) -> text_pb2.TextOutput:
    """The outcome of the operation asked for; the same for the same input, always.

    Raises:
        UnknownOperation: the operation is none of the three.
        UnsupportedLanguage: the operation does not know the language.
    """
    run = _OPERATIONS.get(text.operation)
    if run is None:
        raise UnknownOperation(text.operation)
    output = run(text.content, text.options)
    output.word_count = word_count(text.content)
    return output


def _summarize(content: str, options: text_pb2.TextOptions) -> text_pb2.TextOutput:
    most = options.max_sentences if options.HasField("max_sentences") else DEFAULT_MAX_SENTENCES
    summary = summarize(content, language(options.language), most)
    chosen = [
        text_pb2.Sentence(
            text=fold(content[scored.span.start : scored.span.end]), index=scored.index, score=scored.score
        )
        for scored in summary.sentences
    ]
    return text_pb2.TextOutput(
        result=" ".join(sentence.text for sentence in chosen),
        summary=text_pb2.Summary(sentences=chosen, total_sentences=summary.total),
        confidence=summary.confidence,
    )


def _extract_keywords(content: str, options: text_pb2.TextOptions) -> text_pb2.TextOutput:
    most = options.top_k if options.HasField("top_k") else DEFAULT_TOP_K
    found = keywords(content, language(options.language), most)
    chosen = [text_pb2.Keyword(text=k.text, score=k.score, count=k.count) for k in found.keywords]
    return text_pb2.TextOutput(
        result=", ".join(keyword.text for keyword in chosen),
        keywords=text_pb2.Keywords(keywords=chosen),
        confidence=found.confidence,
    )


def _sentiment(content: str, options: text_pb2.TextOptions) -> text_pb2.TextOutput:
    asked = options.language or DEFAULT
    if asked not in moods.LANGUAGES:
        raise UnsupportedLanguage(asked, moods.LANGUAGES, "sentiment")
    mood = moods.sentiment(content)
    return text_pb2.TextOutput(
        result=mood.label,
        sentiment=text_pb2.Sentiment(
            label=mood.label,
            compound=mood.compound,
            positive=mood.positive,
            neutral=mood.neutral,
            negative=mood.negative,
        ),
        confidence=mood.confidence,
    )


_OPERATIONS: Final = {"summarize": _summarize, "extract_keywords": _extract_keywords, "sentiment": _sentiment}
