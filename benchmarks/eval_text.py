"""How well the text agent does on labelled texts: `make eval-text DATA=path`.

Three kinds of JSON Lines, told apart by their fields: `label` (sentiment),
`keywords`, `summary` or `summaries`. A table on the terminal, everything in
`benchmarks/results/eval-text.json`. Texts over the contract's limit are cut
at the last sentence that fits.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import snowballstemmer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from atomesh.agents.builtin.text import process
from atomesh.agents.builtin.text.languages import language
from atomesh.agents.builtin.text.sentences import fold, sentences
from atomesh.text.v1 import text_pb2

Record: TypeAlias = dict[str, Any]
Report: TypeAlias = Record
Judged: TypeAlias = tuple[float, float]  # the agent's confidence, how right it was (0..1)
Rouge: TypeAlias = Callable[[str, Sequence[str]], tuple[float, float, float]]

LIMIT = 10_000
RESULTS = Path(__file__).parent / "results" / "eval-text.json"
SENTIMENT_BANDS = (0.0, 0.3, 0.6, 0.7, 0.8, 0.9, 0.95)
COVERAGE_BANDS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
KEYWORD_BANDS = (0.0, 0.4, 0.45, 0.5, 0.55, 0.6)


class BadData(Exception):
    """The data cannot be read as any of the three kinds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluates each file, prints, writes the JSON; 2 where nothing could be evaluated."""
    parser = argparse.ArgumentParser(description="How well the text agent does on labelled texts.")
    parser.add_argument("path", type=Path, help="a .jsonl file of labelled texts, or a folder of them")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes")
    options = parser.parse_args(arguments)
    try:
        reports = [evaluate(file) for file in find(options.path)]
    except (BadData, OSError, UnicodeDecodeError) as error:
        print(f"eval-text: {error}", file=sys.stderr)
        return 2
    show(reports)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    options.output.write_text(json.dumps({"date": today, "sets": reports}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {options.output}")
    return 0


def find(path: Path) -> list[Path]:
    """The files to evaluate, by name."""
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise BadData(f"{path} has no .jsonl files; give a file or a folder of labelled texts")
    return files


def evaluate(file: Path) -> Report:
    """The figures of one file, by the kind of its first record."""
    records = load(file)
    kind = kind_of(records[0])
    if kind is None or any(kind_of(record) != kind for record in records):
        fields = ", ".join(sorted(records[0]))
        raise BadData(f"{file}: fields {fields}; wanted in all: label, keywords, summary or summaries")
    return {"set": file.stem, "kind": kind, "texts": len(records), **_KINDS[kind](records)}


def load(file: Path) -> list[Record]:
    """The records of a file.

    Raises:
        BadData: a line is no JSON object with a text, or there is none at all.
    """
    content = file.read_text(encoding="utf-8").strip()
    if not content:
        raise BadData(f"{file} is empty")
    records = []
    for number, line in enumerate(content.split("\n"), start=1):  # a text may hold a U+2028: no splitlines()
        try:
            record = json.loads(line)
        except ValueError as error:
            raise BadData(f"{file}:{number}: not JSON: {error}") from error
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise BadData(f'{file}:{number}: no object with a field "text"')
        records.append(record)
    return records


def kind_of(record: Record) -> str | None:
    """Which of the three kinds a record is."""
    if "label" in record:
        return "sentiment"
    if "keywords" in record:
        return "keywords"
    return "summaries" if "summary" in record or "summaries" in record else None


def cut(text: str) -> str:
    """The text up to the last sentence that ends within the contract's limit."""
    if len(text) <= LIMIT:
        return text
    ends = [end for _, end in sentences(text, language()) if end <= LIMIT]
    return text[: ends[-1]] if ends else text[:LIMIT]


def run(records: Sequence[Record], operation: str) -> tuple[list[text_pb2.TextOutput], float]:
    """The agent's outputs and how many texts a second it made them at."""
    inputs = [text_pb2.TextInput(content=cut(record["text"]), operation=operation) for record in records]
    process(inputs[0])  # the lexicon is read at first use
    start = time.perf_counter()
    outputs = [process(one) for one in inputs]
    return outputs, round(len(inputs) / (time.perf_counter() - start))


def evaluate_sentiment(records: Sequence[Record]) -> Report:
    """Accuracy, macro-F1 over the labels that occur, accuracy by confidence."""
    outputs, rate = run(records, "sentiment")
    wanted = [record["label"] for record in records]
    got = [output.result for output in outputs]
    scores = []
    for label in sorted(set(wanted)):
        hits = sum(a == b == label for a, b in zip(wanted, got, strict=True))
        scores.append(2 * hits / (wanted.count(label) + got.count(label)))
    right = [a == b for a, b in zip(wanted, got, strict=True)]
    judged = [(output.confidence, float(ok)) for output, ok in zip(outputs, right, strict=True)]
    return {
        "accuracy": mean(right),
        "macro_f1": mean(scores),
        "texts_per_second": rate,
        "by_confidence": bands(judged, SENTIMENT_BANDS),
    }


_stemmer = snowballstemmer.stemmer("english")


def stems(phrase: str) -> tuple[str, ...]:
    """A keyword as it is compared: lower case, letters and digits, Snowball English."""
    return tuple(_stemmer.stemWords(re.findall(r"[^\W_]+", phrase.lower())))


def keyword_f1(predicted: Iterable[str], wanted: Iterable[str], most: int) -> float:
    """F1 of the first `most` different predictions, as stems."""
    gold = {stems(keyword) for keyword in wanted} - {()}
    found = [key for key in dict.fromkeys(map(stems, predicted)) if key][:most]
    hits = len(gold.intersection(found))
    return 2 * hits / (len(found) + len(gold)) if hits else 0.0


