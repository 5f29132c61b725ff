"""`make soak-prometheus`, for a few seconds: that it runs, finds nothing, and says what it saw."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.needs_tool("prometheus")
async def test_a_short_soak_finds_nothing_and_says_what_it_saw() -> None:
    command = [sys.executable, "-m", "benchmarks.soak_prometheus", "--seconds", "5", "--agents", "1"]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("found after being ready", "dropped after a kill", "calls", "0 failed"):
        assert said in done.stdout
    assert "VIOLATION" not in done.stdout
