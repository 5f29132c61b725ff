"""Checkpoints of durable runs: each piece once, over errors, cancellation and kill -9, in both databases."""

from __future__ import annotations

import asyncio
import logging
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import Conflict, InvalidArgument
from atomesh.pipelines.durable import DbosCheckpoints, open_checkpoints
from atomesh.pipelines.errors import Interrupted, StoreUnavailable, StoreUnusable

if TYPE_CHECKING:
    from tests.integration.pipelines.store.conftest import Postgres

Work = Callable[[], Awaitable[bytes]]
Opened = Callable[[], AbstractAsyncContextManager[DbosCheckpoints]]

SCOPE: ContextVar[str] = ContextVar("scope", default="none")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs_tool("initdb", "postgres"))])
def place(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres | None) -> str:
    """Where a store is that outlives its process, once for each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "runs.db")
    assert postgres is not None
    return postgres.database()


@pytest.fixture
def opened(place: str) -> Opened:
    """Opens the checkpoints that belong to it."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[DbosCheckpoints]:
        checkpoints = open_checkpoints(place)
        await checkpoints.open()
        try:
            yield checkpoints
        finally:
            await checkpoints.close()

    return opening


class Counted:
    """Work that counts how often it was done."""

    def __init__(self, output: bytes = b"output") -> None:
        self.times = 0
        self._output = output

    async def __call__(self) -> bytes:
        self.times += 1
        return self._output


async def failing() -> bytes:
    raise ValueError("the agent said no")


async def test_a_finished_piece_is_not_done_again(opened: Opened) -> None:
    work = Counted(b"\x00\xff")
    async with opened() as checkpoints:
        assert await checkpoints.stage("run-1", "summary", work, repeat=False) == b"\x00\xff"
        assert await checkpoints.stage("run-1", "summary", work, repeat=False) == b"\x00\xff"
    async with opened() as checkpoints:
        assert await checkpoints.stage("run-1", "summary", work, repeat=False) == b"\x00\xff"
    assert work.times == 1


async def test_an_empty_output_is_an_output(opened: Opened) -> None:
    work = Counted(b"")
    async with opened() as checkpoints:
        for _ in range(2):
            assert await checkpoints.stage("run-1", "summary", work, repeat=False) == b""
    assert work.times == 1


async def test_pieces_of_a_run_and_of_other_runs_are_apart(opened: Opened) -> None:
    async with opened() as checkpoints:
        for number, (run, key) in enumerate([("r1", "a"), ("r1", "a/0"), ("r1", "a/1"), ("r2", "a")]):
            work = Counted(bytes([number]))
            assert await checkpoints.stage(run, key, work, repeat=False) == bytes([number])


async def test_work_that_raised_is_tried_again_whether_or_not_it_may_be_repeated(opened: Opened) -> None:
    work = Counted()
    async with opened() as checkpoints:
        with pytest.raises(ValueError, match="the agent said no"):
            await checkpoints.stage("run-1", "summary", failing, repeat=False)
    async with opened() as checkpoints:
        with pytest.raises(ValueError, match="the agent said no"):
            await checkpoints.stage("run-1", "summary", failing, repeat=False)
        assert await checkpoints.stage("run-1", "summary", work, repeat=False) == b"output"
        assert await checkpoints.stage("run-1", "summary", work, repeat=False) == b"output"
    assert work.times == 1


async def test_work_runs_in_its_callers_own_task_and_context(opened: Opened) -> None:
    SCOPE.set("the caller's")

    async def work() -> bytes:
        assert SCOPE.get() == "the caller's"
        assert asyncio.current_task() is me
        assert threading.current_thread() is threading.main_thread()
        return b""

    me = asyncio.current_task()
    async with opened() as checkpoints:
        await checkpoints.stage("run-1", "summary", work, repeat=False)


async def test_many_pieces_are_under_way_at_once(opened: Opened) -> None:
    everybody = asyncio.Barrier(50)

    async def work() -> bytes:
        await everybody.wait()
        return b"done"

    async with opened() as checkpoints, asyncio.timeout(30):
        pieces = [checkpoints.stage("run-1", f"item/{number}", work, repeat=False) for number in range(50)]
        assert await asyncio.gather(*pieces) == [b"done"] * 50, "a piece must not hold a thread while it waits"


