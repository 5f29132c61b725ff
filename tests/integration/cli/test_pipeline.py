"""`atomesh pipeline` against a mesh: checked against contracts, run, served, and everything that a user gets wrong there."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.pipelines.store import open_store
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

INPUT = json.dumps({"content": "It works. I love it.", "operation": "sentiment"})
NOBODY = "127.0.0.1:1"
PATIENCE = 30.0
REPORT = """
name: report
description: Mood of a text.
input_type: atomesh.text.v1.TextInput
stages:
  summary: {agent: text-processor, input: {content: $input.content, operation: summarize}}
  mood: {agent: text-processor, input: {content: $summary.result, operation: sentiment}}
  words: {agent: text-processor, input: {content: $summary.result, operation: extract_keywords}}
output: {summary: $summary.result, mood: $mood.sentiment.label}
"""
TWO = """
name: {name}
stages:
  a: {{agent: text-processor}}
  b: {{agent: {agent}, after: [a], input: $input, attempts: 1}}
"""
Atomesh = Callable[..., Any]
Here = Callable[..., Any]


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of the commands, with pipelines in it."""
    monkeypatch.chdir(home)
    for name, text in {
        "report": REPORT,
        "waits": TWO.format(name="waits", agent="slow"),
        "fails": TWO.format(name="fails", agent="failing"),
        "hostile": "name: hostile-line\nstages: {a: {agent: hostile}}\n",
    }.items():
        (home / f"{name}.yaml").write_text(text)
    return home


def state(folder: Path) -> Path:
    return folder / ".local" / "state" / "atomesh" / "pipelines.db"


async def kept(folder: Path, run_id: str) -> Any:
    """A run as the store has it."""
    store = open_store(state(folder))
    await store.open()
    try:
        return await store.get_run(run_id)
    finally:
        await store.close()


async def runs(folder: Path) -> list[Any]:
    store = open_store(state(folder))
    await store.open()
    try:
        return list(await store.list_runs())
    finally:
        await store.close()


# -- validate ---------------------------------------------------------------------


BAD = {
    "field": ("  b: {agent: slow, input: {content: $a.reslt}}\n", 2, "line 4: stages.b.input.content: "),
    "type": (
        "  b:\n    agent: slow\n    input:\n      content: $a.word_count\n",
        2,
        "line 7: stages.b.input.content: ",
    ),
    "target": ("  b: {agent: slow, input: {contnt: $a.result}}\n", 2, "line 4: stages.b.input"),
    "message": ("  b: {agent: slow, input: $a}\n", 2, "line 4: stages.b.input"),
    "cel": ("  b: {agent: slow, input: {content: {$cel: 'a.word_count + 1'}}}\n", 2, "line 4: stages.b.input"),
    "syntax": ("  b: {agent: slow, when: '1 +', input: $input}\n", 2, "line 4: stages.b.when"),
    "output": ("output: {mood: $a.nothing}\n", 2, "line 4: output.mood"),
    "nobody": ("  b: {agent: text-procesor}\n", 3, "line 4: stages.b.agent: no agent 'text-procesor'"),
    "version": ("  b: {agent: slow, version: '>=9'}\n", 4, "line 4: stages.b"),
    "capability": ("  b: {capability: content_analysi}\n", 3, "line 4: stages.b.capability: "),
}


@pytest.mark.parametrize("name", BAD)
def test_types_are_checked_against_the_agents_that_are_registered(
    town: str, here: Here, folder: Path, name: str
) -> None:
    text, code, said = BAD[name]
    (folder / "bad.yaml").write_text("name: x\nstages:\n  a: {agent: text-processor, input: $input}\n" + text)
    ended = here("pipeline", "validate", "bad.yaml", "--registry", town)
    line = ended.one_line()
    assert line.startswith("error: bad.yaml: "), line
    assert said in line
    assert (ended.code, ended.out) == (code, "")


