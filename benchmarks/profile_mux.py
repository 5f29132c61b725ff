"""Where the time of a call goes, at the client and at the endpoint.

    python -m benchmarks.profile_mux [--world mux] [--concurrency 32] [--tool sample] [--top 30]

Each end is a process of its own with a profiler in it (see _profiled.py). All
figures are microseconds of CPU per call: `own` in the function itself, `under`
with all that it called. What the table's top line calls "other threads" is
gRPC's own.
"""

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
from benchmarks._harness import PeerDied, Stage, parse, prepare
from benchmarks._report import show, table

MARGIN = 0.5
"""Seconds for a client to start and connect, beyond its warm-up."""


def profile(chosen: argparse.Namespace, aside: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """The client's figures, and what each end's profiler wrote."""
    files = {"client": aside / "client.json", "endpoint": aside / "endpoint.json"}
    with Stage() as stage:

        def profiled(end: str, *arguments: object) -> Any:
            return stage.start("_profiled", chosen.tool, files[end], *arguments)

        if chosen.world == "raw":
            server = profiled("endpoint", "bare", chosen.loop)
            target = server.line()
        else:
            target = stage.start("_ends", "registry").line()
            server = profiled("endpoint", "agent", target, chosen.loop)
            server.line()
        settings = {
            "loops": [(chosen.size, chosen.concurrency)],
            "seconds": chosen.seconds + 2 * MARGIN,
            "servers": [server.pid],
            "loop": chosen.loop,
        }
        client = profiled("client", "client", chosen.world, target, json.dumps(settings))
        time.sleep(WARM_UP + 2 * MARGIN)
        for number, wait in ((signal.SIGUSR1, chosen.seconds), (signal.SIGUSR2, 0.0)):
            for peer in (client, server):
                peer.signal(number)
            time.sleep(wait)
        figures = parse(client.line())
        for file in files.values():
            if not file.exists():
                raise PeerDied(f"{file.stem} wrote no profile; measure longer (--seconds)")
        return figures, {end: json.loads(file.read_text()) for end, file in files.items()}


def rows(end: str, found: dict[str, Any], calls: float, chosen: argparse.Namespace) -> Table:
    """The dearest functions of one end."""
    micro = 1e6 / calls
    thread, process = found["thread"] * micro, found["process"] * micro
    title = (
        f"{end}: {process:.1f} us of CPU per call, {thread:.1f} in Python's thread, {process - thread:.1f} in others"
    )
    made = table(title, "own us", "under us", "own %", "what")
    ordered = sorted(found["rows"], key=lambda row: -row[2 if chosen.by == "under" else 1])
    for name, own, under in ordered[: chosen.top]:
        made.add_row(f"{own * micro:.2f}", f"{under * micro:.2f}", f"{own / found['thread']:.1%}", name)
    return made


def main() -> None:
    """Profiles, prints a table per end."""
    parser = argparse.ArgumentParser(description="Where the time of a call goes.")
    parser.add_argument("--world", choices=["raw", "unary", "mux"], default="mux")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--size", type=int, default=300, help="bytes of the payload")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--tool", choices=["sample", "cprofile"], default="sample")
    parser.add_argument("--by", choices=["own", "under"], default="own", help="what the tables are ordered by")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--top", type=int, default=30)
    chosen = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory(prefix="atomesh-profile-") as aside:
        figures, found = profile(chosen, Path(aside))
    calls = figures["rate"] * chosen.seconds
    print(f"{figures['rate']:,.0f} calls/s, {figures['cpu_us']:.1f} us of CPU per call of both ends, profiler included")
    show(*(rows(end, profiled, calls, chosen) for end, profiled in found.items()))


if __name__ == "__main__":
    try:
        main()
    except PeerDied as error:
        raise SystemExit(f"error: {error}") from None
