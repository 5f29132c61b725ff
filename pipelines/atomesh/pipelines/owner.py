"""Who runs a run, in words that another process can check.

An owner is one process: its host, its id, and a stamp that no later process of
the same id has (the machine's boot, the pid namespace, the process's start). So
whoever reads it on the same host can tell whether it is gone; from another
host, or from another container on it, nobody can, and the store's own signs of
life decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_GIVEN_UP = "nobody, after "
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


def given_up(owner: str) -> str:
    """What stands for the owner of a run that its owner gave up."""
    return owner if owner.startswith(_GIVEN_UP) else _GIVEN_UP + owner


def gave_up(owner: str) -> str:
    """Who gave the run up, out of what `given_up` made; empty where nobody did."""
    return owner.removeprefix(_GIVEN_UP) if owner.startswith(_GIVEN_UP) else ""


def owner_gone(owner: str, here: Host) -> bool | None:
    """Whether the process in the text is no more, or gave the run up; None where that cannot be told."""
    if owner.startswith(_GIVEN_UP):
        return True
    known = Owner.parse(owner)
    return known.is_gone(here) if known is not None else None
