"""Who runs a run, in words that another process can check.

An owner is one process: its host, its id, and a stamp that no later process of
the same id has (the machine's boot, the pid namespace, the process's start). So
whoever reads it on the same host can tell whether it is gone; from another
host, or from another container on it, nobody can, and the store's own signs of
life decide. `this_process` and `Host` read the machine; all else is pure.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_FORM = re.compile(
    r"(?:(?P<address>\S+) )?\(?pid (?P<pid>\d{1,10}) on (?P<host>\S+?)(?:, since (?P<stamp>[\w.-]+))?\)?"
)


@dataclass(frozen=True, slots=True)
class Owner:
    """One process that runs pipelines."""

    host: str
    pid: int
    stamp: str = ""
    """`boot.namespace.start`; empty where the machine does not tell."""
    address: str = ""
    """Its PipelineService, where it has one."""

    def __str__(self) -> str:
        """`127.0.0.1:7500 (pid 4711 on host, since 3f2a91bc.4026531836.184467)`; what `parse` reads."""
        process = f"pid {self.pid} on {self.host}" + (f", since {self.stamp}" if self.stamp else "")
        return f"{self.address} ({process})" if self.address else process

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The owner of that text; None where it is none."""
        found = _FORM.fullmatch(text)
        if found is None:
            return None
        return cls(found["host"], int(found["pid"]), found["stamp"] or "", found["address"] or "")

    def is_gone(self, here: Host) -> bool | None:
        """Whether its process is no more, as seen from `here`; None where that cannot be seen."""
        if self.host != here.name or not self.stamp or not here.boot:
            return None
        boot, _, rest = self.stamp.partition(".")
        namespace, _, start = rest.partition(".")
        if boot != here.boot:
            return True  # the machine was started anew since
        if namespace != here.namespace:
            return None  # another container's ids mean nothing here
        return here.start_of(self.pid) != start


@dataclass(frozen=True, slots=True)
class Host:
    """What this process sees of its machine."""

    name: str
    boot: str
    """Changes with each start of the machine; empty where it does not tell."""
    namespace: str
    start_of: Callable[[int], str]
    """When the process with an id began, in the kernel's ticks; empty: there is none."""


def owner_gone(owner: str, here: Host) -> bool | None:
    """Whether the process in the text is no more; None where that cannot be told."""
    known = Owner.parse(owner)
    return known.is_gone(here) if known is not None else None


def this_host() -> Host:
    """This machine; what only Linux tells is left empty elsewhere."""
    return Host(
        name=re.sub(r"\s", "-", socket.gethostname()) or "localhost",
        boot=_read(Path("/proc/sys/kernel/random/boot_id"))[:8],
        namespace=_namespace(),
        start_of=_start_of,
    )


def this_process(address: str = "") -> Owner:
    """This process as an owner; `address` is its PipelineService's, where it has one."""
    here, pid = this_host(), os.getpid()
    start = here.start_of(pid)
    stamp = f"{here.boot}.{here.namespace}.{start}" if here.boot and start else ""
    return Owner(here.name, pid, stamp, address)


def _namespace() -> str:
    try:
        return "".join(filter(str.isdigit, os.readlink("/proc/self/ns/pid")))
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    # proc(5): field 22. The name in field 2 may hold blanks and brackets.
    _, bracket, after = _read(Path(f"/proc/{pid}/stat")).rpartition(")")
    fields = after.split()
    if not bracket or len(fields) < 20 or fields[0] in ("Z", "X"):
        return ""  # a zombie runs nothing any more
    return fields[19]


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
