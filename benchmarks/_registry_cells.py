"""What bench_registry measures in fresh processes, world by world: unary calls, watches, and their memory."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._harness import Peer, Stage

SHARED = 8
"""Connections of clients that share some: enough that no stream waits for another's bytes."""
GAPS = {1: 0.02, 100: 0.05, 1000: 0.15}
"""Seconds from the last watcher's hearing of a change to the next change, so that none waits for the one before."""


@dataclass(frozen=True)
class Calls:
    """So many calls at once."""

    kind: str
    tasks: int
    contract: str = "lean"
    connections: int = SHARED

    def __str__(self) -> str:
        """For the progress line."""
        return f"{self.kind}, {self.tasks} at once, {self.connections} connections, contract {self.contract}"

    @property
    def worlds(self) -> Sequence[str]:
        """Renewals touch no storage, so that one registry stands for both."""
        return ("raw", "memory", "sqlite") if self.kind == "register" else ("raw", "memory")


@dataclass(frozen=True)
class Watch:
    """So many who watch one agent, on shared connections or each on one of its own."""

    streams: int
    own: bool = False

    def __str__(self) -> str:
        """For the progress line and the tables."""
        return f"{self.streams:,}{', own connections' if self.own else ''}"

    @property
    def worlds(self) -> Sequence[str]:
        """`equal`: all by one selector; `distinct`: each by its own, with the same matches."""
        return ("raw", "equal", "distinct") if self.streams > 1 and not self.own else ("raw", "equal")


@dataclass(frozen=True)
class Memory:
    """What a watch takes, on shared connections or with its own."""

    own: bool

    def __str__(self) -> str:
        """For the progress line."""
        return f"memory, {'own' if self.own else 'shared'} connections"

    @property
    def worlds(self) -> Sequence[str]:
        """The raw stream is what gRPC itself takes."""
        return ("raw", "equal")


Cell = Calls | Watch | Memory


REGISTRY = ("registry", "--with-parent", "--json", "--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0")
"""`atomesh registry` as it is, ..."""
NO_PROBES = ("--probe-interval", "0")
"""... but for probes: nobody is behind the addresses of this fleet."""


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    pid: int
    address: str
    http: str
    """host:port of a registry's metrics."""


def arguments(data: Path | None) -> list[str]:
    """Of `atomesh`, for a registry on SQLite in that directory, or in memory."""
    kept = ["--memory"] if data is None else ["--no-memory", "--data-dir", str(data)]
    return [*REGISTRY, *NO_PROBES, *kept]


def serve(stage: Stage, data: Path | None) -> Server:
    """A registry, once it serves."""
    return ready(stage.run(sys.executable, "-m", "atomesh", *arguments(data)))


def ready(registry: Peer) -> Server:
    """What it says when it serves."""
    said = json.loads(registry.line())
    return Server(registry.pid, said["address"], said["http"])


def serve_raw(stage: Stage) -> Server:
    """The ceiling."""
    raw = stage.start("_registry_ends", "raw")
    return Server(raw.pid, raw.line(), "")


def measure(world: str, cell: Cell, chosen: argparse.Namespace) -> Mapping[str, Any]:
    """One measurement in processes of its own."""
    with Stage() as stage, tempfile.TemporaryDirectory(prefix="atomesh-bench-", dir=chosen.data_dir) as directory:
        server = serve_raw(stage) if world == "raw" else serve(stage, Path(directory) if world == "sqlite" else None)
        common = {"address": server.address, "servers": [server.pid]}
        if isinstance(cell, Calls):
            client = stage.start("_registry_load")
            client.say(json.dumps({**common, **_calls(cell, chosen)}))
            found: dict[str, Any] = json.loads(client.line(within=chosen.seconds + 90))
            return {**found, **commits(server.http)} if world == "sqlite" else found
        settings = {**common, **_watchers(cell, chosen), "distinct": world == "distinct"}
        watchers = stage.start("_registry_watchers", json.dumps(settings))
        told: dict[str, Any] = json.loads(watchers.line(within=chosen.changes + 180))
        return told


def _calls(cell: Calls, chosen: argparse.Namespace) -> dict[str, Any]:
    return {
        "kind": cell.kind,
        "tasks": cell.tasks,
        "connections": cell.connections,
        "seconds": chosen.seconds,
        "contract": cell.contract,
        "processes": chosen.processes,
    }


def _watchers(cell: Watch | Memory, chosen: argparse.Namespace) -> dict[str, Any]:
    if isinstance(cell, Memory):
        return {
            "measured": "memory",
            "settle": chosen.settle,
            "streams": chosen.watchers[-1],
            "connections": 0 if cell.own else SHARED,
        }
    return {
        "measured": "changes",
        "streams": cell.streams,
        "connections": 0 if cell.own else min(cell.streams, SHARED),
        "changes": chosen.changes,
        "gap": GAPS.get(cell.streams, GAPS[1000]),
    }


def commits(http: str) -> dict[str, float]:
    """Operations per commit, and milliseconds of one, over the life of a registry; from its own metrics."""
    page = urllib.request.urlopen(f"http://{http}/metrics", timeout=10).read().decode()
    name = "atomesh_registry_commit"
    value = {
        what: float(found[1])
        for what in ("operations_sum", "operations_count", "seconds_sum", "seconds_count")
        if (found := re.search(rf"^{name}_{what} (\S+)$", page, re.MULTILINE))
    }
    return {
        "operations_per_commit": value["operations_sum"] / value["operations_count"],
        "commit_ms": value["seconds_sum"] / value["seconds_count"] * 1e3,
    }