def test_what_is_right_is_told_with_its_types(town: str, here: Here, folder: Path) -> None:
    good = here("pipeline", "validate", "report.yaml", "--registry", town)
    assert good.code == 0, good.err
    assert "report 1.0.0, atomesh.text.v1.TextInput -> " in good.out
    notes = here("pipeline", "validate", "report.yaml", "--notes", "--registry", town)
    assert len(notes.out.splitlines()) > 1, "a summary may be longer than what sentiment takes"
    (folder / "bad.yaml").write_text("name: x\nstages:\n  a: {agent: nobody-here}\n")
    both = here("pipeline", "validate", "report.yaml", "bad.yaml", "--registry", town)
    assert (both.code, len(both.out.splitlines()), len(both.err.splitlines())) == (3, 1, 1)
    assert "no registry answers" in here("pipeline", "validate", "report.yaml", "--registry", NOBODY).one_line()


def test_a_pipeline_that_the_command_line_cannot_run_is_valid_and_says_so(town: str, here: Here, folder: Path) -> None:
    (folder / "provided.yaml").write_text("name: p\nproviders: [db, cache]\nstages: {a: {agent: text-processor}}\n")
    for more in ((), ("--offline",)):
        good = here("pipeline", "validate", "provided.yaml", "--registry", town, *more)
        assert good.code == 0
        assert "1 stage" in good.out
        assert "context providers db, cache, and the command line has none; run it from Python" in good.out
    (folder / "in.jsonl").write_text(INPUT + "\n")
    batch = here("batch", "provided.yaml", "--input-file", "in.jsonl", "--output-file", "out.jsonl", "--registry", town)
    assert batch.code == 2
    assert "context providers db, cache" in batch.one_line()


# -- run --------------------------------------------------------------------------


def test_a_run_gives_its_output_as_json_and_tells_on_stderr_how_it_goes(
    town: str, here: Here, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "input.json").write_text(INPUT)
    run = ("pipeline", "run", "report.yaml", "--registry", town)
    plain = here(*run, "--input", INPUT, "--run-id", "r-1")
    assert plain.code == 0, plain.err
    assert plain.out.count("\n") == 1, "one line for a pipe"
    output = json.loads(plain.out)
    assert output["mood"] == "positive"
    assert list(output) == ["summary", "mood"], "fields as the pipeline has them"
    lines = plain.err.splitlines()
    assert lines[0] == "run r-1: report 1.0.0, 3 stages"
    assert lines[-1].startswith("run r-1: success in ")
    assert sorted(line.split(":")[0] for line in lines[1:-1]) == ["mood", "summary", "words"]
    assert "\x1b" not in plain.err, "no colours where there is no terminal"
    assert json.loads(here(*run, "--input", "@input.json").out) == output
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(INPUT.encode())))
    assert json.loads(here(*run, "--input", "-").out) == output
    filed = here(*run, "--input-file", "input.json", "--output-file", "out.json")
    assert (filed.code, filed.out) == (0, "")
    assert json.loads((folder / "out.json").read_text()) == output


def test_all_of_a_run_is_shown_where_it_is_asked_for(town: str, here: Here, folder: Path) -> None:
    run = ("pipeline", "run", "report.yaml", "--registry", town, "--input", INPUT, "--json")
    whole = here(*run, "--run-id", "r")
    assert whole.err == "", "there is nothing else to read"
    data = json.loads(whole.out)
    assert data["status"] == "success"
    assert [stage["status"] for stage in data["stages"]] == ["success"] * 3
    assert data["stages"][0]["output"]["result"] == data["output"]["summary"]
    assert data["summary"]["successes"] == 3
    assert json.loads(here("runs", "status", "r", "--json").out) == data, "it is kept as it was shown"
    both = here(*run, "--output-file", "both.json")
    assert json.loads(both.out)["status"] == "success"
    assert json.loads((folder / "both.json").read_text()) == data["output"], "whoever names a file has the output there"


