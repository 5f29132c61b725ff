"""Where each worker listens and what others dial: a port that is said counts up, port 0 is any free one for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from atomesh.cli._errors import UsageMistake
from atomesh.core.names import join_address, split_address

if TYPE_CHECKING:
    from atomesh.cli._sections import ServeSection

_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Place:
    """The addresses of one worker."""

    bind: str
    http_bind: str
    advertise: str | None = None

    def flags(self) -> list[str]:
        """As `atomesh serve` takes them."""
        advertise = [] if self.advertise is None else ["--advertise", self.advertise]
        return ["--bind", self.bind, "--http-bind", self.http_bind, *advertise]

    def again_at(self, address: str) -> Place:
        """The same for a successor of the worker that others dialled at `address`.

        Where any free port would do, it takes its predecessor's: the newest
        instance at an address supersedes the one before, so that the registry
        need not wait a ttl for the lease of a process that is no more.
        """
        host, port = split_address(self.bind)
        if port or (self.advertise is not None and split_address(self.advertise)[1]):
            return self
        return replace(self, bind=join_address(host, split_address(address)[1]))


def places(serve: ServeSection, workers: int) -> list[Place]:
    """One for each worker.

    Raises:
        UsageMistake: ports run past the last one there is, or into each other.
        InvalidArgument: an address is none.
    """
    binds = _counted("--bind", serve.bind, workers)
    pages = _counted("--http-bind", serve.http_bind, workers)
    said = serve.advertise
    advertised = [None] * workers if said is None else _counted("--advertise", said, workers)
    if clash := next((address for address in binds if address in pages and split_address(address)[1]), None):
        raise UsageMistake(
            f"--bind {serve.bind} and --http-bind {serve.http_bind} meet at {clash} with {workers} workers, "
            f"whose ports count up; put them {workers} or more apart"
        )
    return [Place(*at) for at in zip(binds, pages, advertised, strict=True)]


def _counted(flag: str, address: str, workers: int) -> list[str]:
    host, port = split_address(address)
    if port == 0:
        return [address] * workers
    if port + workers - 1 > _LAST_PORT:
        raise UsageMistake(
            f"{flag} {address} runs past port {_LAST_PORT} with {workers} workers, whose ports count up; "
            f"begin at {_LAST_PORT + 1 - workers} or below"
        )
    return [join_address(host, port + number) for number in range(workers)]


def spans(addresses: Sequence[str]) -> str:
    """The addresses for a line: ports that follow each other on one host as `host:7500-7503`."""
    runs: list[tuple[str, int, int]] = []
    for host, port in sorted({split_address(address) for address in addresses}):
        if runs and runs[-1][0] == host and runs[-1][2] == port - 1:
            runs[-1] = (host, runs[-1][1], port)
        else:
            runs.append((host, port, port))
    return ", ".join(join_address(host, low) + (f"-{high}" if high > low else "") for host, low, high in runs)
