"""`serve MODULE:CLASS`: what cannot be served is told in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from atomesh.cli._errors import UsageMistake
from atomesh.cli._loading import load_agents

MODULE = """
from atomesh.agents import Agent
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

class Echo(Agent[TextInput, TextOutput]):
    name = "echo"
    async def execute(self, input, context):
        return TextOutput(result=input.content)

class Unfinished(Agent[TextInput, TextOutput]):
    name = "unfinished"

class Needy(Echo):
    def __init__(self, model):
        self.model = model

class Other:
    pass
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    (tmp_path / "their_agents.py").write_text(MODULE)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_current_directory_is_importable(here: Path) -> None:
    [echo] = load_agents(["their_agents:Echo"])
    assert echo.name == "echo"


def test_the_text_agent_has_a_short_name() -> None:
    [agent] = load_agents(["text-processor"])
    assert agent.name == "text-processor"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("their_agents", "write module:Class"),
        (":Echo", "write module:Class"),
        ("no_such_module:Echo", "there is no module no_such_module"),
        ("their_agents:Ecko", "did you mean their_agents:Echo?"),
        ("their_agents:Other", "is no agent; make it a subclass of atomesh.agents.Agent"),
        ("their_agents:Agent", "is abstract; it lacks execute"),
        ("their_agents:Unfinished", "is abstract; it lacks execute"),
        ("their_agents:Needy", "cannot be made without arguments"),
        ("broken:Echo", "broken.py:2"),
        ("needing:Echo", "module needing needs not_installed_at_all"),
        ("uncompiled:Echo", "`atomesh proto compile DIR` makes it"),
        ("their_agents.py:Echo", "without .py it is their_agents:CLASS"),
        ("wrong_syntax:Echo", "SyntaxError"),
        ("leaving:Echo", "SystemExit"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(
    here: Path, atomesh: Callable[..., Any], name: str, said: str
) -> None:
    (here / "broken.py").write_text("x = {}\ny = x['absent']\n")
    (here / "needing.py").write_text("import not_installed_at_all\n")
    (here / "uncompiled.py").write_text("from pigeon.v1.pigeon_pb2 import Letter\n")
    (here / "pigeon" / "v1").mkdir(parents=True)
    (here / "wrong_syntax.py").write_text("def f(:\n")
    (here / "leaving.py").write_text("import sys; sys.exit(3)\n")
    ended = atomesh("serve", name)
    assert ended.code == 2
    assert said in ended.one_line()


def test_a_name_is_for_one_agent_only(here: Path) -> None:
    with pytest.raises(UsageMistake, match="--name is for one agent"):
        load_agents(["their_agents:Echo", "text-processor"], single="--name")
