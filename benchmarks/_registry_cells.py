"""What bench_registry measures in fresh processes, world by world: unary calls, watches, and their memory."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._harness import Figures, Peer, Stage

SHARED = 8
"""Connections of clients that share some: enough that no stream waits for another's bytes."""
APART = 1_000_000
"""From the first endpoint of a slice to that of the next: more than a slice registers."""
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


def turns(cells: Sequence[Calls], chosen: argparse.Namespace) -> dict[Calls, dict[str, Figures]]:
    """Every figure of every world in every cell, one value per slice.

    All worlds' servers run at once and one client goes from one to the next, a
    slice each and back again, so that what is compared is a second apart on a
    machine whose speed drifts. Each repetition has processes of its own.
    """
    found: dict[Calls, dict[str, Figures]] = {cell: {world: {} for world in cell.worlds} for cell in cells}
    for repeat in range(chosen.repeats):
        for cell in cells:
            for world, figures in _slices(cell, chosen, repeat):
                for name, value in figures.items():
                    found[cell][world].setdefault(name, []).append(value)
    return found


def _slices(cell: Calls, chosen: argparse.Namespace, repeat: int) -> Iterator[tuple[str, Mapping[str, float]]]:
    with Stage() as stage, tempfile.TemporaryDirectory(prefix="atomesh-bench-", dir=chosen.data_dir) as directory:
        servers = {world: start(stage, world, Path(directory)) for world in cell.worlds}
        client = stage.start("_registry_load")
        order = list(cell.worlds)
        for number in range(chosen.slices):
            for world in reversed(order) if (repeat + number) % 2 else order:
                where = {"address": servers[world].address, "servers": [servers[world].pid]}
                yield world, ask(client, {**where, **_calls(cell, chosen), "first": number * APART})
        if "sqlite" in servers:
            yield "sqlite", commits(servers["sqlite"].http)


def ask(client: Peer, settings: Mapping[str, Any]) -> dict[str, float]:
    """What a client of unary calls measured."""
    client.say(json.dumps(settings))
    said: dict[str, float] = json.loads(client.line(within=600))
    return said


def start(stage: Stage, world: str, directory: Path) -> Server:
    """The server of a world."""
    return serve_raw(stage) if world == "raw" else serve(stage, directory if world == "sqlite" else None)


def measure(world: str, cell: Watch | Memory, chosen: argparse.Namespace) -> Mapping[str, Any]:
    """One measurement of watches, in processes of its own."""
    with Stage() as stage:
        server = start(stage, world, Path())
        settings = {"address": server.address, "servers": [server.pid], "distinct": world == "distinct"}
        watchers = stage.start("_registry_watchers", json.dumps({**settings, **_watchers(cell, chosen)}))
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
