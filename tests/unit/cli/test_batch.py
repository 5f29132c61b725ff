"""`atomesh batch` without a mesh: its flags, its lines, its files."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atomesh.cli import _batch_lines
from atomesh.cli._batch_files import Appended, Counts, Journal, Past, read_past, rejected
from atomesh.cli._batch_lines import Source
from atomesh.cli._batch_view import View
from atomesh.cli._errors import CliError, UsageMistake
from atomesh.pipelines.batch import Progress

IN = ("--input-file", "in.jsonl")


def test_the_help_says_what_a_target_may_be(atomesh: Callable[..., Any]) -> None:
    said = " ".join(atomesh("batch", "--help").out.split())
    assert "An agent, a pipeline's file, or a stored pipeline" in said


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (IN, "name an agent or a pipeline, or give --pairs and an agent in each line: one of them"),
        (("echo", "--pairs", *IN), "name an agent or a pipeline, or give --pairs"),
        (("echo",), "--input-file is missing; give a file of JSON lines, or - for stdin"),
        (("echo", *IN, "--resume"), "--resume needs --output-file: a file that outputs go to"),
        (("echo", *IN, "--json", "--output-file", "-"), "--json needs --output-file: a file that outputs go to"),
        (("echo", *IN, "--repeat-unknown"), "--repeat-unknown goes with --resume"),
        (("echo", *IN, "--concurrency", "0"), "--concurrency is 0; expected 1 or more"),
        (("echo", *IN, "--timeout", "0"), "--timeout is 0; expected a positive number of seconds"),
        (("echo", *IN, "--item-timeout", "nan"), "--item-timeout is nan; expected a positive number of seconds"),
        (("echo", *IN, "--min-success", "50"), "--min-success is 50; expected a share from 0 to 1"),
        (("echo", "--input-file", "/nowhere/in.jsonl"), "/nowhere/in.jsonl cannot be read: No such file or directory"),
        (("echo", "--input-file", "/tmp"), "/tmp is a folder; give a file of JSON lines"),
    ],
)
def test_flags_that_make_no_sense_are_one_line(
    atomesh: Callable[..., Any], arguments: tuple[str, ...], complaint: str
) -> None:
    ended = atomesh("batch", *arguments)
    assert complaint in ended.one_line()
    assert ended.code == 2


# -- lines -------------------------------------------------------------------


async def read(path: Path) -> list[tuple[int, bytes | None]]:
    source = Source(str(path))
    try:
        return [line async for line in source.lines()]
    finally:
        source.close()


async def test_lines_have_their_numbers_and_blank_ones_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"\xef\xbb\xbf{1}\r\n\n  \n{4}\n\xff\n{6}")
    assert await read(path) == [(1, b"{1}"), (4, b"{4}"), (5, b"\xff"), (6, b"{6}")]


async def test_a_file_longer_than_a_block_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "in"
    lines = [b"x" * (n * 37 % 5000) + b"." for n in range(500)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert await read(path) == list(enumerate(lines, 1))


async def test_a_line_that_is_too_long_is_not_held_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_batch_lines, "MAX_LINE", 100_000)
    path = tmp_path / "in"
    path.write_bytes(b"{1}\n" + b"x" * 1_000_000 + b"\n{3}\n" + b"y" * 300_000)
    assert await read(path) == [(1, b"{1}"), (2, None), (3, b"{3}"), (4, None)]


async def test_lines_of_a_pipe_come_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = os.pipe()
    source = Source("-")
    monkeypatch.setattr(source, "_fd", here)
    monkeypatch.setattr(source, "_kind", os.fstat(here))
    lines = source.lines()
    os.write(there, b"{1}\n{2")
    assert await anext(lines) == (1, b"{1}")
    waiting = asyncio.ensure_future(anext(lines))
    done, _ = await asyncio.wait([waiting], timeout=0.01)
    assert not done, "half a line is none yet, and the loop goes on meanwhile"
    os.write(there, b"}\n")
    assert await waiting == (2, b"{2}")
    os.close(there)
    assert [line async for line in lines] == []
    source.close()


def test_a_file_knows_how_many_lines_it_has(tmp_path: Path) -> None:
    path = tmp_path / "in"
    for content, count in ((b"", 0), (b"a", 1), (b"a\n", 1), (b"a\nb", 2)):
        path.write_bytes(content)
        source = Source(str(path))
        assert source.count() == count
        source.close()


# -- files -------------------------------------------------------------------


def test_counts_are_kept_in_a_byte_each() -> None:
    counts = Counts()
    counts.set(5, 1)
    counts.set(100_000, 300)
    counts.set(7, -1)
    assert (counts[5], counts[100_000], counts[7], counts[10**9]) == (1, 255, 0, 0)


def test_a_line_is_unknown_where_it_was_sent_more_often_than_it_ended() -> None:
    past = Past()
    past.sent(1)
    past.ended(1, None)
    past.sent(2)
    past.sent(3)
    past.ended(3, {"sent": True, "may_have_run": True})
    past.sent(4)
    past.ended(4, {"sent": True, "may_have_run": False})
    past.ended(5, {"sent": False, "may_have_run": False})
    past.sent(5)
    assert past.has_output(1)
    assert past.done == 1
    assert [line for line in range(2, 6) if past.unknown(line)] == [2, 3, 5]


@pytest.mark.parametrize("torn", ["", '{"line": 9, "outp', "x" * 200_000])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "out"
    whole = '{"line": 1, "output": {}}\n{"line": 2, "error": {"type": "X"}}\n'
    path.write_text(whole + torn)
    output, past = Appended(str(path)), Past()
    assert read_past(output, past) is bool(torn)
    output.close()
    assert path.read_text() == whole
    assert past.has_output(1)
    assert not past.has_output(2)


@pytest.mark.parametrize(
    "line", ["hello", "[1]", '{"line": "1", "output": {}}', '{"line": 0, "output": 1}', '{"line": 1}']
)
def test_a_file_that_is_no_output_is_not_gone_on_with(tmp_path: Path, line: str) -> None:
    path = tmp_path / "out"
    path.write_text(line + "\n")
    output = Appended(str(path))
    with pytest.raises(UsageMistake, match="line 1 is no output of a batch; resume with the file that is one"):
        read_past(output, Past())
    output.close()
    assert path.read_text() == line + "\n", "and is left as it is"


def test_two_batches_do_not_write_one_file(tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    first = Appended(path)
    with pytest.raises(UsageMistake, match="is being written by another batch; wait for it, or write elsewhere"):
        Appended(path)
    first.close()
    Appended(path).close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_one_line_that_says_how_to_go_on() -> None:
    full = Appended("/dev/full")
    with pytest.raises(
        CliError, match="/dev/full cannot be written: No space left on device; go on with --resume"
    ) as caught:
        full.add("{}")
    assert caught.value.code == 1
    full.close()


def test_a_journal_of_another_agent_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "out.started")
    journal = Journal(path, {"batch": "b1", "target": "echo"})
    journal.begin()
    journal.items_starting("b1", ["3", "5"])
    journal.file.close()
    again, past = Journal(path, {"batch": "b2", "target": "echo"}), Past()
    again.read(past)
    again.file.close()
    assert again.head["batch"] == "b1", "keys of items stay the same when a batch is resumed"
    assert [line for line in range(9) if past.unknown(line)] == [3, 5]
    other = Journal(path, {"batch": "b2", "target": "other"})
    with pytest.raises(UsageMistake, match="is of a batch for 'echo', not other; resume it with the same agent"):
        other.read(Past())
    other.file.close()


def test_a_reject_has_the_line_as_it_was() -> None:
    assert json.loads(rejected(7, "not JSON", "{ä".encode())) == {"line": 7, "why": "not JSON", "raw": "{ä"}
    assert json.loads(rejected(8, "not UTF-8", b"\xff"))["raw_base64"] == "/w=="


# -- what is shown -----------------------------------------------------------


def progress(ended: int, seconds: float) -> Progress:
    return Progress(None, ended, ended, 4, seconds)


def test_without_a_terminal_there_is_a_line_for_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with View(1000, bar=True) as view:
        for ended in range(1001):
            view.show(progress(ended, ended / 100))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[2] == "   3.0 s   30 %  300/1000, 0 failed, 4 running, 100/s"


def test_where_nobody_knows_the_end_there_is_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with View(None, bar=True) as view:
        for second in range(61):
            view.show(progress(second * 10, second))
    assert len(capsys.readouterr().err.splitlines()) == 6
