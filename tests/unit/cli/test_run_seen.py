"""A run as its events tell of it: in lines for a pipe, as a tree for a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from atomesh.cli._run_seen import Seen
from atomesh.cli._run_tree import picture
from atomesh.cli._run_words import gone, items_told, left_out, short, took, what_next
from atomesh.pipelines import (
    AttemptFailed,
    Event,
    RunEnded,
    RunRecord,
    RunStarted,
    RunStatus,
    StageEnded,
    StageProgress,
    StageRecord,
    StageStarted,
    StageStatus,
)
from atomesh.pipelines.record import AttemptRecord

MADE_UP = "3f2a91bc4f1104d5a9c2f1e07b6d8a35"


def stage(name: str = "a", **fields: Any) -> StageRecord:
    given: dict[str, Any] = {"agent": "opener", "started_at": 1.0, "seconds": 0.0123} | fields
    return StageRecord(name, **given)


def run(*stages: StageRecord, **fields: Any) -> RunRecord:
    return RunRecord(
        **{"id": MADE_UP, "pipeline": "report", "version": "1.0.0"} | fields, started_at=1.0, stages=[*stages]
    )


def ended(record: RunRecord, status: RunStatus = RunStatus.SUCCESS, seconds: float = 4.5) -> RunEnded:
    record.status, record.seconds = status, seconds
    return RunEnded(record)


def lines(*events: Event) -> list[str]:
    seen, told = Seen(), []
    for event in events:
        seen.take(event, 0.0)
        told.append(seen.line(event))
    return [line for line in told if line]


def drawn(seen: Seen, width: int = 80, height: int = 24, now: float = 2.0) -> list[str]:
    out = Console(file=io.StringIO(), width=width, height=height, markup=False)
    out.print(picture(seen, now, width, height))
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


def seen_of(*stages: StageRecord, **fields: Any) -> tuple[Seen, RunRecord]:
    seen, record = Seen(), run(*stages, **fields)
    seen.take(RunStarted(record), 0.0)
    return seen, record


# -- lines -------------------------------------------------------------------


def test_one_stage_is_one_stage() -> None:
    assert lines(RunStarted(run(stage())))[0] == f"run {MADE_UP}: report 1.0.0, 1 stage"
    assert lines(RunStarted(run(stage(), stage("b"))))[0].endswith(", 2 stages")


def test_an_attempt_names_the_item_that_it_was_of() -> None:
    record = run(each := stage("each", items=6))
    failed = AttemptRecord(2, "opener", 1.0, error="no such page", outcome="NO_PAGE", item=3)
    assert lines(RunStarted(record), AttemptFailed(record, each, failed, 1.0))[1] == (
        "each: item 3, attempt 2 failed: no such page, again in 1.0 s"
    )
    failed.item = None
    assert (
        lines(RunStarted(record), AttemptFailed(record, each, failed, None))[1]
        == "each: attempt 2 failed: no such page"
    )


def test_success_by_a_fallback_says_by_whom_and_in_whose_place() -> None:
    record = run(opened := stage("open"))
    seen = Seen()
    seen.take(RunStarted(record), 0.0)
    opened.status, opened.agent, opened.fell_back_to = StageStatus.SUCCESS, "opener-b", "opener-b"
    failed = AttemptRecord(2, "opener-b", 1.0, error="shut", outcome="SHUT")
    assert seen.line(AttemptFailed(record, opened, failed, None)) == "open: attempt 2 by opener-b failed: shut"
    assert seen.line(StageEnded(record, opened, None)) == "open: success in 12.3 ms, by opener-b, in place of opener"
    assert any("by opener-b, in place of opener" in line for line in drawn(seen))


def test_undone_stages_are_told() -> None:
    record = run(stage(status=StageStatus.COMPENSATED), kept := stage("b", status=StageStatus.SUCCESS))
    kept.reason = "not undone: no such ticket"
    told = [StageEnded(record, each, None) for each in record.stages]
    assert lines(*told) == ["a: undone", "b: not undone: no such ticket"]


def test_skipped_items_are_counted() -> None:
    each = stage("each", status=StageStatus.SUCCESS, items=6, items_skipped=1, error="bad words")
    each.reason = "1 of 6 items were skipped"
    assert lines(StageEnded(run(each), each, None)) == ["each: success in 12.3 ms, 5 of 6 items, 1 skipped: bad words"]


def test_a_stage_left_out_says_which_guard_was_false() -> None:
    rare = stage("rare", status=StageStatus.OMITTED, reason="when size(many) > 100", started_at=0.0)
    assert lines(StageEnded(run(rare), rare, None)) == ["rare: left out: size(many) > 100 is false"]
    assert left_out("nothing came of a") == "left out: nothing came of a"


def test_a_stage_that_was_skipped_says_what_went_on_and_why() -> None:
    other = stage(status=StageStatus.SKIPPED, reason="its default went on", error="bad words")
    assert lines(StageEnded(run(other), other, None)) == ["a: skipped in 12.3 ms: its default went on; bad words"]


def test_a_long_list_tells_every_tenth_and_its_end_once() -> None:
    record = run(each := stage("each", items=40))
    told = lines(RunStarted(record), *(StageProgress(record, each, done) for done in range(1, 41)))[1:]
    assert told[0] == "each: 4 of 40 items"
    assert len(told) == 9, "the stage's own end says the last"


def test_a_run_that_waits_for_a_word_was_interrupted() -> None:
    record = run()
    assert lines(ended(record, RunStatus.RUNNING, 1.0)) == [f"run {MADE_UP}: interrupted in 1.00 s"]
    seen = Seen()
    seen.interrupted = True
    seen.take(ended(record, RunStatus.CANCELLED), 0.0)
    assert seen.stands() == "interrupted", "its process leaves it: it is not cancelled"
    record.status = RunStatus.SUCCESS
    assert seen.stands() == "success", "it ended before it could be left"


# -- the tree ----------------------------------------------------------------


def test_the_head_says_how_the_run_ended_and_after_what_time() -> None:
    seen, record = seen_of(stage(status=StageStatus.SUCCESS))
    assert drawn(seen)[0] == "report 1.0.0  run 3f2a91bc4f11  running, 2.0 s"
    seen.take(ended(record, RunStatus.PARTIAL), 3.0)
    assert drawn(seen)[0] == "report 1.0.0  run 3f2a91bc4f11  partial in 4.50 s"
    seen.interrupted, record.status = True, RunStatus.CANCELLED
    assert drawn(seen)[0].endswith("  interrupted in 4.50 s")
    assert "interrupted in 4.50 s" in drawn(seen, width=30)[0], "how it ended is the last to be cut"


def test_cancelled_failed_and_partly_skipped_have_a_sign_each() -> None:
    each = stage("each", status=StageStatus.SUCCESS, items=6, items_skipped=1)
    seen, _ = seen_of(
        each, stage("b", status=StageStatus.FAILED), stage("c", status=StageStatus.CANCELLED), stage("d", seconds=0.0)
    )
    rows = drawn(seen)[1:]
    assert [row[4] for row in rows] == ["»", "✗", "■", "·"]
    assert "5 of 6 items, 1 skipped" in rows[0]


def test_a_cancelled_stage_counts_what_was_done() -> None:
    seen, record = seen_of(each := stage("each", items=6))
    seen.take(StageStarted(record, each), 0.0)
    each.status = StageStatus.CANCELLED
    assert "0 of 6 items" in drawn(seen)[1], "none had ended"
    seen.take(StageProgress(record, each, 2), 0.0)
    assert "2 of 6 items" in drawn(seen)[1]
    assert lines(StageEnded(record, each, None)) == ["each: cancelled in 12.3 ms, 0 of 6 items"]


@pytest.mark.parametrize("width", [80, 120])
def test_long_names_do_not_shift_the_columns(width: int) -> None:
    failed = stage("each_of_the_words_in_turn_and_slowly", status=StageStatus.FAILED, error="bad words " * 30)
    seen, _ = seen_of(stage(status=StageStatus.SUCCESS), failed, stage("字" * 20, status=StageStatus.SUCCESS))
    rows = drawn(seen, width)
    assert all(Console().render_str(row).cell_len <= width for row in rows)
    first, second, *_ = [row for row in rows if "12.3 ms" in row]
    assert first.index("12.3 ms") == second.index("12.3 ms")
    assert "…" in second
    assert sum("bad words" in row for row in rows) == 1, "it has one line, and the error itself is told in full later"


def test_what_runs_and_what_failed_stays_in_sight_of_a_pipeline_taller_than_its_terminal() -> None:
    stages = [stage(f"s{number}", status=StageStatus.SUCCESS) for number in range(100)]
    for number in range(40, 100):
        stages[number].status = StageStatus.PENDING
    stages[2].status, stages[90].status, stages[30].status = (
        StageStatus.FAILED,
        StageStatus.RUNNING,
        StageStatus.RUNNING,
    )
    seen, record = seen_of(*stages)
    rows = drawn(seen, height=12)
    assert len(rows) <= 12
    for name in ("s2 ", "s30 ", "s90 "):
        assert any(name in row for row in rows), f"{name} is what one looks for"
    hidden = sum(int(part.split()[0]) for part in rows[-1].removeprefix("└── ... ").split(", "))
    assert hidden + len(rows) - 2 == 100, "each is shown or counted"
    for each in stages:
        each.status = StageStatus.RUNNING
    assert drawn(seen, height=12)[-1].endswith("... 91 running"), "not all that run can be shown"
    seen.take(ended(record), 0.0)
    stages[99].status = StageStatus.PENDING
    assert "not begun" in drawn(seen, height=12)[-1], "nothing is to come of what has ended"


def test_a_stage_says_what_it_waits_for_until_it_tells_its_error() -> None:
    seen, record = seen_of(one := stage(status=StageStatus.RUNNING))
    failed = AttemptRecord(1, "opener", 1.0, error="busy", outcome="OVERLOADED")
    seen.take(AttemptFailed(record, one, failed, 2.0), 0.0)
    assert "attempt 1 OVERLOADED, again in 2.0 s" in drawn(seen)[1]
    seen.take(AttemptFailed(record, one, failed, None), 0.0)
    one.error = "busy"
    assert drawn(seen)[1].endswith("  busy")


def test_nothing_of_the_network_reaches_the_terminal_raw() -> None:
    seen, _ = seen_of(
        stage("\x1b[2Jx", agent="\x07", status=StageStatus.FAILED, error="\x9b[red]"), pipeline="\x1b]0;x"
    )
    told = "".join(drawn(seen))
    assert not set("\x1b\x07\x9b") & set(told)
    assert "\\x9b[red]" in told


# -- words -------------------------------------------------------------------


def test_ids_that_were_made_up_are_shown_short_and_chosen_ones_whole() -> None:
    assert short(MADE_UP) == "3f2a91bc4f11"
    assert short("nightly-2026-11-28") == "nightly-2026-11-28"


def test_durations_and_counts_read_well() -> None:
    assert [took(0.0123), took(4.561), took(200)] == ["12.3 ms", "4.56 s", "3 m 20 s"]
    assert [items_told(0, 0, 0), items_told(1, 1, 0), items_told(6, 6, 1)] == ["", "1 item", "5 of 6 items, 1 skipped"]


def test_an_interrupted_run_says_whose_it_was_and_what_to_do() -> None:
    owner = "127.0.0.1:7500 (pid 4711 on host, since 3f2a91bc.4026531836.184467)"
    assert gone(owner) == "its process, pid 4711 on host, is gone"
    assert gone(f"nobody, after {owner}") == "pid 4711 on host gave it up"
    assert what_next(MADE_UP, durable=True) == (
        "`atomesh runs resume 3f2a91bc4f11` goes on with it, `atomesh runs cancel 3f2a91bc4f11` ends it"
    )
    assert "run its pipeline anew" in what_next(MADE_UP, durable=False)
