"""One end of a measurement with a profiler in it: `python -m benchmarks._profiled TOOL OUT <arguments of _ends>`.

SIGUSR1 begins, SIGUSR2 ends and writes OUT. `sample` looks at the main thread's
stack each millisecond of the process's CPU time and weighs what it sees with the
CPU time that this thread has spent since; so gRPC's own threads do not show as
ours, and nothing gets slower for being looked at. A step in C counts for the
Python function that called it. `cprofile` counts calls, at the price of making
small functions look dear.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import CodeType, FrameType

from benchmarks import _ends

INTERVAL = 0.001
"""Seconds of CPU time between two looks, of which each takes some 5 us."""
DEPTH = 40
"""Frames that a look goes up."""


class Sampler:
    """What the main thread does, by CPU time."""

    def __init__(self, out: Path) -> None:
        """Nothing is looked at before SIGUSR1."""
        self._out = out
        self._own: dict[CodeType, float] = defaultdict(float)
        self._under: dict[CodeType, float] = defaultdict(float)
        self._last = 0.0

    def begin(self, number: int, frame: FrameType | None) -> None:
        """From now on."""
        self._last = time.thread_time()
        self._process = time.process_time()
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def _look(self, number: int, frame: FrameType | None) -> None:
        now = time.thread_time()
        weight, self._last = now - self._last, now
        seen: set[CodeType] = set()
        if frame is not None:
            self._own[frame.f_code] += weight
        for _ in range(DEPTH):
            if frame is None:
                break
            if frame.f_code not in seen:
                seen.add(frame.f_code)
                self._under[frame.f_code] += weight
            frame = frame.f_back

    def end(self, number: int, frame: FrameType | None) -> None:
        """Writes what was seen: seconds per function, itself and with all below it."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        rows = [(name(code), self._own.get(code, 0.0), under) for code, under in self._under.items()]
        whole = {"thread": sum(self._own.values()), "process": time.process_time() - self._process}
        _write(self._out, {"rows": rows, **whole})


class Counter:
    """cProfile of the main thread."""

    def __init__(self, out: Path) -> None:
        """Nothing is counted before SIGUSR1."""
        self._out = out
        self._profile = cProfile.Profile(time.thread_time)  # CPU time: waiting for the peer costs nothing

    def begin(self, number: int, frame: FrameType | None) -> None:
        """From now on."""
        self._process = time.process_time()
        self._profile.enable()

    def end(self, number: int, frame: FrameType | None) -> None:
        """Writes what was counted."""
        self._profile.disable()
        stats = pstats.Stats(self._profile).stats  # type: ignore[attr-defined] # typeshed does not know it
        rows = [
            (f"{_short(file)}:{line} {function}", own, under)
            for (file, line, function), (_, _, own, under, _) in stats.items()
        ]
        _write(
            self._out,
            {"rows": rows, "thread": sum(row[1] for row in rows), "process": time.process_time() - self._process},
        )


def name(code: CodeType) -> str:
    """The function, and where it is."""
    return f"{_short(code.co_filename)}:{code.co_firstlineno} {code.co_qualname}"


def _short(file: str) -> str:
    parts = Path(file).parts
    for root in ("site-packages", "atomesh", "lib"):
        if root in parts:
            return "/".join(parts[parts.index(root) + 1 :])
    return "/".join(parts[-2:])


def _write(out: Path, found: dict[str, object]) -> None:
    aside = out.with_suffix(".part")
    aside.write_text(json.dumps(found))
    os.replace(aside, out)  # whoever waits for it never reads half of it


if __name__ == "__main__":
    tool = Sampler(Path(sys.argv[2])) if sys.argv[1] == "sample" else Counter(Path(sys.argv[2]))
    signal.signal(signal.SIGUSR1, tool.begin)
    signal.signal(signal.SIGUSR2, tool.end)
    _ends.start(*sys.argv[3:])
