"""Serves the text agent, builds the Go client, and has it call: once right, once wrong."""

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from atomesh.agents import AgentServer
from atomesh.agents.builtin.text.agent import TextProcessor


async def main() -> int:
    if shutil.which("go") is None:
        print("examples/go needs Go 1.24 or newer, which is not installed: https://go.dev/dl")
        required = os.environ.get("CI") == "true" and "go" not in os.environ.get("CI_WITHOUT", "").split()
        return int(required)
    with tempfile.TemporaryDirectory() as aside:
        client = Path(aside, "client")
        print("building the client; the first time compiles gRPC and takes a while", flush=True)
        if code := await run("go", "build", "-o", client, "."):
            return code
        async with AgentServer(TextProcessor(), bind="127.0.0.1:0") as server:
            return await run(client, server.address)


async def run(*command: str | Path) -> int:
    process = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parent)
    return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
