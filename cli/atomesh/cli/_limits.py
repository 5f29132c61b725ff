"""What a process may use of its machine, as far as a process can say that of itself.

Memory is RLIMIT_DATA: what it writes to, counted by the kernel (Linux, since
4.7). RLIMIT_AS would count what is only mapped too, six times as much here:
gRPC's threads map stacks and heaps that they never touch. Above the limit
Python raises MemoryError, and the call that asked for too much fails.

Processors are cores that it is bound to. A part of one cannot be enforced from
within, that takes cgroups; the process gives way to others instead (nice).
"""

from __future__ import annotations

import math
import os
import resource
import sys

from atomesh.pipelines.definitions import show_bytes

GIVES_WAY = 10
"""Niceness of who may have a part of a core: beside a process of niceness 0 it
gets a tenth of it, alone all of it."""


def limit_memory(size: int) -> str:
    """Limits this process to so many bytes, and tells of it in words."""
    if sys.platform != "linux":
        return f"memory {show_bytes(size)} not enforced (only Linux can)"
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        size = min(size, most)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    return f"memory {show_bytes(size)}"


def limit_cpus(cpus: float) -> str:
    """Binds this process to so many cores, those that its id points at, and tells of it in words."""
    if not hasattr(os, "sched_setaffinity"):
        return f"cpus {cpus:g} not enforced (only Linux can)"
    there = sorted(os.sched_getaffinity(0))
    count = min(math.ceil(cpus), len(there))
    first = os.getpid() % len(there)
    chosen = sorted((there + there)[first : first + count])
    if count < len(there):
        os.sched_setaffinity(0, chosen)
    bound = f"cores {','.join(map(str, chosen))}"
    if cpus >= count:
        return bound
    os.nice(GIVES_WAY)
    return f"{bound}, nice {GIVES_WAY} for {cpus:g} (a part of a core is not enforced)"
