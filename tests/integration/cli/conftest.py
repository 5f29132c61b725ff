"""The command as a process of its own, against servers in the test's loop or against its own children."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from atomesh.agents import Agent, AgentFailed, AgentServer, ExecutionContext
from atomesh.agents.builtin.text.agent import TextProcessor
from atomesh.cli import main
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

PATIENCE = 30.0


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    def one_line(self) -> str:
        """The error; it must be all that is said."""
        lines = self.err.splitlines()
        assert len(lines) == 1, f"a user's mistake is told in one line, not {self.err!r}"
        assert lines[0].startswith("error: "), "the line says that it is an error"
        assert "Traceback" not in self.err, "a user's mistake has no traceback"
        return lines[0]


class Slow(Agent[TextInput, TextOutput]):
    name = "slow"

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        await asyncio.Event().wait()
        raise AssertionError("cancelled at the deadline")


class Failing(Agent[TextInput, TextOutput]):
    name = "failing"

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        raise AgentFailed("no such ticket\x1b[2J", reason="NO_TICKET", details={"ticket": "x\x07"})


class Hostile(Agent[TextInput, TextOutput]):
    name = "hostile"

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        return TextOutput(result="\x1b]0;owned\x07\x9b", metadata=dict(context.metadata))


@dataclass
class Mesh:
    registry: str
    server: AgentServer


def environment(home: Path) -> dict[str, str]:
    """Nobody's configuration but the test's own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ATOMESH_", "XDG_"))}
    return {**kept, "HOME": str(home)}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def atomesh(home: Path) -> Callable[..., Any]:
    """`await atomesh("call", ...)`: the process's exit code, stdout and stderr."""

    async def run(*arguments: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ended:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "atomesh",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(home) | (env or {}),
        )
        try:
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate(stdin)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    return run


@pytest.fixture
def here(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Ended]]:
    """`here("pipeline", "ls")`: the command in this process, in a folder of its own, with nobody's configuration."""
    for name in [name for name in os.environ if name.startswith(("ATOMESH_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    monkeypatch.setattr(asyncio, "run", _run_and_settle)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def _run_and_settle(work: Coroutine[Any, Any, Any]) -> Any:
    """asyncio.run, and time for gRPC to tell this loop, not the next one, of what it closed (see tests/conftest.py)."""

    async def settled() -> Any:
        try:
            return await work
        finally:
            await SYSTEM_CLOCK.sleep(0.005)

    with asyncio.Runner() as runner:
        return runner.run(settled())


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry that knows the agents of `mesh`, in processes of their own: for verbs that run in this one."""
    env, nowhere = environment(tmp_path_factory.mktemp("town")), "127.0.0.1:0"
    own = ("conftest:Slow", "conftest:Failing", "conftest:Hostile")
    with contextlib.ExitStack() as stack:
        said: dict[str, Any] = {}
        for words in (("registry", "--memory", "--bind", nowhere), ("serve", "text-processor", *own)):
            at = ("--registry", said["address"]) if said else ()
            process = subprocess.Popen(
                [sys.executable, "-m", "atomesh", *words, "--http-bind", nowhere, "--json", *at],
                cwd=Path(__file__).parent,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(_killed, process)
            assert process.stdout is not None
            line = process.stdout.readline()
            said = {**json.loads(line), **({"address": said["address"]} if said else {})}
        assert said["registered"] is True
        yield said["address"]


def _killed(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture
def mesh() -> Callable[..., Any]:
    """`async with mesh(token=...) as running:`: a registry and agents in the test's own loop."""

    @contextlib.asynccontextmanager
    async def running(**options: Any) -> AsyncIterator[Mesh]:
        credentials = {"credentials": options["credentials"]} if "credentials" in options else {}
        async with RegistryServer(storage=MemoryStorage(), **credentials) as registry:
            agents = [TextProcessor(), Slow(), Failing(), Hostile()]
            async with AgentServer(agents, registry=registry.address, **options) as server:
                async with asyncio.timeout(PATIENCE):
                    await server.registered.wait()
                yield Mesh(registry.address, server)

    return running


@pytest.fixture
def verb(home: Path) -> Callable[..., Any]:
    """`async with verb("up", ...) as process:`: a verb that runs until it is told to stop."""

    @contextlib.asynccontextmanager
    async def running(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "atomesh",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(home),
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.communicate()

    return running


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """`cert, key = certificate(first_year, end_year)`: files, self-signed for 127.0.0.1, a CA of its own."""

    def make(begins: int, ends: int) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        signed = (
            x509.CertificateBuilder(name, name, key.public_key(), 1)
            .not_valid_before(datetime.datetime(begins, 1, 1, tzinfo=datetime.UTC))
            .not_valid_after(datetime.datetime(ends, 1, 1, tzinfo=datetime.UTC))
            .add_extension(here, critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        (tmp_path / "cert.pem").write_bytes(signed.public_bytes(pem))
        (tmp_path / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
        return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")

    return make
