"""The evaluation measures what it says: figures worked out by hand, and one line for a user's mistake."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def evaluation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("eval_text", ROOT / "benchmarks" / "eval_text.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(file: Path, *records: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return file


def test_keyword_f1_compares_stems_and_counts_a_repeated_prediction_once(evaluation: ModuleType) -> None:
    predicted = ["Service Meshes", "service mesh", "agents", "lease"]
    assert evaluation.keyword_f1(predicted, ["service-mesh", "agent", "contract"], 2) == pytest.approx(2 * 2 / 5)
    assert evaluation.keyword_f1(predicted, ["service mesh", "agent", "contract"], 10) == pytest.approx(2 * 2 / 6)
    assert evaluation.keyword_f1(predicted, ["nothing"], 10) == 0.0
    assert evaluation.keyword_f1([], ["nothing"], 10) == 0.0


def test_sentiment_counts_accuracy_and_macro_f1_over_the_labels_that_occur(
    evaluation: ModuleType, tmp_path: Path
) -> None:
    report = evaluation.evaluate(
        write(
            tmp_path / "moods.jsonl",
            {"id": "1", "text": "I love it", "label": "positive"},
            {"id": "2", "text": "I hate it", "label": "negative"},
            {"id": "3", "text": "It is on the table\u2028", "label": "positive"},
            {"id": "4", "text": "It is great", "label": "negative"},
        )
    )
    assert report["accuracy"] == 0.5
    # positive: 1 right of 2 said and 2 wanted; negative: 1 right of 1 said and 2 wanted.
    assert report["macro_f1"] == pytest.approx((2 / 4 + 2 / 3) / 2, abs=1e-4)
    assert sum(band["texts"] for band in report["by_confidence"]) == 4


def test_a_long_text_is_cut_at_a_sentence(evaluation: ModuleType) -> None:
    text = "This is a sentence of a text. " * 500
    cut = evaluation.cut(text)
    assert 9_900 < len(cut) <= 10_000
    assert cut.endswith("text.")
    assert len(evaluation.cut("a" * 20_000)) == 10_000
    assert evaluation.cut("Short. Text") == "Short. Text"


def test_baselines_are_cut_to_the_same_number_of_words(evaluation: ModuleType) -> None:
    assert evaluation.first_words(["a b c", "d e", "f"], 4) == ["a b c", "d"]
    assert evaluation.first_words(["a b c"], 0) == []


def test_the_command_writes_what_it_prints(
    evaluation: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "moods.jsonl", {"text": "I love it", "label": "positive"})
    write(tmp_path / "topics.jsonl", {"text": "Leases expire. Leases renew.", "keywords": ["lease"]})
    output = tmp_path / "out" / "eval.json"
    assert evaluation.main([str(tmp_path), "--output", str(output)]) == 0
    sets = {one["set"]: one for one in json.loads(output.read_text(encoding="utf-8"))["sets"]}
    assert sets["moods"]["accuracy"] == 1.0
    assert sets["topics"]["f1_at_10"] > 0
    assert "moods" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "empty"),
        ('{"text": "a"}\n{"text": ', "data.jsonl:2: not JSON"),
        ('["text"]', 'data.jsonl:1: no object with a field "text"'),
        ('{"id": "1", "text": "a", "score": 1}', "wanted in all: label, keywords, summary or summaries"),
        ('{"text": "a", "label": "neutral"}\n{"text": "b"}', "wanted in all: label"),
    ],
)
def test_a_mistake_in_the_data_is_one_line_that_says_where(
    evaluation: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, complaint: str
) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(content, encoding="utf-8")
    assert evaluation.main([str(file), "--output", str(tmp_path / "out.json")]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert evaluation.main([str(tmp_path / "missing.jsonl")]) == 2
    assert "missing.jsonl" in capsys.readouterr().err


def test_summaries_without_rouge_score_say_what_to_install(
    evaluation: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    file = write(tmp_path / "news.jsonl", {"text": "One. Two.", "summary": "One."})
    assert evaluation.main([str(file)]) == 2
    assert "dependency group `eval`" in capsys.readouterr().err
