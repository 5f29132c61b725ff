"""Real processes: a registry and agents as `python -m atomesh` runs them, to be killed and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

HERE = Path(__file__).parent
READY_SECONDS = 30.0


def free_port() -> int:
    """A port that nobody has now; for what must come back at the same address.

    From below the range out of which systems take the near ends of outgoing
    connections (Linux: 32768 and up): while a member is down, one of those
    must not take its port.
    """
    for _ in range(1_000):
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port between 20000 and 32000")


class Member:
    """One process of the mesh at a fixed port: started, killed, stopped, started again."""

    def __init__(self, verb: list[str], state: Path) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "atomesh", *verb, "--bind", self.address, "--json"]
        self._environment = {**os.environ, "LEDGER": str(state / "ledger"), "XDG_STATE_HOME": str(state)}
        self._process: asyncio.subprocess.Process | None = None
        self._log = state / f"{verb[0]}-{self.port}.log"

    async def start(self) -> Self:
        """Returns once it says that it is ready, which it does in one line."""
        with self._log.open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, cwd=HERE, env=self._environment, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(READY_SECONDS):
            line = await self._process.stdout.readline()
        assert line, f"a server must say when it is ready; it said: {self._log.read_text()[-2000:]}"
        assert json.loads(line)
        return self

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        async with asyncio.timeout(READY_SECONDS):
            await self._process.communicate()
        code = self._process.returncode
        self._process = None
        assert code is not None
        return code

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert await self.ended() == -signal.SIGKILL

    async def terminate(self) -> int:
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def end(self) -> None:
        """Ends it whatever state it is in."""
        if self._process is not None:
            if self._process.returncode is None:
                self.signal(signal.SIGCONT)
                self.signal(signal.SIGKILL)
            await self.ended()


class Mesh:
    """A registry and some endpoints of one agent."""

    def __init__(self, state: Path, agent: str, endpoints: int = 3) -> None:
        self.state = state
        self.registry = Member(["registry", "--http-bind", "127.0.0.1:0", "--data-dir", str(state / "registry")], state)
        serve = ["serve", f"mesh_agents:{agent}", "--registry", self.registry.address, "--drain-grace", "10"]
        self.endpoints = [Member(serve, state) for _ in range(endpoints)]

    async def __aenter__(self) -> Self:
        try:
            await self.registry.start()
            await asyncio.gather(*(endpoint.start() for endpoint in self.endpoints))
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in (*self.endpoints, self.registry):
            await member.end()


@pytest.fixture
def mesh(tmp_path: Path) -> Callable[..., Mesh]:
    """Makes a mesh: `async with mesh("Echo") as m`."""
    return lambda agent, endpoints=3: Mesh(tmp_path, agent, endpoints)