async def test_one_piece_twice_at_once_is_refused(opened: Opened) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def work() -> bytes:
        begun.set()
        await go.wait()
        return b""

    async with opened() as checkpoints:
        first = asyncio.create_task(checkpoints.stage("run-1", "summary", work, repeat=True))
        await begun.wait()
        with pytest.raises(Conflict, match="stage summary of run run-1 is under way in this process"):
            await checkpoints.stage("run-1", "summary", work, repeat=True)
        go.set()
        await first


async def test_cancelled_work_is_cancelled_at_once_and_counts_as_interrupted(opened: Opened) -> None:
    begun = asyncio.Event()

    async def work() -> bytes:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with opened() as checkpoints:
        piece = asyncio.create_task(checkpoints.stage("run-1", "summary", work, repeat=False))
        await begun.wait()
        piece.cancel()
        with pytest.raises(asyncio.CancelledError):
            await piece
        with pytest.raises(Interrupted) as interrupted:
            await checkpoints.stage("run-1", "summary", Counted(), repeat=False)
        assert "stage summary of run run-1 was cut off under way" in str(interrupted.value)
        assert "atomesh runs resume run-1 --repeat-interrupted" in str(interrupted.value)
        assert await checkpoints.stage("run-1", "summary", Counted(), repeat=True) == b"output"


async def test_the_checkpoints_of_a_run_are_forgotten_and_no_others(opened: Opened) -> None:
    async with opened() as checkpoints:
        for run in ("r_1", "rx1", "r_12"):
            await checkpoints.stage(run, "a", Counted(), repeat=False)
        await checkpoints.forget("r_1")
        await checkpoints.forget("never-was")
        again = {run: Counted() for run in ("r_1", "rx1", "r_12")}
        for run, work in again.items():
            await checkpoints.stage(run, "a", work, repeat=False)
        assert {run: work.times for run, work in again.items()} == {"r_1": 1, "rx1": 0, "r_12": 0}


async def test_nothing_of_it_is_left_in_the_process(opened: Opened) -> None:
    threads, logger = set(threading.enumerate()), logging.getLogger("dbos")
    handlers, root = list(logger.handlers), list(logging.getLogger().handlers)
    async with opened() as checkpoints:
        await checkpoints.stage("run-1", "a", Counted(), repeat=False)
        loop = asyncio.get_running_loop()
        assert getattr(loop, "_default_executor", None) is None, "the caller's loop keeps its own threads"
    give_up = SYSTEM_CLOCK.now() + 2
    while (left := set(threading.enumerate()) - threads) and SYSTEM_CLOCK.now() < give_up:
        await SYSTEM_CLOCK.sleep(0.01)
    assert not left, "daemon threads are threads too"
    assert (logger.handlers, logging.getLogger().handlers) == (handlers, root), "logging is the application's"


async def test_what_is_not_open_says_so(opened: Opened) -> None:
    async with opened() as checkpoints:
        pass
    with pytest.raises(StoreUnavailable, match="not open"):
        await checkpoints.stage("run-1", "a", Counted(), repeat=False)
    await checkpoints.close()


# A process that finishes `done`, is in the middle of `under-way`, and waits to be killed.
DIES = """
import asyncio, sys
from pathlib import Path
from atomesh.pipelines.durable import open_checkpoints

async def main(where, tally):
    def work(key, wait):
        async def does():
            with Path(tally).open("a") as file:
                file.write(key + "\\n")
            if wait:
                print("under way", flush=True)
                await asyncio.Event().wait()
            return key.encode()
        return does
    checkpoints = open_checkpoints(where)
    await checkpoints.open()
    await asyncio.gather(*[checkpoints.stage("run-1", f"done/{n}", work(f"done/{n}", False), repeat=False) for n in range(5)])
    await checkpoints.stage("run-1", "under-way", work("under-way", True), repeat=False)

asyncio.run(main(*sys.argv[1:]))
"""