WRONG: dict[tuple[str, ...], tuple[int, str]] = {
    ("report.yaml",): (2, "--input JSON or --input-file FILE"),
    ("report.yaml", "--input", INPUT, "--input-file", "x"): (2, "one input is enough"),
    ("report.yaml", "--input", "{"): (2, "is not JSON"),
    ("report.yaml", "--input", '{"contnt": "x"}'): (2, "did you mean content?"),
    ("report.yaml", "--input", "[1]"): (2, "object"),
    ("report.yaml", "--input-file", "missing.json"): (2, "missing.json cannot be read"),
    ("report.yaml", "--input", INPUT, "--timeout", "0"): (2, "timeout 0.0"),
    ("report.yaml", "--input", INPUT, "--timeout", "-1"): (2, "timeout -1.0"),
    ("report.yaml", "--input", INPUT, "--timeout", "nan"): (2, "timeout nan"),
    ("report.yaml", "--input", INPUT, "--run-id", "a b"): (2, "run id 'a b'"),
    ("report.yaml", "--input", INPUT, "--output-file", "no/such/o"): (2, "no/such/o cannot be written"),
    ("report.yaml", "--input", INPUT, "--output-file", "."): (2, ". cannot be written"),
    ("missing.yaml", "--input", INPUT): (2, "missing.yaml cannot be read"),
    ("nobody", "--input", INPUT): (3, "no pipeline nobody is stored"),
    ("away.yaml", "--input", INPUT): (3, "away.yaml: line 3: stages.a.agent: no agent 'nobody-here'"),
    ("report.yaml", "--registry", NOBODY, "--input", INPUT): (4, "no registry answers at 127.0.0.1:1"),
    ("report.yaml", "--input-file", "20mb.json"): (2, "more than 16777216 bytes"),
    ("provided.yaml", "--input", INPUT): (2, "context provider db, and the command line has none; run it from Python"),
    ("durable.yaml", "--input", INPUT, "--store", "memory"): (2, "outlives its process"),
    ("durable.yaml", "--input", INPUT, "--store", "foreign.db"): (2, "foreign.checkpoints.db"),
}


@pytest.mark.parametrize("arguments", WRONG)
def test_what_cannot_be_run_is_one_line_and_a_code_and_no_run(
    town: str, here: Here, folder: Path, arguments: tuple[str, ...]
) -> None:
    (folder / "20mb.json").write_text(json.dumps({"content": "x " * (10 * 1024 * 1024), "operation": "sentiment"}))
    (folder / "away.yaml").write_text("name: away\nstages:\n  a: {agent: nobody-here}\n")
    (folder / "provided.yaml").write_text("name: p\nproviders: [db]\nstages: {a: {agent: text-processor}}\n")
    (folder / "durable.yaml").write_text("name: d\ndurable: true\nstages: {a: {agent: text-processor}}\n")
    with contextlib.closing(sqlite3.connect(folder / "foreign.checkpoints.db")) as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    ended = here("pipeline", "run", "--registry", town, *arguments)
    line = ended.one_line()
    code, said = WRONG[arguments]
    assert said in line
    assert (ended.code, ended.out) == (code, ""), line
    assert "unexpected" not in line
    assert json.loads(here("runs", "ls", "--json").out) == []


def test_a_pipeline_and_its_input_cannot_both_be_stdin(
    town: str, here: Here, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(INPUT.encode())))
    ended = here("pipeline", "run", "-", "--input", "-", "--registry", town)
    assert ended.code == 2
    assert "both" in ended.one_line()


