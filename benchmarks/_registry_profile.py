"""Where a registry's time goes, function by function, under one kind of load."""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks._drive import WARM_UP
from benchmarks._harness import PeerDied, Stage, parse
from benchmarks._registry_cells import SHARED, arguments, ready
from benchmarks._report import show, table

LOADS: dict[str, dict[str, Any]] = {
    "register": {"kind": "register", "tasks": 32, "contract": "lean", "seconds": 8.0},
    "renew": {"kind": "renew", "tasks": 32, "processes": 1000, "seconds": 8.0},
    "watch": {"measured": "changes", "streams": 1000, "changes": 60, "gap": 0.05, "distinct": False},
}
PROFILES = tuple(LOADS)
BEGIN = {"register": 1.0, "renew": 4.0, "watch": 4.0}
"""Seconds until the load is there and warm; renewals and watches register and open before."""
LOOK = 3.0
TOP = 30


def profile(chosen: argparse.Namespace) -> None:
    """Prints the dearest functions of the registry's loop, on SQLite, by themselves and with all below them."""
    with Stage() as stage, tempfile.TemporaryDirectory(prefix="atomesh-profile-", dir=chosen.data_dir) as aside:
        out = Path(aside, "profile.json")
        server = stage.start("_registry_ends", "profiled", out, *arguments(Path(aside)))
        settings = {
            "address": ready(server).address,
            "servers": [server.pid],
            "connections": SHARED,
            **LOADS[chosen.profile],
        }
        if chosen.profile == "watch":
            client = stage.start("_registry_watchers", json.dumps(settings))
        else:
            client = stage.start("_registry_load")
            client.say(json.dumps(settings))
        time.sleep(WARM_UP + BEGIN[chosen.profile])
        server.signal(signal.SIGUSR1)
        time.sleep(LOOK)
        server.signal(signal.SIGUSR2)
        figures = parse(client.line())
        if not out.exists():
            raise PeerDied("the registry wrote no profile: it was not there yet, or had ended")
        found = json.loads(out.read_text())
    show(*(_table(found, figures, by) for by in ("own", "under")))


def _table(found: dict[str, Any], figures: dict[str, float], by: str) -> Table:
    """Microseconds per call, and where changes go to watchers per message."""
    what = "call" if "rate" in figures else "message"
    micro = 1e6 / LOOK / figures.get("rate", figures.get("messages_per_s", 1.0))
    thread, process = found["thread"] * micro, found["process"] * micro
    made = table(f"CPU us per {what}: {process:.0f}, in the loop's thread {thread:.0f}", "own us", "under us", "what")
    for name, own, under in sorted(found["rows"], key=lambda row: -row[2 if by == "under" else 1])[:TOP]:
        made.add_row(f"{own * micro:.1f}", f"{under * micro:.1f}", name)
    return made
