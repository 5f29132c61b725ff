"""Load, the same for every world that is measured, and what it cost both sides.

Closed loops for rates: N tasks, each of which calls again when its answer is
there, so that the generator costs a call the same two readings of the clock
whatever carries it. Open loops for waits and goodput: calls go out when a trace
says so, however many are unanswered (closed loops slow down with the server and
hide its queue: "coordinated omission"). Nothing but the standard library, so
that any peer's environment can run it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Call = Callable[[], Awaitable[object]]

clock = time.perf_counter
"""CLOCK_MONOTONIC on Linux: the same in all processes of a machine."""
pause = asyncio.sleep  # noqa: TID251 # a benchmark lives in real time

WARM_UP = 0.5
"""Seconds of load before anything counts. A connection and a first call take a
tenth of it; at a quarter the first figures of a run were the lowest."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


@dataclass(slots=True)
class Loops:
    """So many tasks that call in a closed loop, and how long each call took."""

    call: Call
    tasks: int
    latencies: list[float] = field(default_factory=list)

    def figures(self, seconds: float) -> dict[str, float]:
        """Rate and latencies of what ended within the window."""
        if not self.latencies:
            raise RuntimeError(f"no call ended within {seconds:.1f} s; measure longer")
        ordered = sorted(self.latencies)
        return {
            "calls": len(ordered),
            "rate": len(ordered) / seconds,
            "p50_ms": percentile(ordered, 0.5) * 1e3,
            "p99_ms": percentile(ordered, 0.99) * 1e3,
        }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the sorted values do not exceed (nearest rank)."""
    rank = -(-len(ordered) * share // 1)
    return ordered[max(0, int(rank) - 1)]


async def measure(loops: Sequence[Loops], seconds: float, servers: Iterable[int]) -> dict[str, float]:
    """Runs all loops for so long; the first one's figures, and CPU per call of both sides.

    Figures of further loops carry their number: `rate_2`. CPU is of whole
    processes, `servers` being theirs, over the calls of all loops.
    """
    servers = list(servers)
    state = {"counts": False, "on": True}

    async def loop(of: Loops) -> None:
        while state["on"]:
            begun = clock()
            await of.call()
            if state["counts"]:
                of.latencies.append(clock() - begun)

    tasks = [asyncio.create_task(loop(of)) for of in loops for _ in range(of.tasks)]
    await pause(WARM_UP)
    before = cpu_seconds(os.getpid()), sum(map(cpu_seconds, servers))
    begun = clock()
    state["counts"] = True
    await pause(seconds)
    state["counts"] = False
    spent = clock() - begun
    after = cpu_seconds(os.getpid()), sum(map(cpu_seconds, servers))
    state["on"] = False
    await asyncio.gather(*tasks)
    found = dict(loops[0].figures(spent))
    for number, of in enumerate(loops[1:], start=2):
        found |= {f"{name}_{number}": value for name, value in of.figures(spent).items()}
    calls = sum(len(of.latencies) for of in loops)
    found["client_cpu_us"], found["server_cpu_us"] = ((a - b) / calls * 1e6 for a, b in zip(after, before, strict=True))
    found["cpu_us"] = found["client_cpu_us"] + found["server_cpu_us"]
    return found


async def replay(times: Sequence[float], start: float, call: Callable[[int], Awaitable[None]]) -> None:
    """Calls `call(i)` at `start + times[i]`, sorted, waits for none, and returns when all have ended."""
    tasks: set[asyncio.Task[None]] = set()
    for number, at in enumerate(times):
        if (ahead := start + at - clock()) > 0:
            await pause(ahead)
        task = asyncio.create_task(_ended(call(number)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


async def _ended(call: Awaitable[None]) -> None:
    await call
