"""A SQLite store's file: whose it is, whole or not, open in several processes, left behind by a dead one."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import InvalidArgument
from atomesh.pipelines.errors import StoreUnavailable, StoreUnusable
from atomesh.pipelines.record import RunRecord, RunStatus
from atomesh.pipelines.store import RunStore, open_store
from atomesh.v1 import pipeline_pb2


async def refusal(path: Path) -> str:
    """What the store says of a file that it does not take."""
    store = open_store(path)
    with pytest.raises(StoreUnusable) as refused:
        await store.open()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def run(id: str = "run-1", status: RunStatus = RunStatus.SUCCESS) -> RunRecord:
    return RunRecord(id, "report", "1.0.0", SYSTEM_CLOCK.wall(), [], status=status, owner="pid 1 on there")


async def made(path: Path) -> RunStore:
    store = open_store(path)
    await store.open()
    return store


async def test_a_new_file_is_the_owners_alone_and_in_folders_that_were_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "runs.db"
    store = await made(path)
    await store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_what_was_stored_outlives_the_process(tmp_path: Path) -> None:
    store = await made(tmp_path / "runs.db")
    store.end(run())
    await store.close()
    again = await made(tmp_path / "runs.db")
    assert (await again.get_run("run-1")).status == pipeline_pb2.RUN_STATUS_SUCCESS
    await again.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("what I did today\n" * 10)
    assert await refusal(path) == f"{path} is not a store of runs (no SQLite file); move it away or name another place"
    assert path.read_text().startswith("what I did"), "a file of somebody else must stay as it is"


async def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE bookmarks (url TEXT)")
    database.close()
    before = path.read_bytes()
    assert "another program's SQLite file" in await refusal(path)
    assert path.read_bytes()[100:] == before[100:], "nothing may be made in it"
    database = sqlite3.connect(path)
    assert [name for (name,) in database.execute("SELECT name FROM sqlite_schema")] == ["bookmarks"]
    database.close()


async def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    await (await made(path)).close()
    database = sqlite3.connect(path)
    database.execute("UPDATE atomesh_store SET version = 99")
    database.commit()
    database.close()
    assert "layout 99, this atomesh knows 1; run the version that wrote it" in await refusal(path)


@pytest.mark.parametrize("table", ["atomesh_runs", "atomesh_definitions"])
async def test_a_store_that_lacks_a_table_is_refused(tmp_path: Path, table: str) -> None:
    path = tmp_path / "runs.db"
    await (await made(path)).close()
    database = sqlite3.connect(path)
    database.execute(f"DROP TABLE {table}")
    database.close()
    assert f"no {table}: another program's, or damaged" in await refusal(path)


async def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store = await made(path)
    for number in range(200):
        store.end(run(f"run-{number}"))
    await store.close()
    content = bytearray(path.read_bytes())
    content[4096:12288] = os.urandom(8192)
    path.write_bytes(content)
    assert "is damaged" in await refusal(path)


async def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    await (await made(path)).close()
    path.write_bytes(path.read_bytes()[:5000])
    assert "is damaged" in await refusal(path)


async def test_a_place_that_is_no_place_is_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in await refusal(tmp_path)
    (tmp_path / "file").write_text("")
    assert "cannot be opened" in await refusal(tmp_path / "file" / "runs.db")


@pytest.mark.parametrize("where", ["mysql://host/db", "", ":memory:", "sqlite:///"])
def test_what_names_no_store_is_refused(where: str) -> None:
    with pytest.raises(InvalidArgument, match="store"):
        open_store(where)


async def test_two_processes_write_one_file_at_once(tmp_path: Path) -> None:
    one, two = await made(tmp_path / "runs.db"), await made(tmp_path / "runs.db")
    for number in range(500):
        one.end(run(f"one-{number:03}"))
        two.end(run(f"two-{number:03}"))
    await one.flush()
    await two.flush()
    assert len(await one.list_runs(limit=1000)) == 1000
    await one.close()
    await two.close()


async def test_runs_wait_while_the_file_is_locked_and_are_written_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("atomesh.pipelines.store.engine.BUSY_SECONDS", 0.05)
    caplog.set_level(logging.INFO, "atomesh.pipelines.store")
    path = tmp_path / "runs.db"
    store = await made(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for number in range(3):
        store.end(run(f"run-{number}"))
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await store.flush()
    other.execute("COMMIT")
    other.close()
    await store.flush()
    assert len(await store.list_runs()) == 3, "nothing may be lost for a lock"
    await store.close()
    told = [record.message for record in caplog.records]
    assert len([line for line in told if "cannot be reached" in line]) == 1, "an outage is told once"
    assert any("is back: 3 runs written, 0 lost" in line for line in told)


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    with pytest.raises(StoreUnavailable, match="is not open"):
        await store.list_runs()
    await store.open()
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable, match="is not open"):
        await store.flush()


LEAVES = """
import asyncio, sys
from atomesh.pipelines.record import RunRecord, RunStatus
from atomesh.pipelines.store import open_store

async def main():
    store = open_store(sys.argv[1])
    await store.open()
    store.end(RunRecord("left", "p", "1.0.0", 4e9, [], status=RunStatus.SUCCESS))

asyncio.run(main())
"""

BEGINS = """
import asyncio, sys
from google.protobuf import any_pb2
from atomesh.pipelines.machine import this_process
from atomesh.pipelines.record import RunRecord
from atomesh.pipelines.store import Resumption, open_store
from atomesh.v1 import context_pb2

async def main():
    store = open_store(sys.argv[1])
    await store.open()
    owner = str(this_process("127.0.0.1:7500"))
    run = RunRecord("run-1", "p", "1.0.0", 1e9, [], owner=owner, durable=True)
    await store.begin_durable(run, Resumption("run-1", "{}", any_pb2.Any(), context_pb2.Context(), owner))
    print("begun", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def started(script: str, path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)


async def test_a_process_that_ends_without_closing_writes_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    child = started(LEAVES, path)
    child.communicate(timeout=30)
    assert child.returncode == 0, "it must not hang for a store that is open"
    store = await made(path)
    assert [found.id for found in await store.list_runs()] == ["left"]
    await store.close()


async def test_a_durable_run_is_there_after_kill_9_and_free_for_another_process(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    child = started(BEGINS, path)
    assert child.stdout is not None
    assert child.stdout.readline() == b"begun\n"
    store = await made(path)
    with pytest.raises(Exception, match=r"still run by 127\.0\.0\.1:7500"):
        await store.claim("run-1", "me")
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    taken = await store.claim("run-1", "me")
    assert taken.spec == "{}"
    assert taken.owner.startswith(f"127.0.0.1:7500 (pid {child.pid} on ")
    await store.close()