def evaluate_keywords(records: Sequence[Record]) -> Report:
    """Mean F1 per text at 5 and at 10; share of keywords with a word of the author's, by confidence."""
    outputs, rate = run(records, "extract_keywords")
    pairs = [([k.text for k in o.keywords.keywords], r["keywords"]) for o, r in zip(outputs, records, strict=True)]
    judged = []
    for output, (predicted, wanted) in zip(outputs, pairs, strict=True):
        topic = {stem for keyword in wanted for stem in stems(keyword)}
        touching = mean(bool(topic.intersection(stems(keyword))) for keyword in predicted)
        judged.append((output.confidence, touching))
    return {
        "f1_at_5": mean(keyword_f1(predicted, wanted, 5) for predicted, wanted in pairs),
        "f1_at_10": mean(keyword_f1(predicted, wanted, 10) for predicted, wanted in pairs),
        "texts_per_second": rate,
        "by_confidence": bands(judged, KEYWORD_BANDS),
    }


def rouge() -> Rouge:
    """F of ROUGE-1, -2 and -L, each against its best reference.

    Raises:
        BadData: rouge-score is not installed.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise BadData("summaries need rouge-score; install the dependency group `eval`") from error
    names = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(list(names), use_stemmer=True)

    def score(summary: str, references: Sequence[str]) -> tuple[float, float, float]:
        each = [scorer.score(reference, summary) for reference in references]
        best = [max(one[name].fmeasure for one in each) for name in names]
        return best[0], best[1], best[2]

    return score


def evaluate_summaries(records: Sequence[Record]) -> Report:
    """ROUGE of three sentences; lead and random with three sentences, and cut or filled to our number of words."""
    score = rouge()
    outputs, rate = run(records, "summarize")
    rng = random.Random(20_260)
    rows: dict[str, list[tuple[float, float, float]]] = {}
    judged = []
    for record, output in zip(records, outputs, strict=True):
        references = record.get("summaries") or [record["summary"]]
        content = cut(record["text"])
        lead = [fold(content[start:end]) for start, end in sentences(content, language())]
        shuffled = rng.sample(range(len(lead)), len(lead))
        ours = [sentence.text for sentence in output.summary.sentences]
        size = sum(len(sentence.split()) for sentence in ours)
        summaries = {
            "agent": ours,
            "lead": lead[:3],
            "random": [lead[i] for i in sorted(shuffled[:3])],
            "lead, as long": first_words(lead, size),
            "random, as long": first_words([lead[i] for i in shuffled], size),
        }
        for name, chosen in summaries.items():
            rows.setdefault(name, []).append(score("\n".join(chosen), references))
        judged.append((output.confidence, rows["agent"][-1][0]))
    figures = {name: [mean(column) for column in zip(*scores, strict=True)] for name, scores in rows.items()}
    return {"rouge_1_2_l": figures, "texts_per_second": rate, "by_confidence": bands(judged, COVERAGE_BANDS)}


def first_words(chosen: Sequence[str], size: int) -> list[str]:
    """The first `size` words of these sentences."""
    kept = []
    for sentence in chosen:
        if size <= 0:
            break
        kept.append(" ".join(sentence.split()[:size]))
        size -= len(sentence.split())
    return kept


def mean(values: Iterable[float]) -> float:
    """The mean to four places; 0 of nothing."""
    return round(statistics.fmean(listed), 4) if (listed := list(values)) else 0.0


def bands(judged: Sequence[Judged], edges: Sequence[float]) -> list[Report]:
    """How right the agent was where it was so sure; `edges` are the lower ends."""
    table = []
    for low, high in zip(edges, [*edges[1:], 1.01], strict=True):
        inside = [right for confidence, right in judged if low <= confidence < high]
        if inside:
            table.append({"from": low, "to": min(high, 1.0), "texts": len(inside), "right": mean(inside)})
    return table


_KINDS: dict[str, Callable[[Sequence[Record]], Report]] = {
    "sentiment": evaluate_sentiment,
    "keywords": evaluate_keywords,
    "summaries": evaluate_summaries,
}


def show(reports: Sequence[Report]) -> None:
    """The figures of every set, then how right the agent was by how sure it was."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for column in ("set", "texts", "texts/s", "figure", "x100"):
        table.add_column(column, overflow="fold", no_wrap=column == "x100")
    for report in reports:
        head = [report["set"], str(report["texts"]), str(report["texts_per_second"])]
        for figure, value in figures_of(report):
            table.add_row(*head, figure, value)
            head = ["", "", ""]
    Console().print(table)
    print("right x100 where the confidence is (texts):")
    for report in reports:
        print(f"  {report['set']}:  " + "  ".join(map(band_text, report["by_confidence"])))


def band_text(band: Report) -> str:
    """A band of confidence in a few letters."""
    return f"{band['from']:.2f}-{band['to']:.2f}: {100 * band['right']:.0f} ({band['texts']})"


def figures_of(report: Report) -> list[tuple[str, str]]:
    """What to print of one set; of summaries ROUGE-1, -2 and -L."""
    if report["kind"] == "sentiment":
        return [(name, f"{100 * report[name]:.1f}") for name in ("accuracy", "macro_f1")]
    if report["kind"] == "keywords":
        return [(name, f"{100 * report[name]:.1f}") for name in ("f1_at_5", "f1_at_10")]
    figures = report["rouge_1_2_l"].items()
    return [(name, " / ".join(f"{100 * value:.1f}" for value in values)) for name, values in figures]


if __name__ == "__main__":
    sys.exit(main())
