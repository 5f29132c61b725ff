"""The harness itself: a test that leaks fails, a clean one passes, and nothing is skipped in CI.

Each case is a pytest run of its own, in a folder with a copy of the conftest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from atomesh.core.clock import SYSTEM_CLOCK

CONFTEST = Path(__file__).parents[2] / "conftest.py"
SETTINGS = "[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider --strict-markers\nfilterwarnings = error\n"


HEADER = "import asyncio, subprocess, sys, threading, time, warnings\nimport grpc.aio\nimport pytest\n\nkeep = []\n\n"


@dataclass(frozen=True)
class Outcome:
    """How an inner run ended, and what it had against each test (nothing: it passed)."""

    status: int
    printed: str
    complaints: dict[str, str]


def inner(
    folder: Path, source: str, *flags: str, ci: str = "", without: str = "", through: tuple[str, ...] = ()
) -> Outcome:
    """Runs tests given as text in a pytest of their own, which `through` starts."""
    (folder / "pytest.ini").write_text(SETTINGS)
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "test_inner.py").write_text(HEADER + textwrap.dedent(source))
    done = subprocess.run(
        [*through, sys.executable, "-m", "pytest", "-ra", "--junitxml=report.xml", *flags],
        cwd=folder,
        env={**os.environ, "CI": ci, "CI_WITHOUT": without},
        capture_output=True,
        text=True,
        check=False,
    )
    report = folder / "report.xml"
    cases = ElementTree.parse(report).iter("testcase") if report.exists() else []
    complaints: dict[str, str] = {}
    for case in cases:
        said = ["".join(part.itertext()) + part.get("message", "") for part in case if part.tag in ("failure", "error")]
        complaints[case.get("name", "")] = complaints.get(case.get("name", ""), "") + "".join(said)
    return Outcome(done.returncode, done.stdout + done.stderr, complaints)


CLEAN = """
    def test_plain():
        pass

    async def test_async():
        task = asyncio.create_task(asyncio.sleep(0))
        await task

    async def test_a_task_that_is_on_its_way_out():
        task = asyncio.create_task(asyncio.sleep(5))
        await asyncio.sleep(0)
        task.cancel()

    def test_a_process_that_ended():
        subprocess.run([sys.executable, "-c", ""], check=True)

    def test_a_thread_that_ended():
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

    async def test_a_channel_that_was_closed():
        async with grpc.aio.insecure_channel("127.0.0.1:1"):
            pass

    async def test_hours_in_virtual_time(virtual_clock):
        await virtual_clock.sleep(3600)

    @pytest.mark.allow_leaks("shows that it is allowed")
    async def test_a_leak_that_a_test_owns_up_to():
        asyncio.create_task(asyncio.Event().wait())

    @pytest.mark.virtual_time
    async def test_hours_by_mark():
        await asyncio.sleep(3600)
"""


def test_clean_tests_pass_async_ones_too(tmp_path: Path) -> None:
    outcome = inner(tmp_path, CLEAN)
    assert outcome.status == 0, outcome.printed
    assert "9 passed" in outcome.printed


# The body of a test that leaks, and what must be said of it.
LEAKS = {
    "task": (
        "async def test(): asyncio.create_task(asyncio.Event().wait(), name='forgotten')",
        "task forgotten still runs",
    ),
    "task_in_virtual_time": (
        "async def test(virtual_clock): asyncio.create_task(virtual_clock.sleep(1), name='forgotten')",
        "task forgotten still runs",
    ),
    "thread": (
        "def test(): threading.Thread(target=time.sleep, args=(1.5,), name='forgotten').start()",
        "thread forgotten still runs",
    ),
    "process": (
        "def test(): keep.append(subprocess.Popen(['sleep', '30']))",
        "still lives: sleep 30",
    ),
    "orphaned_grandchild": (
        "def test(): subprocess.run(['sh', '-c', 'sleep 31 >/dev/null &'], check=True)",
        "sleep 31",  # its name is sh's until it has become sleep
    ),
    "open_channel": (
        "async def test(): keep.append(grpc.aio.insecure_channel('127.0.0.1:1'))",
        "gRPC channel to 127.0.0.1:1 is still open",
    ),
    "dropped_channel": (
        "async def test(): grpc.aio.insecure_channel('127.0.0.1:2')",
        "gRPC channel to 127.0.0.1:2 was dropped, not closed",
    ),
    "coroutine_never_awaited": (
        "async def test(): asyncio.sleep(0)",
        "was never awaited",
    ),
    "file_never_closed": (
        "def test(): open(__file__)",
        "unclosed file",
    ),
    "exception_in_a_callback": (
        "async def test(): asyncio.get_running_loop().call_soon(int, 'x')",
        "no exception may end in the loop's handler",
    ),
    "exception_in_a_task_that_nobody_asks": (
        "async def test(): asyncio.get_running_loop().create_task(asyncio.wait_for(asyncio.Event().wait(), 0))",
        "TimeoutError()",
    ),
    "warning": (
        "def test(): warnings.warn('old')",
        "UserWarning: old",
    ),
}


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run of all leaks, an innocent test after each."""
    tests = [
        f"{source.replace('def test(', f'def test_{name}(')}\n\ndef test_after_{name}(): pass\n"
        for name, (source, _) in LEAKS.items()
    ]
    return inner(tmp_path_factory.mktemp("leaking"), "\n".join(tests))


