"""The wheel that would be released holds every module and works where nothing else of the project is."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCE_ROOTS: list[str] = CONFIG["tool"]["hatch"]["build"]["dev-mode-dirs"]


def run(*command: str | Path, **settings: object) -> str:
    environment = {"PATH": "/usr/bin:/bin", **{key: str(value) for key, value in settings.items()}}
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = folder.glob("*.whl")
    return found


def modules() -> set[str]:
    """Every module of every source root, and what it reads, as the path that it has in a wheel."""
    return {
        path.relative_to(ROOT / root).as_posix()
        for root in SOURCE_ROOTS
        for kind in ("*.py", "*.pyi", "py.typed", "*.yaml")
        for path in (ROOT / root).rglob(kind)
    }


def test_the_wheel_holds_every_module_of_every_root_and_nothing_beside(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert modules() - held == set(), "missing from the wheel"
    surplus = {name.split("/")[0] for name in held} - {"atomesh", "buf"}
    assert surplus == set(), "a wheel must claim no import name but its own"


def test_an_installed_wheel_imports_without_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "fresh", with_pip=False)
    fresh = tmp_path / "fresh" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", fresh, "install", "--no-deps", "--no-index", "--quiet", wheel)
    # The dependencies are those of this environment. Its editable atomesh is a
    # .pth file, which Python does not read from folders on PYTHONPATH.
    dependencies = sysconfig.get_path("purelib")
    names = [f"atomesh.{root}" for root in SOURCE_ROOTS if root != "generated"]
    names += ["atomesh.v1.agent_pb2_grpc", "atomesh.text.v1.text_pb2_grpc", "buf.validate.validate_pb2"]
    code = f"import importlib\nfor name in {names!r}: print(importlib.import_module(name).__file__)"
    homes = run(fresh, "-W", "error", "-c", code, PYTHONPATH=dependencies).splitlines()
    assert [home for home in homes if not home.startswith(str(tmp_path))] == [], "imported from somewhere else"
    assert "Usage" in run(fresh.with_name("atomesh"), "--help", PYTHONPATH=dependencies)
