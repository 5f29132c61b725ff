"""`atomesh definitions` and `atomesh start`: stored, started with limits, and nothing imported that is not allowed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atomesh.pipelines.definitions import read_definition
from atomesh.pipelines.store import open_store

AGENTS = '''
from pathlib import Path

from atomesh.agents import Agent, ExecutionContext
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

Path(__file__).with_suffix(".imported").touch()


class Repeater(Agent[TextInput, TextOutput]):
    """Says it again."""

    name = "repeater"
    capabilities = ("repeat",)

    def __init__(self, times: int = 2, mark: str = "", fails: bool = False) -> None:
        if fails:
            raise ValueError("no such model")
        self.times, self.mark = times, mark

    async def execute(self, input: TextInput, context: ExecutionContext) -> TextOutput:
        if input.content == "hungry":
            return TextOutput(result=str(len(bytearray(2 * 1024**3))))
        return TextOutput(result=f"{input.content * self.times}{self.mark}")


class Plain:
    pass
'''
DEFINITION = """
name: my-repeater
module: mine.agents
class: Repeater
capabilities: [echo]
configuration:
  times: 3
  serve: {slots: 2, labels: {tier: gold}}
memory: 512M
cpus: 1
"""
Atomesh = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of what is started, with modules of its own."""
    for name in ("mine", "mines"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "agents.py").write_text(AGENTS)
    (tmp_path / "repeater.yaml").write_text(DEFINITION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def defined(folder: Path, text: str = DEFINITION) -> None:
    """Stores a definition where the command looks for it, without the command."""
    store = open_store(folder / ".local" / "state" / "atomesh" / "pipelines.db")
    await store.open()
    await store.put_definition(read_definition(text))
    await store.close()


def imported(folder: Path) -> list[str]:
    return sorted(str(path.parent.name) for path in folder.glob("*/agents.imported"))


async def test_definitions_are_added_listed_shown_and_deleted(atomesh: Atomesh, folder: Path) -> None:
    added = await atomesh("definitions", "add", "repeater.yaml")
    assert (added.code, added.out) == (0, "my-repeater is defined; `atomesh start my-repeater` starts it\n")
    listed = await atomesh("definitions", "ls", "--json")
    (shown,) = json.loads(listed.out)
    assert shown["module"] == "mine.agents"
    assert shown["configuration"] == {"times": 3, "serve": {"slots": 2, "labels": {"tier": "gold"}}}
    assert (shown["memory"], shown["cpus"]) == ("512M", 1.0)
    assert "mine.agents:Repeater" in (await atomesh("definitions", "ls")).out
    assert "memory:        512M" in (await atomesh("definitions", "show", "my-repeater")).out
    assert (await atomesh("definitions", "delete", "my-repeater")).code == 0
    gone = await atomesh("definitions", "show", "my-repeater")
    assert gone.code == 3
    assert "no agent my-repeater is defined" in gone.one_line()
    assert imported(folder) == [], "to know of a definition nothing of it is imported"


async def test_a_definition_comes_through_stdin_and_from_a_store_that_is_named(atomesh: Atomesh, folder: Path) -> None:
    store = str(folder / "other.db")
    assert (await atomesh("definitions", "add", "-", "--store", store, stdin=DEFINITION.encode())).code == 0
    assert "my-repeater" in (await atomesh("definitions", "ls", "--store", store)).out
    assert "no agent is defined" in (await atomesh("definitions", "ls")).err


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a", "it has no module"),
        ("name: [", "it is not YAML"),
        (None, "cannot be read"),
        ("\xff", "is not UTF-8"),
    ],
)
async def test_a_file_that_is_no_definition_is_told_in_one_line(
    atomesh: Atomesh, folder: Path, text: str | None, line: str
) -> None:
    if text is not None:
        (folder / "bad.yaml").write_bytes(text.encode("latin-1"))
    ended = await atomesh("definitions", "add", "bad.yaml")
    assert ended.code == 2
    assert line in ended.one_line()


def status_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text() if sys.platform == "linux" else ""


async def started(folder: Path, atomesh: Atomesh, verb: Any, mesh: Any, *flags: str) -> Any:
    """The ready line, the status of the process and the answer to a call."""
    await defined(folder)
    async with mesh() as running:
        arguments = ("start", "my-repeater", "--registry", running.registry, "--allow-module", "mine", "--json")
        async with verb(*arguments, *flags) as process:
            ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
            status = status_of(ready["pid"])
            asked = ("call", "my-repeater", "--registry", running.registry)
            answer = await atomesh(*asked, '{"content": "ab", "operation": "summarize"}')
            hungry = await atomesh(*asked, '{"content": "hungry", "operation": "summarize"}')
            described = await atomesh("describe", "my-repeater", "--registry", running.registry, "--json")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 30) == 0, "a drain is a good end"
            with pytest.raises(ProcessLookupError):
                os.kill(ready["pid"], 0)
    return ready, status, answer, hungry, described


