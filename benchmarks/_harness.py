"""Measurements in fresh processes, the worlds in turn, repeated.

A machine's speed drifts and its memory fills; so every measurement has
processes of its own, worlds are measured one right after the other, and a ratio
is taken pair by pair before its median is. Every other repetition goes through
the worlds backwards, so that none of them always follows the hottest one.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from atomesh.cli._protoc import compile_tree

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = ROOT / ".cache" / "bench" / "contract"
"""Where the code of benchmarks/protos is made."""

READY_SECONDS = 60.0
"""For a process to say its first line. A loaded machine takes 5 to import what
it needs; Ray takes 20 to start."""

Figures = dict[str, list[float]]
Measure = Callable[[str, Any], Mapping[str, float]]


class PeerDied(Exception):
    """A process of a measurement ended or fell silent before it said what was asked of it."""


class Peer:
    """A child process that talks in lines."""

    def __init__(self, command: Sequence[str]) -> None:
        """Starts it in the repository's root, with the contract's code in reach."""
        self._command = command
        self._errors = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115 # closed in stop()
        # generated/ for environments that have no atomesh: the contract imports its rules' types.
        paths = [str(path) for path in (CONTRACT, ROOT, ROOT / "generated")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                cwd=ROOT,
                env=environment,
            )
        except OSError:
            self._errors.close()
            raise
        self.pid = self._process.pid
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.strip())
        self._lines.put("")  # it has closed its end

    def line(self, within: float = READY_SECONDS) -> str:
        """The next line that it says.

        Raises:
            PeerDied: it said none in time, or has ended; with the last line of its errors.
        """
        try:
            said = self._lines.get(timeout=within)
        except queue.Empty:
            said = ""
        if not said:
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["it gave no reason"])[-1]
            how = f"said nothing within {within:.0f} s" if self._process.poll() is None else "ended"
            raise PeerDied(f"{' '.join(self._command[1:4])} {how}: {last}")
        return said

    def say(self, line: str) -> None:
        """Tells it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Kills it: nothing that counts happens at its end."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what it was told last and never read
                    stream.close()


class Stage(contextlib.ExitStack):
    """The processes of one measurement; none outlives it."""

    def start(self, module: str, *arguments: object, python: str = sys.executable) -> Peer:
        """Starts `python -m benchmarks.<module> arguments`."""
        return self.run(python, "-m", f"benchmarks.{module}", *map(str, arguments))

    def run(self, *command: str) -> Peer:
        """Starts a command."""
        peer = Peer(command)
        self.callback(peer.stop)
        return peer


def prepare() -> None:
    """Makes the code of the benches' contracts, for the children and for this process."""
    compile_tree(ROOT / "benchmarks" / "protos", CONTRACT)
    if str(CONTRACT) not in sys.path:
        sys.path.insert(0, str(CONTRACT))


def interleave(
    cells: Sequence[Any], worlds: Callable[[Any], Sequence[str]], repeats: int, measure: Measure
) -> dict[Any, dict[str, Figures]]:
    """Every figure of every world in every cell, one value per repetition.

    A measurement whose process died is told on stderr and left out, and so are
    the other worlds' of that cell and repetition: pairs stay pairs.
    """
    found: dict[Any, dict[str, Figures]] = {cell: {world: {} for world in worlds(cell)} for cell in cells}
    total = repeats * sum(len(worlds(cell)) for cell in cells)
    done, begun = 0, time.perf_counter()
    for repeat in range(repeats):
        for cell in cells:
            turn = list(worlds(cell))
            taken: dict[str, Mapping[str, float]] = {}
            for world in reversed(turn) if repeat % 2 else turn:
                with _told(f"{cell} {world}"):
                    taken[world] = measure(world, cell)
                done += 1
                _progress(done, total, time.perf_counter() - begun, f"{cell} {world}")
            if len(taken) == len(turn):
                for world, figures in taken.items():
                    for name, value in figures.items():
                        found[cell][world].setdefault(name, []).append(value)
    return found


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except PeerDied as error:
        print(f"\nleft out: {what}: {error}", file=sys.stderr)


def _progress(done: int, total: int, spent: float, what: str) -> None:
    if sys.stderr.isatty():
        left = spent / done * (total - done)
        print(f"\r\033[K{done}/{total}, {left:.0f} s left: {what}", end="", file=sys.stderr, flush=True)
        if done == total:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def ratios(figures: Mapping[str, Figures], over: str, under: str, name: str) -> list[float]:
    """One world's figure over another's, pair by pair; empty where there is no pair."""
    above, below = (figures.get(world, {}).get(name, []) for world in (over, under))
    return [a / b for a, b in zip(above, below, strict=True) if b] if above and below else []


def median(values: Sequence[float]) -> float:
    """The median; not a number where there is none."""
    return statistics.median(values) if values else float("nan")


def parse(line: str) -> dict[str, float]:
    """The figures that a peer said as a line of JSON."""
    found: dict[str, float] = json.loads(line)
    return found
