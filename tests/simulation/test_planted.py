"""Defects planted in the library, each of which a few worlds must find.

Each row is a line of the source, what it becomes, and the seeds to look in. A
row whose line is not there any more says so: plant it where the line went, or
drop it with the line. `tests/unit/rpc/mux` has more of them for the mux alone.
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


@dataclass(frozen=True)
class Defect:
    """`line` of `file` becomes `becomes`; some world of `seeds` says `told`."""

    file: str
    line: str
    becomes: str
    told: str
    seeds: str = "0:12"


DEFECTS = {
    "one too many enters": Defect(
        "agents/atomesh/agents/admission.py",
        "if self.in_flight + self._demands.granted < self.slots and",
        "if self.in_flight + self._demands.granted <= self.slots and",
        "at once in",
    ),
    "one too many is granted": Defect(
        "agents/atomesh/agents/admission.py",
        "        while self.taken < self.slots",
        "        while self.taken <= self.slots",
        "slots",
    ),
    "what may have run is tried again": Defect(
        "balancer/atomesh/balancer/retry.py",
        "if not (history.idempotent and may_go_well(error))",
        "if not may_go_well(error)",
        "is not idempotent and runs for the 2. time",
    ),
    "an attempt that failed counts for ever": Defect(
        "balancer/atomesh/balancer/balancer.py",
        "        candidate.in_flight -= 1\n",
        "        candidate.in_flight -= error is None\n",
        "counts 1 at",
    ),
    "an ejection never ends": Defect(
        "balancer/atomesh/balancer/ejection.py",
        "if self.until is None or now < self.until:",
        "if True:",
        "not all slots are of use",
        "10:20",
    ),
    "an endpoint leaves before what runs has ended": Defect(
        "agents/atomesh/agents/drain.py",
        "        await self._finish([self._agents[name] for name in names], grace)\n",
        "",
        "nothing but restarts, and",
    ),
    "a reject is no demand": Defect(
        "rpc/atomesh/rpc/mux/server_end.py", "            self._rejects += 1", "            pass", "calls wait at"
    ),
    "grants received are forgotten in the demand": Defect(
        "rpc/atomesh/rpc/mux/client_end.py",
        "return self._parked + self._grants - self._rejects",
        "return self._parked - self._rejects",
        "calls wait",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_some_world_finds(name: str, tmp_path: Path) -> None:
    defect = DEFECTS[name]
    portion = defect.file.split("/", maxsplit=1)[0]
    shutil.copytree(ROOT / portion, tmp_path / portion, ignore=shutil.ignore_patterns("__pycache__"))
    planted = tmp_path / defect.file
    source = planted.read_text()
    assert defect.line in source, f"the line is not in {defect.file} any more"
    planted.write_text(source.replace(defect.line, defect.becomes, 1))

    found = subprocess.run(
        [sys.executable, "-m", "atomesh.testing.world", "--seeds", defect.seeds, "--first", "--processes", "1"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / portion)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1, f"some world must find that {name}"
    assert defect.told in found.stdout
    assert "replay: python -m atomesh.testing.world --seed" in found.stdout
