"""Real processes: a registry and agents as `python -m atomesh` runs them, to be killed and stopped, and load on them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from atomesh.balancer import CallOptions, Client
from atomesh.core import AtomeshError, Contract
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

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
        self.verb = verb
        """What it does from its next start on."""
        self._environment = {**os.environ, "LEDGER": str(state / "ledger"), "XDG_STATE_HOME": str(state)}
        self._process: asyncio.subprocess.Process | None = None
        self.said: dict[str, Any] = {}
        """What it told of itself when it was ready."""
        self._log = state / f"{verb[0]}-{self.port}.log"

    @property
    def log(self) -> str:
        """All that it has logged, of earlier starts too."""
        return self._log.read_text()

    async def start(self) -> Self:
        """Returns once it says that it is ready, which it does in one line."""
        command = [sys.executable, "-m", "atomesh", *self.verb, "--bind", self.address, "--json"]
        with self._log.open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, cwd=HERE, env=self._environment, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(READY_SECONDS):
            line = await self._process.stdout.readline()
        assert line, f"a server must say when it is ready; it said: {self.log[-2000:]}"
        self.said = json.loads(line)
        return self

    async def metrics(self) -> dict[str, float]:
        """Its samples, summed over their labels."""
        with await asyncio.to_thread(urlopen, f"http://{self.said['http']}/metrics", timeout=READY_SECONDS) as page:
            families = text_string_to_metric_families(page.read().decode())
        sums = defaultdict[str, float](float)
        for family in families:
            for sample in family.samples:
                sums[sample.name] += sample.value
        return sums

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

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

    def __init__(
        self,
        state: Path,
        agent: str,
        endpoints: int = 3,
        flags: Sequence[str] = (),
        behind: Sequence[str] = (),
        registry: Sequence[str] = (),
    ) -> None:
        """`flags` are for all endpoints; `behind` are addresses under which the first of them are to be dialled.

        `registry` are flags of the registry.
        """
        self.state = state
        keeps = ["--http-bind", "127.0.0.1:0", "--data-dir", str(state / "registry")]
        self.registry = Member(["registry", *keeps, *registry], state)
        dialled = [["--advertise", address] for address in behind] + [[]] * (endpoints - len(behind))
        self.endpoints = [Member(self.serving(agent, *flags, *advertise), state) for advertise in dialled]

    def serving(self, agent: str, *flags: str) -> list[str]:
        """The verb of an endpoint."""
        return ["serve", f"mesh_agents:{agent}", "--registry", self.registry.address, "--drain-grace", "10", *flags]

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
    return lambda agent, endpoints=3, **more: Mesh(tmp_path, agent, endpoints, **more)


@dataclass(frozen=True, slots=True)
class Answered:
    """One call that was answered. Times are monotonic seconds."""

    name: str
    begun: float
    ended: float
    where: str
    """The address that its endpoint advertises."""

    @property
    def took(self) -> float:
        return self.ended - self.begun


class Traffic:
    """Callers that call one after the other for as long as `async with` lasts, and what became of each call."""

    def __init__(
        self, client: Client, agent: str, callers: int = 32, content: str = "call-{}", timeout: float = 60.0, **how: Any
    ) -> None:
        """`content` is numbered; `how` are options of each call."""
        self.answered: list[Answered] = []
        self.failed: dict[str, AtomeshError] = {}
        self._client = client
        self._contract = Contract(agent, TextInput, TextOutput)
        self._content = content
        self._options = CallOptions(timeout=timeout, **how)
        self._callers = callers
        self._numbers = iter(range(1_000_000))
        self._over = False
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        for _ in range(self._callers):
            self._group.create_task(self._call())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        await self._group.__aexit__(kind, error, trace)

    async def more(self, calls: int, seconds: float = 20.0) -> None:
        """Returns once so many more calls have been answered."""
        wanted = len(self.answered) + calls
        async with asyncio.timeout(seconds):
            while len(self.answered) < wanted:
                await SYSTEM_CLOCK.sleep(0.005)

    def begun_in(self, since: float, until: float = float("inf")) -> list[Answered]:
        """Calls that began in that time."""
        return [call for call in self.answered if since <= call.begun < until]

    def rate(self, since: float, until: float) -> float:
        """Answers per second in that time."""
        return sum(since <= call.ended < until for call in self.answered) / (until - since)

    async def _call(self) -> None:
        while not self._over:
            name = self._content.format(next(self._numbers))
            begun = SYSTEM_CLOCK.now()
            try:
                reply = await self._client.execute(
                    self._contract, TextInput(content=name, operation="summarize"), self._options
                )
            except AtomeshError as error:
                self.failed[name] = error
                await SYSTEM_CLOCK.sleep(0.01)  # lest a failing mesh make this a busy loop
                continue
            assert name.startswith("long") or reply.output.result == name, "an answer must be that to its own call"
            self.answered.append(Answered(name, begun, SYSTEM_CLOCK.now(), reply.info.endpoint))


@pytest.fixture
def traffic() -> type[Traffic]:
    """`async with traffic(client, "echo") as load: ...`."""
    return Traffic


class Program:
    """A process of a script of this folder, which says in lines of JSON what happens to it."""

    def __init__(self, script: str, *arguments: object) -> None:
        """Started by `async with`, and killed at the end."""
        self._command = [sys.executable, str(HERE / script), *map(str, arguments)]
        self.process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            *self._command, cwd=HERE, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.PIPE
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        await self.process.communicate()

    async def said(self, seconds: float = READY_SECONDS) -> Any:
        """The next line."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            line = await self.process.stdout.readline()
        assert line, f"{self._command[1]} ended without a word"
        return json.loads(line)

    async def ask(self) -> Any:
        """Has it say how it is."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        return await self.said()


@pytest.fixture
def program() -> type[Program]:
    """`async with program("mux_caller.py", ...) as caller: ...`."""
    return Program
