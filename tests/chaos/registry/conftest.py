"""A registry in a process of its own, that can be killed, stopped and started again on its file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("serve_registry.py")


class Process:
    """A registry that can be killed and started again on its file."""

    def __init__(self, database: Path, settings: dict[str, Any]) -> None:
        self.database = database
        self.settings = settings
        self.address = "127.0.0.1:0"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        arguments = [str(self.database), self.address, json.dumps(self.settings)]
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", str(SCRIPT), *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            self.address = (await self.process.stdout.readline()).decode().strip()
        assert self.address, "the registry must start on what the last one left"

    def send(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    async def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        code = await self.process.wait()
        # The transport of a pipe is closed by the loop's next turn, not by the wait.
        self.process._transport.close()  # type: ignore[attr-defined] # no public way to do it
        return code


@contextlib.asynccontextmanager
async def registry_process(database: Path, **settings: Any) -> AsyncIterator[Process]:
    registry = Process(database, settings)
    await registry.start()
    try:
        yield registry
    finally:
        await registry.end(signal.SIGKILL)


@pytest.fixture(name="registry_process")
def registry_process_fixture() -> Any:
    """`async with registry_process(database, **settings) as registry:`; it is killed at the end."""
    return registry_process
