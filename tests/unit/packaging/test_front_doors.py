"""Every package's export list is true and complete: what is listed exists, what is imported is listed."""

from __future__ import annotations

import ast
import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
WRITTEN = [root for root in CONFIG["tool"]["hatch"]["build"]["dev-mode-dirs"] if root != "generated"]


def doors() -> list[str]:
    """Every hand-written package by its import name."""
    found = {path.relative_to(ROOT / root).parent for root in WRITTEN for path in (ROOT / root).rglob("__init__.py")}
    return sorted(".".join(path.parts) for path in found)


def offered(name: str, source: Path) -> set[str]:
    """The names without underscore that a door takes from its own modules or defines itself."""
    names: set[str] = set()
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.level or f"{node.module}.".startswith(f"{name}.")):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def test_every_component_has_a_front_door() -> None:
    assert {f"atomesh.{root}" for root in WRITTEN} <= set(doors())


@pytest.mark.parametrize("name", doors())
def test_what_a_door_lists_is_there_once_and_explained(name: str) -> None:
    door = importlib.import_module(name)
    listed = list(getattr(door, "__all__", []))
    assert [export for export in listed if not hasattr(door, export)] == [], "a listed name must exist"
    assert len(set(listed)) == len(listed), "a name is listed once"
    assert door.__doc__, "a door says what is behind it"


@pytest.mark.parametrize("name", doors())
def test_what_a_door_offers_it_lists(name: str) -> None:
    door = importlib.import_module(name)
    assert door.__file__ is not None
    missing = offered(name, Path(door.__file__)) - set(getattr(door, "__all__", []))
    assert missing == set(), "a public name in a door belongs in __all__, or under an underscore"