def test_a_run_that_fails_says_where_and_why_in_its_last_line(town: str, here: Here, folder: Path) -> None:
    long = json.dumps({"content": "x" * 10_001, "operation": "sentiment"})
    (folder / "10mb.json").write_text(json.dumps({"content": "x " * (5 * 1024 * 1024), "operation": "sentiment"}))
    for arguments, code, said in (
        (("report.yaml", "--input", long), 2, "content"),
        (("report.yaml", "--input-file", "10mb.json"), 2, "the input is 10485776 bytes; at most"),
        (("fails.yaml", "--input", INPUT, "--run-id", "f"), 1, "fails failed: stage b: no such ticket"),
        (("waits.yaml", "--input", INPUT, "--timeout", "0.4", "--run-id", "late"), 5, "waits failed: stage b: "),
    ):
        ended = here("pipeline", "run", *arguments, "--registry", town)
        assert (ended.code, ended.out) == (code, ""), ended.err[-300:]
        last = ended.err.splitlines()[-1]
        assert last.startswith("error: "), last
        assert len(last) < 1000, "ten megabytes of input are not an error's text"
        assert said in last
        assert "\x1b" not in ended.err
        shown = json.loads(here("runs", "status", ended.err.split()[1].rstrip(":"), "--json").out)
        assert shown["status"] == "failed"
        assert shown["error"]["message"][:40] in last
    assert json.loads(here("runs", "status", "late", "--json").out)["error"]["type"] == "DEADLINE_EXCEEDED"
    whole = here("pipeline", "run", "fails.yaml", "--registry", town, "--input", INPUT, "--json")
    assert whole.code == 1
    assert json.loads(whole.out)["error"]["type"] == "NO_TICKET"
    assert len(whole.err.splitlines()) == 1
    assert "`atomesh runs status" in whole.err


def test_a_run_that_fails_at_no_stage_names_none(town: str, here: Here, folder: Path) -> None:
    (folder / "empty.yaml").write_text(
        "name: empty\nstages: {a: {agent: text-processor, input: $input, when: 'false'}}\noutput: $a\n"
    )
    ended = here("pipeline", "run", "empty.yaml", "--input", INPUT, "--registry", town, "--run-id", "e")
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith("error: empty failed: nothing came of "), ended.err
    assert "a: left out: false is false" in ended.err
    for shown in (here("runs", "ls").out, here("runs", "status", "e").out):
        assert "nothing came of" in shown
        assert " : " not in shown
        assert "no stage" not in shown


def test_an_id_is_given_once(town: str, here: Here, folder: Path) -> None:
    run = ("pipeline", "run", "report.yaml", "--registry", town, "--input", INPUT, "--run-id", "once")
    assert here(*run).code == 0
    again = here(*run)
    assert again.code == 1
    assert "there is a run once already" in again.one_line()


def test_a_stored_pipeline_is_run_by_its_name(town: str, here: Here, folder: Path) -> None:
    here("pipeline", "add", "report.yaml")
    (folder / "report.yaml").unlink()
    ended = here("pipeline", "run", "report", "--registry", town, "--input", INPUT)
    assert json.loads(ended.out)["mood"] == "positive"


class Vanishing(Agent[TextInput, TextOutput]):
    """Takes its process with it."""

    name = "vanishing"
    server: AgentServer

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        asyncio.get_running_loop().create_task(self.server.stop())
        await asyncio.Event().wait()
        raise AssertionError("it is cut off")


class Garbage(Agent[TextInput, TextOutput]):
    """Breaks its contract."""

    name = "garbage"

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        return TextOutput(confidence=7)


