"""How a registry grows, for bench_registry: the same questions and changes among 1,000 and among 100,000 endpoints.

Stores are written beforehand and registries started on them, all sizes at once;
then one client goes through them in turn, so that each kind is measured at every
size right after the other. `many` are agents of ten endpoints each, `one` is all
endpoints under one agent's name.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._drive import clock, resident_bytes
from benchmarks._harness import Stage
from benchmarks._registry_cells import SHARED, ask, serve
from benchmarks._registry_messages import SIBLINGS

KINDS: dict[str, dict[str, Any]] = {
    "update": {"kind": "update", "tasks": 32},
    "register and deregister": {"kind": "churn", "tasks": 32},
    "by name": {"kind": "discover", "asked": "name", "tasks": 1},
    "by capability, 10 match": {"kind": "discover", "asked": "capability_10", "tasks": 1},
    "by capability, 1,000 match": {"kind": "discover", "asked": "capability_1000", "tasks": 1},
}
FIRST = {"kind": "first", "connections": 1}
CHANGES = ("update", "register and deregister")
SHAPES = {"many": SIBLINGS, "one": 0}
"""Endpoints per agent; 0: all."""


def growth(chosen: argparse.Namespace) -> dict[str, Any]:
    """Figures of every kind, by shape and number of endpoints; one value per repetition."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="atomesh-bench-", dir=chosen.data_dir) as directory:
        for shape, siblings in SHAPES.items():
            stores = {size: Path(directory, f"{shape}-{size}") for size in chosen.endpoints}
            for size, store in stores.items():
                _fill(store, size, siblings)
            if shape == "many":
                largest = max(stores)
                found["start"] = [
                    _starts(Path(directory, f"empty-{number}"), stores[largest], largest)
                    for number in range(chosen.repeats)
                ]
            found[shape] = _turns(shape, stores, chosen)
        found["filled"] = _filling(chosen)
    return found


def _fill(store: Path, size: int, siblings: int) -> None:
    """A store of so many endpoints."""
    with Stage() as stage:
        written = stage.start("_registry_ends", "fill", store, size, siblings).line(within=300)
    if int(written) != size:
        raise RuntimeError(f"a store has {written} endpoints instead of {size}")


def _turns(shape: str, stores: dict[int, Path], chosen: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with Stage() as stage:
        client = stage.start("_registry_load")
        running = {size: serve(stage, store) for size, store in stores.items()}
        for size, server in running.items():
            ask(client, {**FIRST, "address": server.address, "siblings": SHAPES[shape]})  # warm from here on
            found[str(size)] = {name: [] for name in KINDS if shape == "many" or name in CHANGES}
        for repeat in range(chosen.repeats):
            for name in found[str(chosen.endpoints[0])]:
                for size in reversed(chosen.endpoints) if repeat % 2 else chosen.endpoints:
                    where = {"address": running[size].address, "servers": [running[size].pid], "connections": SHARED}
                    settings = {**KINDS[name], **where, "endpoints": size, "siblings": SHAPES[shape]}
                    settings["seconds"] = chosen.seconds
                    found[str(size)][name].append(ask(client, settings))
    return found


def _starts(empty: Path, full: Path, endpoints: int) -> dict[str, Any]:
    """Seconds from the start of a process to its first words and answers, and its memory; with no endpoints (0) too."""
    found: dict[str, Any] = {}
    for size, store in {0: empty, endpoints: full}.items():
        with Stage() as stage:
            client = stage.start("_registry_load")
            begun = clock()
            server = serve(stage, store)
            one = {"serves": clock() - begun}
            if size:
                said = ask(client, {**FIRST, "address": server.address, "siblings": SIBLINGS})
                one |= {name: at - begun for name, at in said.items()}
            time.sleep(0.5)
            one["bytes"] = resident_bytes(server.pid)
            found[str(size)] = one
    return found


def _filling(chosen: argparse.Namespace) -> dict[str, float]:
    """A registry in memory, filled over gRPC: registrations per second at both ends, and bytes per endpoint."""
    size = max(chosen.endpoints)
    with Stage() as stage:
        client = stage.start("_registry_load")
        server = serve(stage, None)
        common = {"address": server.address, "connections": SHARED, "tasks": 32, "kind": "fill"}
        ask(client, {**common, "endpoints": 100})
        before = resident_bytes(server.pid)
        found = ask(client, {**common, "endpoints": size})
        time.sleep(0.5)
        found["bytes_per_endpoint"] = (resident_bytes(server.pid) - before) / size
    return found


def sync_ms(directory: str, times: int = 200) -> float:
    """Milliseconds that 4 KiB take to that disk, as the median of many: what a commit cannot do without."""
    took = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(times):
            begun = clock()
            os.write(file.fileno(), b"\0" * 4096)
            os.fdatasync(file.fileno())
            took.append(clock() - begun)
    return sorted(took)[times // 2] * 1e3
