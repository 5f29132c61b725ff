"""Builds benchmarks/go, the bare grpc-go peers, where there is a Go."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks._harness import ROOT

PROGRAM = ROOT / ".cache" / "bench" / "go-echo"
_INSTALLER = "/usr/local/go/bin"
"""Where Go's own installer puts it, often outside PATH."""


def go_program() -> tuple[Path | None, str]:
    """The program, built; or None and the reason in one line."""
    go = shutil.which("go") or shutil.which("go", path=_INSTALLER)
    if go is None:
        return None, "there is no Go here (https://go.dev/dl)"
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    environment = {"HOME": str(ROOT / ".cache"), **os.environ, "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local"}
    command = [go, "build", "-o", str(PROGRAM), "."]
    done = subprocess.run(
        command, cwd=ROOT / "benchmarks" / "go", env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return None, f"go build failed: {last}"
    return PROGRAM, ""