async def test_an_agent_that_vanishes_or_talks_nonsense_amid_a_run_is_told_and_recorded(
    mesh: Atomesh, atomesh: Atomesh, folder: Path
) -> None:
    for name in ("vanishing", "garbage"):
        (folder / f"{name}.yaml").write_text(TWO.format(name=f"{name}-line", agent=name))
    async with mesh() as running:
        vanishing = Vanishing()
        vanishing.server = AgentServer([vanishing], registry=running.registry)
        async with AgentServer(Garbage(), registry=running.registry) as other, vanishing.server:
            await other.registered.wait()
            await vanishing.server.registered.wait()
            gone, nonsense = await asyncio.gather(
                *(
                    atomesh("pipeline", "run", f"{name}.yaml", "--registry", running.registry, *more)
                    for name in ("vanishing", "garbage")
                    for more in [("--input", INPUT, "--run-id", name)]
                )
            )
    assert gone.code in (1, 4), gone.err
    assert "vanishing-line failed: stage b: " in gone.err.splitlines()[-1]
    assert nonsense.code == 1
    assert "confidence" in nonsense.err.splitlines()[-1], "it says which field breaks the contract"
    for name in ("vanishing", "garbage"):
        run = await kept(folder, name)
        assert (run.status, run.error.stage) == (4, "b"), "the record is true"
        assert [stage.status for stage in run.stages] == [3, 4]


def test_nothing_raw_reaches_a_pipe_or_a_terminal(town: str, here: Here, folder: Path) -> None:
    at = ("--registry", town, "--input", INPUT)
    output = here("pipeline", "run", "hostile.yaml", *at)
    assert json.loads(output.out)["result"] == "\x1b]0;owned\x07\x9b", "what it parses to is what the agent said"
    whole = here("pipeline", "run", "hostile.yaml", *at, "--json", "--run-id", "h")
    failing = here("pipeline", "run", "fails.yaml", *at, "--run-id", "f")
    shown = [here("runs", "status", run, *more) for run in "hf" for more in ((), ("--json",))]
    for ended in (output, whole, failing, *shown, here("runs", "ls")):
        for raw in ("\x1b", "\x07", "\x9b"):
            assert raw not in ended.out + ended.err


async def begun(folder: Path, run_id: str, stage: int) -> None:
    """Returns once the run's stage is under way: its own process says so."""
    from atomesh.pipelines.owner import Owner
    from atomesh.rpc.channel import open_channel
    from atomesh.v1 import pipeline_pb2, pipeline_pb2_grpc

    async with asyncio.timeout(PATIENCE):
        while not state(folder).exists() or run_id not in [run.id for run in await runs(folder)]:
            await SYSTEM_CLOCK.sleep(0.05)
        owner = Owner.parse((await kept(folder, run_id)).owner)
        assert owner is not None
        async with open_channel(owner.address) as channel:
            stub: Any = pipeline_pb2_grpc.PipelineServiceStub(channel)
            while True:
                run = (await stub.GetRun(pipeline_pb2.GetRunRequest(run_id=run_id))).run
                if run.stages[stage].status == pipeline_pb2.STAGE_STATUS_RUNNING:
                    return
                await SYSTEM_CLOCK.sleep(0.02)


async def test_ctrl_c_cancels_the_run_and_its_record_says_so(
    mesh: Atomesh, verb: Atomesh, folder: Path, atomesh: Atomesh
) -> None:
    async with mesh() as running:
        run = ("pipeline", "run", "waits.yaml", "--registry", running.registry, "--input", INPUT, "--run-id", "c")
        async with verb(*run) as process:
            await begun(folder, "c", 1)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate()
            assert process.returncode == 130
            assert out == b""
            assert b"Traceback" not in err
            assert err.decode().splitlines()[-1].startswith("run c: cancelled in ")
        async with asyncio.timeout(PATIENCE):
            while running.server.agents["slow"].admission.in_flight:
                await SYSTEM_CLOCK.sleep(0.01)
    recorded = await kept(folder, "c")
    assert recorded.status == 5, "CANCELLED"
    assert [stage.status for stage in recorded.stages] == [3, 5]


