"""A unary call through the mesh beside the same call over bare grpc.aio.

    python benchmarks/bench_unary.py [--seconds 2] [--repeats 5] [--concurrency 1 32]

Fresh processes for every measurement, the two worlds in turn, medians with
their range. The ratio is taken pair by pair, so it holds when the machine's
speed drifts. CPU per call is of each side's whole process, read from the
operating system. Writes benchmarks/results/unary.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from atomesh.cli._protoc import compile_tree

HERE = Path(__file__).parent
WORLDS = ("bare", "mesh")
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(world: str, concurrency: int, seconds: float, contract: str) -> dict[str, float]:
    """One measurement in processes of its own."""
    peers = [sys.executable, str(HERE / "unary_peers.py")]
    environment = {**os.environ, "PYTHONPATH": contract}
    server = subprocess.Popen([*peers, "server", world], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        command = [*peers, "client", world, address, str(concurrency), str(seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as client:
            assert client.stdout is not None
            client.stdout.readline()  # "measuring"
            before = cpu_seconds(server.pid)
            result: dict[str, float] = json.loads(client.stdout.readline())
            spent = cpu_seconds(server.pid) - before
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
    result["server_cpu_us"] = spent / result["calls"] * 1e6
    return result


def compare(concurrency: int, seconds: float, repeats: int, contract: str) -> dict[str, dict[str, list[float]]]:
    """Both worlds in turn, `repeats` times: every figure as a list."""
    figures: dict[str, dict[str, list[float]]] = {world: {} for world in WORLDS}
    for _ in range(repeats):
        for world in WORLDS:
            for name, value in measure(world, concurrency, seconds, contract).items():
                figures[world].setdefault(name, []).append(value)
    return figures


def row(values: list[float], digits: int = 0) -> str:
    """Median, and the range."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(description="The mesh's unary call beside bare grpc.aio.")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each world")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 32])
    chosen = parser.parse_args()
    titles = ("at once", "world", "calls/s", "p50 ms", "p99 ms", "client CPU us", "server CPU us", "of bare")
    table = Table(*titles, title="unary Execute, median (range)")
    report: dict[str, object] = {"python": platform.python_version(), "cores": os.cpu_count(), "runs": {}}
    contract = tempfile.TemporaryDirectory(prefix="atomesh-bench-")
    compile_tree(HERE / "protos", Path(contract.name))
    for concurrency in chosen.concurrency:
        figures = compare(concurrency, chosen.seconds, chosen.repeats, contract.name)
        ratios = [m / b for m, b in zip(figures["mesh"]["rate"], figures["bare"]["rate"], strict=True)]
        for world in WORLDS:
            f = figures[world]
            cells = [row(f["rate"]), row(f["p50_ms"], 2), row(f["p99_ms"], 2)]
            cells += [row(f["client_cpu_us"]), row(f["server_cpu_us"])]
            table.add_row(str(concurrency), world, *cells, row(ratios, 2) if world == "mesh" else "")
        report["runs"][str(concurrency)] = {**figures, "ratio": ratios}  # type: ignore[index] # a JSON object
    contract.cleanup()
    Console().print(table)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "unary.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
