"""`atomesh runs`: seen while they go on, cancelled from another terminal, interrupted and resumed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from atomesh.core.clock import SYSTEM_CLOCK

INPUT = json.dumps({"content": "It works. I love it.", "operation": "sentiment"})
PATIENCE = 30.0
TWO = """
name: {name}
{more}
stages:
  a: {{agent: text-processor}}
  b: {{agent: {agent}, after: [a], input: $input, attempts: 1}}
"""
Here = Callable[..., Any]


@pytest.fixture
def folder(home: Path) -> Path:
    for name, agent, more in (
        ("good", "text-processor", ""),
        ("fails", "failing", ""),
        ("waits", "slow", ""),
        ("lasting", "slow", "durable: true"),
    ):
        (home / f"{name}.yaml").write_text(TWO.format(name=name, agent=agent, more=more))
    return home


@pytest.fixture
def elsewhere(town: str, folder: Path, here: Here) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """`elsewhere("waits", "r")`: a run in a process of its own, waiting in its second stage."""
    with contextlib.ExitStack() as stack:

        def run(pipeline: str, run_id: str, *more: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "atomesh", "pipeline", "run", f"{pipeline}.yaml", "--input", INPUT),
                    *("--registry", town, "--run-id", run_id, *more),
                ],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )

            def ended() -> None:
                process.kill()
                process.communicate()

            stack.callback(ended)
            give_up = SYSTEM_CLOCK.now() + PATIENCE
            while True:
                assert process.poll() is None, process.communicate()
                assert SYSTEM_CLOCK.now() < give_up, "the run must begin"
                shown = here("runs", "status", run_id, "--json")
                if shown.code == 0 and (stages := json.loads(shown.out)["stages"]) and stages[1]["status"] == "running":
                    return process
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)

        yield run


def status(here: Here, run_id: str) -> dict[str, Any]:
    shown = here("runs", "status", run_id, "--json")
    assert shown.code == 0, shown.err
    found: dict[str, Any] = json.loads(shown.out)
    return found


def test_runs_are_listed_newest_first_and_as_they_are_asked_for(town: str, here: Here, folder: Path) -> None:
    assert "no such run" in here("runs", "ls").err
    assert here("runs", "ls", "--json").out == "[]\n"
    for number, pipeline in enumerate(("good", "fails", "good")):
        here("pipeline", "run", f"{pipeline}.yaml", "--input", INPUT, "--registry", town, "--run-id", f"r{number}")

    def listed(*flags: str) -> list[str]:
        ended = here("runs", "ls", "--json", *flags)
        assert (ended.code, ended.err) == (0, "")
        return [run["id"] for run in json.loads(ended.out)]

    assert listed() == ["r2", "r1", "r0"]
    assert listed("--limit", "2") == ["r2", "r1"]
    assert listed("--pipeline", "fails") == ["r1"]
    assert listed("--status", "failed") == ["r1"]
    assert listed("--status", "FAILED", "--status", "success") == ["r2", "r1", "r0"]
    assert listed("--status", "running") == listed("--status", "interrupted") == []
    table = here("runs", "ls").out
    for word in ("r1", "good 1.0.0", "success", "failed", "b: no such ticket"):
        assert word in table
    for flags, said in (
        (("--status", "succes"), "'succes' is none of pending, running"),
        (("--limit", "0"), "--limit"),
        (("--limit", "1001"), "--limit"),
    ):
        ended = here("runs", "ls", *flags)
        assert ended.code == 2
        assert said in ended.one_line()


def test_a_run_is_shown_with_every_stage_and_attempt(town: str, here: Here, folder: Path) -> None:
    here("pipeline", "run", "fails.yaml", "--input", INPUT, "--registry", town, "--run-id", "f")
    shown = here("runs", "status", "f").out
    assert "run f: fails 1.0.0, failed" in shown
    assert "failed at b: NO_TICKET: no such ticket" in shown
    assert "attempt 1" in shown
    assert "text-processor" in shown
    data = status(here, "f")
    assert [stage["status"] for stage in data["stages"]] == ["success", "failed"]
    (attempt,) = data["stages"][1]["attempts"]
    assert (attempt["outcome"], attempt["number"]) == ("NO_TICKET", 1)
    assert attempt["endpoint"]
    assert data["stages"][0]["output"]["result"] == "positive", "outputs are read by the types that were kept"
    assert data["error_log"][0]["stage"] == "b"
    assert data["ended_at"] >= data["started_at"]
    for verb in ("status", "cancel"):
        unknown = here("runs", verb, "nobody")
        assert unknown.code == 3
        assert "nobody" in unknown.one_line()
    unknown = here("runs", "resume", "nobody", "--registry", town)
    assert unknown.code == 3
    assert "nobody" in unknown.one_line()


def test_a_run_is_seen_and_cancelled_from_another_terminal(
    here: Here, folder: Path, elsewhere: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = elsewhere("waits", "w")
    data = status(here, "w")
    assert (data["status"], data["ended_at"], data["summary"]) == ("running", None, None)
    assert [stage["status"] for stage in data["stages"]] == ["success", "running"]
    assert data["stages"][0]["output"]["result"] == "positive", "what there is of it can be read already"
    assert status(here, "w")["seconds"] > data["seconds"] > 0, "a run takes until now"
    assert "run w: waits 1.0.0, running" in here("runs", "status", "w").out
    assert json.loads(here("runs", "ls", "--status", "running", "--json").out)[0]["id"] == "w"
    cancelled = here("runs", "cancel", "w")
    assert (cancelled.code, cancelled.out) == (0, "")
    assert "cancelled run w" in cancelled.err
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, "it was not this terminal's Ctrl-C"
    assert out == b""
    assert err.decode().splitlines()[-1].startswith("error: waits cancelled: run w ")
    assert status(here, "w")["status"] == "cancelled"
    again = here("runs", "cancel", "w")
    assert (again.code, again.err) == (0, "run w has ended already: cancelled\n")


def test_a_run_whose_process_was_killed_was_interrupted(
    here: Here,
    town: str,
    folder: Path,
    elsewhere: Callable[..., subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = elsewhere("waits", "k")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert status(here, "k")["status"] == "interrupted"
    assert "interrupted" in here("runs", "ls").out
    assert [run["id"] for run in json.loads(here("runs", "ls", "--status", "interrupted", "--json").out)] == ["k"]
    assert here("runs", "ls", "--status", "running", "--json").out == "[]\n", "it runs no more"

    def ask(*_: Any, **__: Any) -> None:
        raise AssertionError("whoever has the address of a process that is gone is another one")

    monkeypatch.setattr("atomesh.cli.runs.ask", ask)
    assert status(here, "k")["status"] == "interrupted"
    cancelled = here("runs", "cancel", "k")
    assert (cancelled.code, cancelled.out) == (0, ""), "it does not run: what was wanted is so"
    assert re.fullmatch(r"nothing of run k runs any more: its process, pid \d+ on \S+, is gone\n", cancelled.err)
    shown = here("runs", "status", "k").out
    assert re.search(
        r"\ninterrupted: its process, pid \d+ on \S+, is gone; nothing of it .*; run its pipeline anew\n", shown
    )
    assert "nothing is known of its stages" in shown, "no empty table"
    resumed = here("runs", "resume", "k", "--registry", town)
    assert resumed.code == 1
    assert "keeps no checkpoints" in resumed.one_line()


def test_a_process_that_does_not_answer_is_not_waited_for(
    here: Here, folder: Path, elsewhere: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atomesh.cli.runs.ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("atomesh.cli.runs.ask.__kwdefaults__", {"within": 0.3})
    process = elsewhere("waits", "s")
    process.send_signal(signal.SIGSTOP)
    try:
        assert status(here, "s")["status"] == "running", "what is kept of it is shown"
        cancelled = here("runs", "cancel", "s")
        assert cancelled.code == 5
        assert cancelled.one_line()
    finally:
        process.send_signal(signal.SIGCONT)


def test_a_durable_run_is_resumed_where_it_was_killed(
    here: Here, town: str, folder: Path, elsewhere: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = elsewhere("lasting", "d")
    alive = here("runs", "resume", "d", "--registry", town)
    assert alive.code == 1
    assert "still run by" in alive.one_line()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert status(here, "d")["status"] == "interrupted"
    said = "`atomesh runs resume d` goes on with it, `atomesh runs cancel d` ends it"
    assert said in here("runs", "status", "d").out
    for _ in range(2):
        unsaid = here("runs", "resume", "d", "--registry", town)
        assert unsaid.code == 1
        assert "--repeat-interrupted" in unsaid.err.splitlines()[-1]
        assert status(here, "d")["status"] == "interrupted", "it waits for the word"
    process = subprocess.Popen(
        [sys.executable, "-m", "atomesh", "runs", "resume", "d", "--repeat-interrupted", "--registry", town],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "ATOMESH_LOG_LEVEL": "error"},
    )
    give_up = SYSTEM_CLOCK.now() + PATIENCE
    while [stage["status"] for stage in status(here, "d")["stages"]] != ["success", "running"]:
        assert SYSTEM_CLOCK.now() < give_up, f"it must come to its second stage again: {status(here, 'd')}"
        assert process.poll() is None, process.communicate()
    first = status(here, "d")["stages"][0]
    assert first["attempt_count"] == 0, "a finished stage is read, not run"
    here("runs", "cancel", "d")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "cancelled" in err.decode().splitlines()[-1]
    assert status(here, "d")["status"] == "cancelled"
    ended = here("runs", "resume", "d", "--registry", town)
    assert "run d has ended (CANCELLED)" in ended.one_line()


def test_ctrl_c_leaves_a_durable_run_to_be_resumed(
    here: Here, town: str, folder: Path, elsewhere: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = elsewhere("lasting", "c")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert b"Traceback" not in err
    ended, hint = err.decode().splitlines()[-2:]
    assert ended.startswith("run c: interrupted in "), "it is not cancelled: it can go on"
    assert hint == "interrupted: `atomesh runs resume c` goes on with it, `atomesh runs cancel c` ends it"
    assert status(here, "c")["status"] == "interrupted"
    assert [run["id"] for run in json.loads(here("runs", "ls", "--status", "interrupted", "--json").out)] == ["c"]


def test_a_durable_run_that_was_interrupted_can_be_ended_for_good(
    here: Here, town: str, folder: Path, elsewhere: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = elsewhere("lasting", "gone")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert checkpoints(folder) > 0, "its first stage has finished"
    cancelled = here("runs", "cancel", "gone")
    assert (cancelled.code, cancelled.out) == (0, "")
    assert cancelled.err.startswith("cancelled run gone, which was interrupted: its process, pid ")
    data = status(here, "gone")
    assert (data["status"], data["pipeline"], data["durable"]) == ("cancelled", "lasting", True)
    assert data["ended_at"] > data["started_at"]
    assert "ended by `atomesh runs cancel`" in here("runs", "status", "gone").out
    assert checkpoints(folder) == 0, "nothing is kept for a run that cannot go on"
    assert "has ended" in here("runs", "resume", "gone", "--registry", town).one_line()
    assert here("runs", "cancel", "gone").err == "run gone has ended already: cancelled\n"


def checkpoints(folder: Path) -> int:
    """How many pieces of work the durable runs have kept."""
    with contextlib.closing(sqlite3.connect(state(folder).with_name("pipelines.checkpoints.db"))) as database:
        (count,) = database.execute("SELECT count(*) FROM workflow_status").fetchone()
    return int(count)


def state(folder: Path) -> Path:
    return folder / ".local" / "state" / "atomesh" / "pipelines.db"


def test_any_beginning_of_an_id_that_no_other_has_will_do(town: str, here: Here, folder: Path) -> None:
    for run_id in ("report-1", "report-2", "Report-3"):
        here("pipeline", "run", "good.yaml", "--input", INPUT, "--registry", town, "--run-id", run_id)
    here("pipeline", "run", "good.yaml", "--input", INPUT, "--registry", town)
    assert status(here, "R")["id"] == "Report-3", "a capital letter is another one"
    shown = here("runs", "ls").out.splitlines()[1].split()[0]
    assert len(shown) == 12, "what was made up is shown short"
    whole = status(here, shown)["id"]
    assert len(whole) == 32
    assert whole.startswith(shown)
    assert here("runs", "cancel", shown[:6]).err == f"run {whole} has ended already: success\n"
    assert f"run {whole} has ended" in here("runs", "resume", shown[:6], "--registry", town).one_line()
    for verb in (("status",), ("cancel",), ("resume", "--registry", town)):
        several = here("runs", verb[0], "rep", *verb[1:])
        assert several.code == 2
        assert several.one_line() == "error: 'rep' begins 2 runs (report-1, report-2); write more of it"
    assert status(here, "report-1")["id"] == "report-1"
    for nothing in ("reportx", "", "%", "report_"):
        assert here("runs", "status", nothing).code == 3, "no character stands for others"


def test_a_run_of_another_machine_is_cancelled_there(here: Here, folder: Path) -> None:
    from atomesh.pipelines.record import RunRecord
    from atomesh.pipelines.store import open_store

    async def begin() -> None:
        store = open_store("other.db")
        await store.open()
        for run_id, owner in (("nameless", ""), ("far", "127.0.0.1:7500 (pid 7 on other-host, since a.b.c)")):
            record = RunRecord(run_id, "good", "1.0.0", SYSTEM_CLOCK.wall(), [], owner=owner)
            store.begin(record)
        await store.close()

    asyncio.run(begin())
    for run_id, said in (("nameless", "an unknown process"), ("far", "other-host")):
        ended = here("runs", "cancel", run_id, "--store", "other.db")
        assert ended.code == 4
        assert said in ended.one_line(), "an address of another machine's loopback is not ours to dial"
        assert json.loads(here("runs", "status", run_id, "--store", "other.db", "--json").out)["status"] == "running"