async def test_an_agent_is_started_as_it_is_defined_within_its_limits(
    atomesh: Atomesh, verb: Any, mesh: Any, folder: Path
) -> None:
    ready, status, answer, hungry, described = await started(folder, atomesh, verb, mesh)
    assert (ready["agents"], ready["registered"]) == (["my-repeater"], True)
    assert json.loads(answer.out)["result"] == "ababab", "its configuration are its arguments"
    assert '"echo"' in described.out, "capabilities of the definition are beside the class's"
    assert '"repeat"' in described.out
    assert '"gold"' in described.out
    if sys.platform == "linux":
        assert ready["limits"][0] == "memory 512M"
        allowed = next(line for line in status.splitlines() if line.startswith("Cpus_allowed_list"))
        assert allowed.split()[1].isdigit(), "one processor is one core"
        assert hungry.code != 0, "2 GB are not to be had within 512 MB"
    assert imported(folder) == ["mine"]


async def test_what_is_said_at_the_start_stands_over_the_definition(
    atomesh: Atomesh, verb: Any, mesh: Any, folder: Path
) -> None:
    flags = ("--set", "times=1", "--set", "mark=!", "--set", "serve.zone=west", "--memory", "1G", "--cpus", "0.5")
    ready, _, answer, _, described = await started(folder, atomesh, verb, mesh, *flags)
    assert json.loads(answer.out)["result"] == "ab!"
    assert "west" in described.out
    if sys.platform == "linux":
        assert ready["limits"][0] == "memory 1G"
        assert "a part of a core is not enforced" in ready["limits"][1], "what is not done is said"


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--allow-module", "mines.agents"),
        ("--allow-module", "mine.agents.deep"),
        ("--allow-module", "mine.agent"),
        ("--allow-module", "agents"),
    ],
)
async def test_a_module_that_is_not_allowed_is_never_imported(
    atomesh: Atomesh, folder: Path, flags: tuple[str, ...]
) -> None:
    await defined(folder)
    ended = await atomesh("start", "my-repeater", *flags)
    assert ended.code == 2
    assert "module mine.agents may not be started" in ended.one_line()
    assert imported(folder) == []


async def test_the_process_that_is_started_asks_the_list_for_itself(atomesh: Atomesh, folder: Path) -> None:
    await defined(folder)
    ended = await atomesh("start", "my-repeater", "--with-parent")
    assert "may not be started" in ended.one_line()
    assert imported(folder) == []


async def test_an_empty_list_lets_nothing_start(atomesh: Atomesh, folder: Path) -> None:
    (folder / "config.toml").write_text("[pipelines]\nallow_modules = []\n")
    await defined(folder, "name: t\nmodule: atomesh.agents.builtin.text.agent\nclass: TextProcessor\n")
    ended = await atomesh("start", "t", "--config", "config.toml")
    assert "allowed: nothing" in ended.one_line()


@pytest.mark.parametrize(
    ("flags", "code", "line"),
    [
        (("--set", "times"), 2, "is not key=value"),
        (("--set", "serve=1"), 2, "serve is 1 in the configuration"),
        (("--set", "serve.slots=many"), 2, "serve.slots of the configuration is 'many'"),
        (("--set", "serve.slot=1"), 2, "serve.slot of the configuration is 1; there are bind"),
        (("--set", "serve.workers=2"), 2, "starts one process"),
        (("--memory", "1M"), 2, "1M of memory is too little"),
        (("--memory", "lots"), 2, "is no size of memory"),
        (("--cpus", "0"), 2, "is no number of processors"),
        (("--set", "unknown=1"), 2, "does not take its configuration"),
        (("--set", "fails=true"), 2, "cannot be made with its configuration: ValueError: no such model"),
    ],
)
async def test_what_cannot_be_started_is_told_in_one_line(
    atomesh: Atomesh, folder: Path, flags: tuple[str, ...], code: int, line: str
) -> None:
    await defined(folder)
    ended = await atomesh("start", "my-repeater", "--allow-module", "mine", *flags)
    assert ended.code == code
    assert line in ended.one_line()


@pytest.mark.parametrize(
    ("module", "name", "line"),
    [
        ("mine.nothing", "Repeater", "there is no module mine.nothing"),
        ("mine.agents", "Repeatr", "did you mean mine.agents:Repeater?"),
        ("mine.agents", "Plain", "is no agent"),
        ("mine.agents", "Path", "is no agent"),
    ],
)
async def test_a_class_that_is_not_there_or_no_agent_is_told_in_one_line(
    atomesh: Atomesh, folder: Path, module: str, name: str, line: str
) -> None:
    await defined(folder, f"name: bad\nmodule: {module}\nclass: {name}\n")
    ended = await atomesh("start", "bad", "--allow-module", "mine")
    assert ended.code == 2
    assert line in ended.one_line()


async def test_one_that_is_not_defined_is_not_found(atomesh: Atomesh, folder: Path) -> None:
    ended = await atomesh("start", "nobody")
    assert ended.code == 3
    assert "no agent nobody is defined" in ended.one_line()
