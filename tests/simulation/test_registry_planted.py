"""Defects planted in the registry, one for each known way to break a promise; a few worlds must find each.

Each row is a line of the source, what it becomes, and the promise that some
world of `seeds` finds broken. A row whose line is not there any more says so:
plant it where the line went, or drop it with the line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "registry/atomesh/registry/"


@dataclass(frozen=True)
class Defect:
    """`line` of `file` becomes `becomes`; some world of `seeds` finds `promise` broken."""

    file: str
    line: str
    becomes: str
    promise: str
    seeds: str = "0:12"


DEFECTS = {
    "a watch goes back in time": Defect(
        "watch.py",
        "changes = self._queue.popleft()",
        "changes = self._queue.pop()",
        "ordered and unique",
    ),
    "a change is lost on reconnect": Defect(
        "history.py",
        "(self._revisions, revision - self._after, None)",
        "(self._revisions, revision - self._after + 1, None)",
        "reliable",
    ),
    "a change is told twice after a reconnect": Defect(
        "history.py",
        "(self._revisions, revision - self._after, None)",
        "(self._revisions, max(0, revision - self._after - 1), None)",
        "ordered and unique",
    ),
    "what is not committed is visible": Defect(
        "committer.py",
        "        await self._storage.commit(staged.batch)\n",
        "        self._ledger.apply(staged, begun)\n        await self._storage.commit(staged.batch)\n",
        "committed first",
        "1:12",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_some_world_finds_that(name: str, tmp_path: Path) -> None:
    defect = DEFECTS[name]
    shutil.copytree(ROOT / "registry", tmp_path / "registry", ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / REGISTRY / defect.file
    source = planted.read_text()
    assert defect.line in source, f"the line is not in {REGISTRY}{defect.file} any more"
    planted.write_text(source.replace(defect.line, defect.becomes, 1))

    command = [sys.executable, "-m", "atomesh.testing.registry_world", "--seeds", defect.seeds]
    found = subprocess.run(
        [*command, "--first", "--processes", "1"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "registry")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1, f"some world must find that {name}"
    assert f"[{defect.promise}]" in found.stdout, "the promise that it breaks must be named"
    assert "replay: python -m atomesh.testing.registry_world --seed" in found.stdout
