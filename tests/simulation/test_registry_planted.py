"""Defects planted in the registry, one for each known way to break a promise; a few worlds must find each.

`registry_defects.toml` has them: a line of the source, what it becomes, and
the promise that some world finds broken. One whose line is not there any more
says so: plant it where the line went, or drop it with the line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = Path("registry/atomesh/registry")
DEFECTS = tomllib.loads(Path(__file__).with_name("registry_defects.toml").read_text())
SEEDS = "0:4"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", DEFECTS)
def test_some_world_finds_that(name: str, tmp_path: Path) -> None:
    defect = DEFECTS[name]
    shutil.copytree(ROOT / "registry", tmp_path / "registry", ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / REGISTRY / defect["file"]
    source = planted.read_text()
    assert defect["line"] in source, f"the line is not in {REGISTRY / defect['file']} any more"
    planted.write_text(source.replace(defect["line"], defect["becomes"], 1))

    command = [sys.executable, "-m", "atomesh.testing.registry_world", "--seeds", defect.get("seeds", SEEDS)]
    found = subprocess.run(
        [*command, "--promise", defect["promise"], "--first", "--processes", "1"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "registry")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1, f"some world must find that {name}"
    assert f"[{defect['promise']}]" in found.stdout, "the promise that it breaks must be named"
    assert "replay: python -m atomesh.testing.registry_world --seed" in found.stdout


def test_the_record_lists_every_planted_defect() -> None:
    record = (ROOT / "tests" / "RECORD.md").read_text()
    missing = [name for name, defect in DEFECTS.items() if f"| `{name}` | {defect['promise']} |" not in record]
    assert not missing, f"tests/RECORD.md must list what is planted: {', '.join(missing)}"
