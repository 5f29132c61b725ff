"""Records of runs as rows: short ids, ages, what went wrong below; readable at eighty columns."""

from __future__ import annotations

from typing import Any

import pytest

from atomesh.cli._runs_view import run_lines, run_list
from atomesh.pipelines.machine import this_host
from atomesh.pipelines.owner import Owner
from atomesh.pipelines.record import AttemptRecord, Failure, LogRecord, RunRecord, RunStatus, StageRecord, StageStatus
from atomesh.v1 import pipeline_pb2

MADE_UP = "3f2a91bc4f1104d5a9c2f1e07b6d8a35"
STARTED = 1_764_340_000.0
NOW = STARTED + 180
LONG = "the words are bad, and this message goes on for longer than any terminal is wide, to its end"
HERE = this_host()
DEAD = str(Owner(HERE.name, 4711, f"{HERE.boot}.{HERE.namespace}.1", "127.0.0.1:7500"))


def run(*stages: StageRecord, status: RunStatus = RunStatus.SUCCESS, **fields: Any) -> pipeline_pb2.Run:
    record = RunRecord(MADE_UP, "report", "1.0.0", STARTED, [*stages], status, seconds=4.5, input_bytes=1)
    for name, value in fields.items():
        setattr(record, name, value)
    record.ended_at = STARTED + 4.5 if status.ended else 0.0
    return record.to_proto()


def stage(name: str = "summary", **fields: Any) -> StageRecord:
    given: dict[str, Any] = {
        "agent": "text-processor",
        "status": StageStatus.SUCCESS,
        "started_at": STARTED,
        "seconds": 0.0123,
    }
    given |= {"endpoint": "127.0.0.1:40123", "attempt_count": 1} | fields
    return StageRecord(name, **given)


def attempt(number: int = 1, **fields: Any) -> AttemptRecord:
    given: dict[str, Any] = {"agent": "text-processor", "outcome": "BAD_WORDS", "error": LONG, "seconds": 0.002}
    given |= {"endpoint": "127.0.0.1:40123"} | fields
    return AttemptRecord(number, started_at=STARTED, **given)


def listed(*runs: pipeline_pb2.Run, width: int | None = 80) -> list[str]:
    return [line.plain.rstrip() for line in run_list(runs, NOW, width)]


def shown(one: pipeline_pb2.Run, width: int | None = 80) -> list[str]:
    return [line.plain.rstrip() for line in run_lines(one, NOW, width)]


FAILED: dict[str, Any] = {
    "status": RunStatus.FAILED,
    "failure": Failure("mood", "BAD_WORDS", LONG, retries_exhausted=True),
}


def test_a_run_is_one_line_with_a_short_id_and_an_age() -> None:
    assert listed(run()) == [
        "run           pipeline      status   started    took",
        "3f2a91bc4f11  report 1.0.0  success  3 m ago  4.50 s",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_a_runs_error_stands_below_it_and_no_line_is_too_long(width: int) -> None:
    _, row, *below = listed(run(**FAILED), width=width)
    assert row.split()[:4] == ["3f2a91bc4f11", "report", "1.0.0", "failed"]
    assert " ".join(line.strip() for line in below) == f"mood: {LONG}", "words are whole"
    assert all(len(line) <= width and line.startswith("  ") for line in below)


def test_a_failure_of_no_stage_names_none() -> None:
    nowhere = run(status=RunStatus.FAILED, failure=Failure("", "INVALID_ARGUMENT", "nothing came of it"))
    assert listed(nowhere)[2] == "  nothing came of it"
    assert "failed: INVALID_ARGUMENT: nothing came of it" in shown(nowhere)


@pytest.mark.parametrize("width", [80, 120, None])
def test_each_stage_is_one_line_and_its_attempts_stand_below(width: int | None) -> None:
    mood = stage("mood", status=StageStatus.FAILED, error=LONG, attempts=[attempt(), attempt(2)], attempt_count=2)
    lines = shown(run(stage(), mood, **FAILED), width)
    assert lines[0] == f"run {MADE_UP}: report 1.0.0, failed", "the whole id is here"
    assert all(len(line) <= width for line in lines if width is not None)
    heading = next(line for line in lines if line.startswith("stage"))
    wanted = {80: False, 120: True, None: True}[width]
    assert ("in/out bytes" in heading) is wanted, "what is looked at least falls away first"
    place = lines.index(heading)
    assert lines[place + 1].split()[:3] == ["summary", "success", "text-processor"]
    assert lines[place + 2].split()[:2] == ["mood", "failed"]
    below = " ".join(line.strip() for line in lines[place + 3 :])
    assert below.startswith("attempt 1 at 127.0.0.1:40123, 2.0 ms: BAD_WORDS: the words")
    assert below.count(LONG) == 2, "an error is told by its attempts, and not once more"


def test_what_matters_is_left_at_eighty_columns() -> None:
    long = stage("each_of_the_words_in_turn_and_slowly", items=6, items_skipped=1)
    lines = shown(run(long, status=RunStatus.PARTIAL))
    row = next(line for line in lines if line.startswith("each"))
    assert "…" in row
    assert "5 of 6, 1 skipped" in row
    assert "12.3 ms" in row


def test_a_stage_says_why_it_is_as_it_is() -> None:
    rare = stage("rare", status=StageStatus.OMITTED, reason="when size(many) > 100", started_at=0.0)
    other = stage("open", agent="opener-b", fell_back_to="opener-b", attempts=[attempt(agent="opener")])
    shut = stage("shut", status=StageStatus.SKIPPED, reason="its default went on", circuit_open=True)
    lines = shown(run(rare, other, shut), None)
    for said in (
        "  left out: size(many) > 100 is false",
        "  by opener-b, in place of opener",
        "  its default went on",
        "  its circuit is open: no endpoint was to be tried",
    ):
        assert said in lines
    assert any(line.startswith("  attempt 1 by opener at ") for line in lines), "of whom it was"


def test_items_that_failed_are_named_and_no_more_of_them_than_one_reads() -> None:
    tried = [attempt(item=item) for item in range(30)]
    lines = shown(run(stage(status=StageStatus.FAILED, items=40, attempts=tried), **FAILED), None)
    assert any(line.startswith("  item 3, attempt 1 at ") for line in lines)
    assert lines[-1] == "  and 10 more; --json has them"


def test_one_of_anything_is_one() -> None:
    lines = shown(run(stage()))
    assert "1 byte in, 0 out" in lines[1]
    assert lines[2] == "1 stage, 1 went well, 0 failed"


def test_a_run_whose_process_is_gone_says_so_in_one_line_and_what_to_do() -> None:
    durable = shown(run(status=RunStatus.RUNNING, owner=DEAD, durable=True), None)
    assert durable[0].endswith(", interrupted")
    assert durable[2] == (
        f"interrupted: its process, pid 4711 on {HERE.name}, is gone; `atomesh runs resume 3f2a91bc4f11` goes on with "
        "it, `atomesh runs cancel 3f2a91bc4f11` ends it"
    )
    assert durable[3] == "nothing is known of its stages: a run's are written when it ends", "no empty table"
    plain = shown(run(status=RunStatus.RUNNING, owner=DEAD), None)
    assert plain[2].endswith("nothing of it runs any more; run its pipeline anew")


def test_a_run_that_was_ended_after_its_process_says_by_what() -> None:
    note = LogRecord(NOW, "", 0, "CANCELLED", "ended by `atomesh runs cancel`: its process is gone")
    lines = shown(run(status=RunStatus.CANCELLED, log=[note]), None)
    assert lines[-2:] == [note.message, "nothing is known of its stages: they were not written"]