def killed_in_the_middle(place: str, tally: Path) -> None:
    """Runs DIES to the point where it waits, and kills it with SIGKILL."""
    with subprocess.Popen([sys.executable, "-c", DIES, place, str(tally)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"under way\n"
        child.send_signal(signal.SIGKILL)


async def test_after_kill_9_another_process_goes_on_and_repeats_nothing_that_was_finished(
    opened: Opened, place: str, tmp_path: Path
) -> None:
    tally = tmp_path / "tally"
    killed_in_the_middle(place, tally)

    def work(key: str) -> Work:
        async def does() -> bytes:
            with tally.open("a") as file:
                file.write(f"again {key}\n")
            return key.encode()

        return does

    async with opened() as checkpoints:
        # dbos looks for what to recover at its start, and for what to work off each second.
        await SYSTEM_CLOCK.sleep(1.5)
        assert sorted(tally.read_text().split()) == [f"done/{n}" for n in range(5)] + ["under-way"], (
            "nothing may run by itself"
        )
        # Another order than before, which must not matter.
        for n in reversed(range(5)):
            key = f"done/{n}"
            assert await checkpoints.stage("run-1", key, work(key), repeat=False) == key.encode()
        with pytest.raises(Interrupted, match="stage under-way of run run-1"):
            await checkpoints.stage("run-1", "under-way", work("under-way"), repeat=False)
        assert "again" not in tally.read_text(), (
            "what was finished must not be done twice, nor what may not be repeated"
        )
        assert await checkpoints.stage("run-1", "under-way", work("under-way"), repeat=True) == b"under-way"
        assert tally.read_text().count("again under-way") == 1


def test_memory_keeps_no_checkpoints() -> None:
    with pytest.raises(InvalidArgument, match="outlives its process"):
        open_checkpoints("memory")


async def test_a_second_one_in_the_process_is_refused(tmp_path: Path) -> None:
    one, two = open_checkpoints(tmp_path / "runs.db"), open_checkpoints(tmp_path / "other.db")
    await one.open()
    with pytest.raises(StoreUnusable, match="uses dbos already"):
        await two.open()
    assert await one.stage("run-1", "a", Counted(), repeat=False) == b"output", "the first one goes on"
    await one.close()


async def test_without_dbos_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dbos", None)
    with pytest.raises(StoreUnusable, match=r'pip install "atomesh\[durable\]"'):
        await open_checkpoints(tmp_path / "runs.db").open()


async def test_they_are_in_a_file_of_their_own_for_the_owner_alone(tmp_path: Path) -> None:
    checkpoints = open_checkpoints(tmp_path / "deep" / "runs.db")
    await checkpoints.open()
    await checkpoints.close()
    path = tmp_path / "deep" / "runs.checkpoints.db"
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_file_of_another_program_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.checkpoints.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE bookmarks (url TEXT)")
    database.close()
    with pytest.raises(StoreUnusable, match="does not hold checkpoints"):
        await open_checkpoints(tmp_path / "runs.db").open()
    path.write_text("what I did today\n" * 10)
    with pytest.raises(StoreUnusable, match="no SQLite file"):
        await open_checkpoints(tmp_path / "runs.db").open()
    path.unlink()
    checkpoints = open_checkpoints(tmp_path / "runs.db")
    await checkpoints.open()
    await checkpoints.close()
    content = path.read_bytes()
    path.write_bytes(content[:9000])
    with pytest.raises(StoreUnusable, match="is damaged"):
        await checkpoints.open()


async def test_a_server_that_is_not_there_is_told_in_one_line_without_the_password() -> None:
    checkpoints = open_checkpoints("postgresql://me:s3cret@127.0.0.1:1/runs")
    with pytest.raises(StoreUnavailable, match="cannot be reached") as away:
        await checkpoints.open()
    assert "s3cret" not in str(away.value)
    assert "\n" not in str(away.value)


async def test_a_process_that_ends_without_closing_does_not_hang(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", LEAVES, tmp_path / "runs.db"])  # noqa: ASYNC220 # nothing else runs
    assert child.wait(30) == 0


LEAVES = """
import asyncio, sys
from atomesh.pipelines.durable import open_checkpoints

async def main():
    checkpoints = open_checkpoints(sys.argv[1])
    await checkpoints.open()
    await checkpoints.stage("run-1", "a", lambda: asyncio.sleep(0, b""), repeat=True)

asyncio.run(main())
"""