@pytest.mark.parametrize("leak", LEAKS)
def test_what_a_test_leaves_behind_fails_it_and_not_the_next_one(leaking: Outcome, leak: str) -> None:
    assert LEAKS[leak][1] in leaking.complaints[f"test_{leak}"], f"the complaint must name the {leak}"
    assert not leaking.complaints[f"test_after_{leak}"], "a leak is the fault of the test that made it"


def test_in_workers_each_test_is_blamed_for_its_own_leaks_and_no_other(tmp_path: Path) -> None:
    kinds = ("task", "process", "orphaned_grandchild", "open_channel")
    tests = [f"{LEAKS[kind][0].replace('def test(', f'def test_{kind}(')}\n\n" for kind in kinds]
    innocents = [f"def test_beside_{n}(): pass\n" for n in range(8)]
    outcome = inner(tmp_path, "\n".join([*tests, *innocents]), "-n", "2", "--dist", "worksteal")
    assert len(outcome.complaints) == len(tests) + len(innocents)
    blamed = {name for name, said in outcome.complaints.items() if said}
    assert blamed == {f"test_{kind}" for kind in kinds}, outcome.printed
    for kind in kinds:
        assert LEAKS[kind][1] in outcome.complaints[f"test_{kind}"], f"the complaint must name the {kind}"


async def test_a_timer_that_is_too_long_is_not_within_its_time(within: Any) -> None:
    with pytest.raises(AssertionError, match=r"it took 0\.[12]"):
        async with within(0.05):
            await SYSTEM_CLOCK.sleep(0.15)


async def test_time_in_which_the_machine_ran_something_else_does_not_count(within: Any) -> None:
    async with within(0.05):
        threading.Event().wait(0.15)
        await SYSTEM_CLOCK.sleep(0.01)
        threading.Event().wait(0.15)


INTERRUPTED = """
    def test_a_child_can_be_interrupted():
        child = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        child.stdout.readline()
        child.send_signal(2)
        child.communicate(timeout=30)
        assert child.returncode
"""


@pytest.mark.parametrize("flags", [(), ("-n", "1")])
def test_ctrl_c_reaches_what_tests_start_also_where_they_run_in_the_background_of_a_script(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    outcome = inner(tmp_path, INTERRUPTED, *flags, through=("sh", "-c", 'trap "" INT; exec "$@"', "sh"))
    assert outcome.status == 0, outcome.printed


NEEDS = "@pytest.mark.needs_tool('no-such-tool')\ndef test_it():\n    pass\n"


def test_a_missing_tool_skips_with_one_line_on_a_desk(tmp_path: Path) -> None:
    outcome = inner(tmp_path, NEEDS)
    assert outcome.status == 0
    assert "needs no-such-tool, which is not installed here" in outcome.printed


def test_a_missing_tool_fails_in_ci(tmp_path: Path) -> None:
    outcome = inner(tmp_path, NEEDS, ci="true")
    assert outcome.status == 1
    assert "needs no-such-tool, and with CI=true nothing may be missing" in outcome.printed


def test_ci_may_do_without_what_it_names(tmp_path: Path) -> None:
    outcome = inner(tmp_path, NEEDS, ci="true", without="other no-such-tool")
    assert outcome.status == 0
    assert "1 skipped" in outcome.printed


def test_a_tool_that_is_there_is_used(tmp_path: Path) -> None:
    outcome = inner(tmp_path, "@pytest.mark.needs_tool('sh')\ndef test_it():\n    pass\n", ci="true")
    assert outcome.status == 0, outcome.printed


def test_a_misspelt_marker_is_refused(tmp_path: Path) -> None:
    outcome = inner(tmp_path, "@pytest.mark.virtual_tiem\ndef test_it():\n    pass\n")
    assert outcome.status != 0
    assert "virtual_tiem" in outcome.printed


ENDING_LATE = """
    @pytest.mark.allow_leaks("gRPC's queue must outlive the tests for one to hear of another")
    async def test_keeps_grpc_running():
        keep.append(grpc.aio.insecure_channel("127.0.0.1:9"))

    @pytest.mark.parametrize("round", range(5))
    async def test_cuts_a_watch_off(round):
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await channel.channel_ready()

    @pytest.mark.parametrize("round", range(5))
    async def test_listens(round):
        async with grpc.aio.insecure_channel("127.0.0.1:1"):
            await asyncio.sleep(0.02)
"""


def test_what_grpc_ends_after_its_channel_is_told_to_the_test_that_made_it(tmp_path: Path) -> None:
    outcome = inner(tmp_path, ENDING_LATE)
    assert outcome.status == 0, outcome.printed
