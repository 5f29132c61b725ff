"""What import-linter cannot see: the environment is read at the command line only."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
BELOW_THE_CLI = [
    root for root in CONFIG["tool"]["hatch"]["build"]["dev-mode-dirs"] if root not in ("cli", "testing", "generated")
]


def environment_reads(source: str) -> Iterator[int]:
    """The lines that read `os.environ` or `os.getenv`, however imported."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"):
            yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for alias in node.names if alias.name in ("environ", "environb", "getenv"))


@pytest.mark.parametrize("root", BELOW_THE_CLI)
def test_the_environment_is_read_at_the_command_line_only(root: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / root).rglob("*.py"))
        for line in environment_reads(path.read_text())
    ]
    assert found == [], "a setting comes in as an argument, so that `atomesh config show` can name its source"


def test_the_search_finds_every_spelling() -> None:
    source = "import os\nfrom os import environ, path\na = os.environ['X']\nb = os.getenv('Y')\nc = os.path.sep\n"
    assert sorted(environment_reads(source)) == [2, 3, 4]
