"""`atomesh serve --workers N` as a process, with a registry in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import pytest

from atomesh.core import Selector
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.rpc import RegistryClient
from atomesh.rpc.channel import open_channel
from atomesh.v1 import agent_pb2, agent_pb2_grpc

HERE = Path(__file__).parent
PATIENCE = 30.0


def free_ports(count: int) -> int:
    """The first of so many in a row that nobody has now; none that an outgoing
    connection may get (Linux: 32768 and up)."""
    for _ in range(1_000):
        first = random.SystemRandom().randrange(20_000, 32_000 - count)
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for port in range(first, first + count):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise RuntimeError(f"no {count} free ports in a row between 20000 and 32000")


class Command:
    """One `atomesh serve --workers N --json`: its events as they come, its log, its end."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    async def event(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self.process.stdout.readline()
        assert line, f"it ended with {await self.process.wait()} instead of saying something: {self.log()}"
        said: dict[str, Any] = json.loads(line)
        return said

    async def ready(self, count: int) -> list[dict[str, Any]]:
        """So many workers, by number."""
        events = [await self.event() for _ in range(count)]
        assert {event["event"] for event in events} == {"ready"}, f"all must be ready: {events}"
        return sorted(events, key=lambda event: str(event["worker"]))

    def log(self) -> str:
        return self._log.read_text()

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    async def one_line(self) -> tuple[int, str]:
        """Its exit code and its error, which must be all that it says."""
        code = await self.ended()
        lines = self.log().splitlines()
        assert len(lines) == 1, f"one line must say why it did not start: {lines}"
        return code, lines[0]


class Mesh:
    """A registry in this process, and commands that serve."""

    def __init__(self, registry: str, state: Path) -> None:
        self.registry = registry
        self.state = state
        self._commands: list[Command] = []

    async def serve(self, agent: str, workers: int, *flags: str, env: dict[str, str] | None = None) -> Command:
        log = self.state / f"command-{len(self._commands)}.log"
        with log.open("w") as file:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "atomesh", "serve", f"worker_agents:{agent}", "--json"),
                *("--workers", str(workers), "--registry", self.registry, *flags),
                cwd=HERE,
                env={**os.environ, "MOOD": str(self.state / "mood"), **(env or {})},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
            )
        self._commands.append(Command(process, log))
        return self._commands[-1]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for command in self._commands:
            if command.process.returncode is None:
                command.process.kill()
                await command.ended()

    async def instances(self) -> dict[str, str]:
        """Instance ids by address, of those that serve."""
        async with RegistryClient(self.registry) as registry:
            found = (await registry.discover(Selector())).endpoints
        return {endpoint.address: endpoint.instance_id for endpoint in found}

    async def drain(self, address: str) -> None:
        async with open_channel(address) as channel:
            stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
            await stub.Drain(agent_pb2.DrainRequest(), timeout=5)

    def alive(self, pids: list[int]) -> list[int]:
        """Those of the processes that live."""
        return [pid for pid in pids if _state(pid) not in "ZX"]

    async def gone(self, pids: list[int]) -> None:
        """Returns once none of them lives."""
        async with asyncio.timeout(PATIENCE):
            while self.alive(pids):
                await SYSTEM_CLOCK.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


@pytest.fixture
def ports() -> Callable[[int], int]:
    """`ports(3)`: the first of so many free ones in a row."""
    return free_ports


@pytest.fixture
def workers(tmp_path: Path) -> Callable[[], Any]:
    """`async with workers() as mesh:`."""

    @contextlib.asynccontextmanager
    async def running() -> AsyncIterator[Mesh]:
        async with RegistryServer(storage=MemoryStorage()) as registry, Mesh(registry.address, tmp_path) as mesh:
            yield mesh

    return running
