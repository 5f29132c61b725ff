"""The figures of a batch."""

from __future__ import annotations

import json

import pytest

from atomesh.core import errors
from atomesh.pipelines.batch.analysis import MAX_ERRORS, MAX_NAMES, Analysis
from atomesh.pipelines.batch.model import BatchItem, BatchSettings, BatchStatus, BatchSummary, Ended, Outcome


def analysis(total: int | None = None, **settings: float) -> Analysis:
    return Analysis("b1", "echo", BatchSettings(**settings), 0.0, total)  # type: ignore[arg-type] # test shorthand


def item(index: int = 0, error: Exception | None = None, **more: object) -> BatchItem:
    outcome = Outcome.SUCCESS if error is None else Outcome.FAILED
    given: dict[str, object] = {"seconds": 1.0, "execution": 1.0, "endpoint": "here:1", **more}
    return BatchItem(index, str(index), "echo", outcome, error=error, **given)  # type: ignore[arg-type] # as above


def ended(book: Analysis, now: float, why: Ended = Ended.INPUTS) -> BatchSummary:
    book.ended = why
    book.over(now)
    return book.summary(now + 100)


def test_efficiency_is_busy_slot_time_over_the_slot_time_that_there_was() -> None:
    book = analysis()
    book.slots("echo", 2, 0.0)
    for index in range(6):
        book.took_in()
        book.item(item(index), 1.0 + index // 2)
    book.slots("echo", 4, 3.0)
    summary = ended(book, 4.0)
    assert summary.slots_mean == pytest.approx((2 * 3 + 4 * 1) / 4)
    assert summary.efficiency == pytest.approx(6 / 10)
    assert summary.throughput == pytest.approx(6 / 4)
    assert summary.duration == 4.0, "what happens after the end does not count"


def test_the_end_without_work_counts_in_one_figure_and_not_in_the_other() -> None:
    book = analysis()
    book.slots("echo", 2, 0.0)
    for index in range(4):
        book.took_in()
        book.item(item(index), 2.0)
    book.took_in()
    book.fed(2.0)
    book.item(item(4, seconds=9.0, execution=9.0), 10.0)
    summary = ended(book, 10.0)
    assert summary.efficiency == pytest.approx(13 / 20)
    assert summary.efficiency_fed == pytest.approx((4 + 1) / 4, abs=0.26), "of the last one second fell into the time"
    assert summary.efficiency_fed <= 1.0


def test_a_cap_takes_slots_away() -> None:
    book = analysis(max_concurrency=1)
    book.slots("echo", 4, 0.0)
    book.took_in()
    book.item(item(), 1.0)
    assert ended(book, 1.0).efficiency == pytest.approx(1.0), "slots that may not be used are not available"


@pytest.mark.parametrize(
    ("good", "bad", "why", "status"),
    [
        (4, 0, Ended.INPUTS, BatchStatus.SUCCESS),
        (3, 1, Ended.INPUTS, BatchStatus.PARTIAL),
        (2, 2, Ended.INPUTS, BatchStatus.PARTIAL),
        (1, 3, Ended.INPUTS, BatchStatus.FAILED),
        (4, 0, Ended.TIMEOUT, BatchStatus.PARTIAL),
        (4, 0, Ended.BROKEN_INPUTS, BatchStatus.PARTIAL),
        (0, 0, Ended.BROKEN_INPUTS, BatchStatus.FAILED),
    ],
)
def test_the_share_of_successes_decides_the_status(good: int, bad: int, why: Ended, status: BatchStatus) -> None:
    book = analysis()
    for index in range(good + bad):
        book.took_in()
        book.item(item(index, errors.AgentFailed("no") if index >= good else None), 1.0)
    assert ended(book, 1.0, why).status is status


def test_what_was_never_begun_counts_against_the_batch() -> None:
    book = analysis(total=10)
    for index in range(4):
        book.took_in()
        book.item(item(index), 1.0)
    summary = ended(book, 1.0, Ended.TIMEOUT)
    assert (summary.total, summary.not_run, summary.success_rate) == (10, 6, 0.4)
    assert summary.status is BatchStatus.FAILED


def test_errors_and_endpoints_are_told_apart_up_to_a_bound() -> None:
    book = analysis()
    for index in range(1000):
        book.took_in()
        error = errors.AgentFailed(f"no {index}" * 1000, reason=f"REASON_{index}")
        book.item(item(index, error, endpoint=f"host:{index}"), 1.0)
    summary = ended(book, 1.0)
    assert len(summary.by_error) == len(summary.by_endpoint) == MAX_NAMES + 1
    assert summary.by_error["other"] == 1000 - MAX_NAMES
    assert len(summary.errors) == MAX_ERRORS
    assert len(summary.errors[0].message) == 1000
    assert summary.failed == 1000


def test_the_figures_are_json() -> None:
    book = analysis()
    book.took_in()
    book.item(item(error=ValueError("what")), 1.0)
    data = json.loads(json.dumps(ended(book, 1.0).to_data()))
    assert data["status"] == "failed"
    assert data["by_error"] == {"ValueError": 1}
    assert data["by_endpoint"]["here:1"] == {"items": 1, "failed": 1, "mean_seconds": 1.0}
    assert data["errors"][0]["message"] == "what"


def test_quantiles_and_means_are_those_of_the_items() -> None:
    book = analysis()
    for index in range(1000):
        book.took_in()
        book.item(item(index, seconds=10.0 if index >= 980 else 0.1, queue_wait=0.05), index / 1000)
    summary = ended(book, 1.0)
    assert summary.p50_seconds == pytest.approx(0.1, rel=0.1)
    assert summary.p99_seconds == pytest.approx(10.0, rel=0.1)
    assert summary.mean_seconds == pytest.approx(0.98 * 0.1 + 0.02 * 10)
    assert summary.mean_queue_wait == pytest.approx(0.05)


def test_concurrency_is_what_was_used() -> None:
    book = analysis()
    for at, calls in ((0.0, 2), (1.0, 4), (3.0, 0)):
        book.outstanding(calls, at)
    summary = ended(book, 4.0)
    assert summary.concurrency_max == 4
    assert summary.concurrency_mean == pytest.approx((2 + 8) / 4)
