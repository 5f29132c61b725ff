"""Runs in a mesh with TLS: whoever runs them and whoever cancels them meet on this machine's loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.agents.builtin.text.agent import TextProcessor
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.rpc import Credentials
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

INPUT = json.dumps({"content": "It works. I love it.", "operation": "sentiment"})
PATIENCE = 30.0
WAITS = """
name: waits
stages:
  a: {agent: text-processor}
  b: {agent: slow, after: [a], input: $input, attempts: 1}
"""


def read(name: str) -> bytes:
    return Path(name).read_bytes()


class Slow(Agent[TextInput, TextOutput]):
    name = "slow"

    def __init__(self) -> None:
        self.began = asyncio.Event()

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        self.began.set()
        await asyncio.Event().wait()
        raise AssertionError("it is cancelled")


async def begun(slow: Slow, process: asyncio.subprocess.Process) -> None:
    """Returns once the run is in its second stage; says why where it ended before."""
    waits = [asyncio.create_task(slow.began.wait()), asyncio.create_task(process.wait())]
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        assert slow.began.is_set(), (await process.communicate())[1].decode()
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def test_with_tls_whoever_has_no_certificate_runs_and_cancels_too(
    atomesh: Any, verb: Any, certificate: Callable[..., tuple[str, str]], home: Path
) -> None:
    cert, key = certificate(2020, 2100)
    pem, secret = read(cert), read(key)
    (home / "waits.yaml").write_text(WAITS)
    (home / "token").write_text("sesame")
    (home / "wrong").write_text("open")
    known = Credentials(tls_cert=pem, tls_key=secret, tls_ca=pem, token="sesame")
    async with RegistryServer(storage=MemoryStorage(), credentials=known) as registry:
        at = ("--registry", registry.address, "--tls-cert", cert, "--tls-key", key, "--tls-ca", cert)
        own = ("--tls-cert", cert, "--tls-key", key, "--tls-ca", cert, "--token-file")
        slow = Slow()
        async with AgentServer([TextProcessor(), slow], registry=registry.address, credentials=known) as server:
            await asyncio.wait_for(server.registered.wait(), PATIENCE)
            run = ("pipeline", "run", str(home / "waits.yaml"), "--input", INPUT, "--run-id", "t", *at)
            async with verb(*run, "--token-file", str(home / "token")) as process:
                await begun(slow, process)
                shown = await atomesh("runs", "status", "t", "--json", *own, str(home / "token"))
                assert [stage["status"] for stage in json.loads(shown.out)["stages"]] == ["success", "running"]
                stranger = await atomesh("runs", "cancel", "t", *own, str(home / "wrong"))
                assert stranger.code == 2
                assert "token" in stranger.one_line()
                cancelled = await atomesh("runs", "cancel", "t", *own, str(home / "token"))
                assert cancelled.code == 0, cancelled.err
                assert await asyncio.wait_for(process.wait(), PATIENCE) == 1
    server_only = Credentials(tls_cert=pem, tls_key=secret)
    async with RegistryServer(storage=MemoryStorage(), credentials=server_only) as registry:
        only = ("--registry", registry.address, "--tls-ca", cert)
        ended = await atomesh("pipeline", "run", str(home / "waits.yaml"), "--input", INPUT, *only)
        assert ended.code == 3, "a client needs no certificate of its own"
        assert "no agent 'text-processor'" in ended.one_line()