async def test_a_terminal_shows_a_tree_of_stages(mesh: Atomesh, folder: Path, home: Path) -> None:
    kept_env = {key: value for key, value in os.environ.items() if not key.startswith(("ATOMESH_", "XDG_"))}
    async with mesh() as running:
        ours, its = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "atomesh", "pipeline", "run", "hostile.yaml"),
            *("--registry", running.registry, "--input", INPUT),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=its,
            stderr=its,
            env={**kept_env, "HOME": str(home), "TERM": "xterm", "COLUMNS": "120", "NO_COLOR": ""},
        )
        os.close(its)
        said = bytearray()
        reading = asyncio.Event()

        def read() -> None:
            try:
                said.extend(os.read(ours, 65536))
            except OSError:  # the other end is closed: Linux says EIO
                asyncio.get_running_loop().remove_reader(ours)
                reading.set()

        asyncio.get_running_loop().add_reader(ours, read)
        try:
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0, said.decode()
                await reading.wait()
        finally:
            asyncio.get_running_loop().remove_reader(ours)
            os.close(ours)
            if process.returncode is None:
                process.kill()
                await process.wait()
    text = said.decode()
    assert "hostile-line 1.0.0" in text
    assert "✓" in text
    assert '"result": ' in text, "the output is shown, indented for people"
    assert "\x1b]0;owned" not in text, "the agent must not retitle the window"
    assert "\x9b" not in text


# -- serve ------------------------------------------------------------------------


async def ready(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        line = await process.stdout.readline()
    assert line, (await process.communicate())[1].decode()
    said: dict[str, Any] = json.loads(line)
    return said


async def test_pipelines_are_served_as_agents_until_they_drain(
    mesh: Atomesh, atomesh: Atomesh, verb: Atomesh, folder: Path
) -> None:
    async with mesh() as running:
        at = ("--registry", running.registry)
        assert (await atomesh("pipeline", "add", "report.yaml", "hostile.yaml")).code == 0
        async with verb("pipeline", "serve", *at, "--json", "--slots", "3") as process:
            said = await ready(process)
            assert sorted(said["agents"]) == ["hostile-line", "report"], "without names all that is stored"
            assert said["registered"] is True
            called, streamed, described, clash = await asyncio.gather(
                atomesh("call", "report", INPUT, *at),
                atomesh("call", "report", INPUT, *at, "--stream"),
                atomesh("describe", "report", *at, "--json"),
                atomesh("pipeline", "serve", "report.yaml", *at, "--bind", said["address"], "--log-level", "error"),
            )
            assert json.loads(called.out)["mood"] == "positive", called.err
            lines = [json.loads(line) for line in streamed.out.splitlines()]
            assert lines[-1]["mood"] == "positive"
            assert "run_started" in lines[0]
            assert json.loads(described.out)["endpoints"][0]["slots"] == 3
            assert f"cannot listen on {said['address']}" in clash.one_line()
            listed = await atomesh("runs", "ls", "--json", "--pipeline", "report")
            assert [run["status"] for run in json.loads(listed.out)] == ["success", "success"]
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0, "a drain is a good end"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "`atomesh pipeline add FILE`"),
        (("missing.yaml",), 2, "missing.yaml cannot be read"),
        (("nobody",), 3, "no pipeline nobody is stored"),
        (("away.yaml",), 3, "away.yaml: line 3: stages.a.agent"),
        (("report.yaml", "again.yaml"), 2, "two pipelines here are named report"),
        (("report.yaml", "--workers", "2"), 2, "--workers"),
        (("report.yaml", "provided.yaml"), 2, "pipeline p takes the context provider db"),
        (("report.yaml", "--registry", NOBODY), 4, "no registry answers"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    town: str, here: Here, folder: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    (folder / "again.yaml").write_text(REPORT)
    (folder / "provided.yaml").write_text("name: p\nproviders: [db]\nstages: {a: {agent: text-processor}}\n")
    (folder / "away.yaml").write_text("name: away\nstages:\n  a: {agent: nobody-here}\n")
    ended = here("pipeline", "serve", "--registry", town, "--log-level", "error", *arguments)
    line = ended.one_line()
    assert said in line
    assert (ended.code, ended.out) == (code, "")
