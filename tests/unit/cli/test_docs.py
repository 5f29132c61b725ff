"""The pages tell of every verb, exit code and setting, and of none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from atomesh.cli._app import build
from atomesh.cli._errors import ExitCode
from atomesh.cli._flags import Basics
from atomesh.cli._settings import load, variable_of

ROOT = Path(__file__).parents[3]


def test_every_verb_is_documented() -> None:
    app = build()
    verbs = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    told = set(re.findall(r"^\| `([a-z-]+)", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE))
    assert told == verbs


def test_every_exit_code_is_documented() -> None:
    told = re.findall(r"^\| (\d+) \|", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE)
    assert [int(code) for code in told] == [code.value for code in ExitCode]


def test_every_setting_is_documented_with_its_variable() -> None:
    rows = re.findall(
        r"^\| `\[(\w+)\] (\w+)` \| `(\w+)` \|", (ROOT / "docs" / "configuration.md").read_text(), re.MULTILINE
    )
    settings = load(Basics(), environment={})
    assert rows == [(table, key, variable_of(table, key)) for table, key, _, _ in settings.rows()]


def test_every_module_is_on_the_components_map() -> None:
    text = (ROOT / "cli" / "README.md").read_text()
    modules = {path.stem for path in (ROOT / "cli" / "atomesh" / "cli").glob("*.py")} - {"__init__"}
    told = {name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert told == modules
