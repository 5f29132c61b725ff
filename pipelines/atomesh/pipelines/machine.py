"""What this process sees of its machine, and itself as an owner of runs."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from atomesh.pipelines.owner import Host, Owner


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
