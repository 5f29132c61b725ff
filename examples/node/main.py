"""Serves the text agent, installs the Node client's packages, and has it call: once right, once wrong."""

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from descriptors import write

from atomesh.agents import AgentServer
from atomesh.agents.builtin.text.agent import TextProcessor


async def main() -> int:
    if shutil.which("node") is None or shutil.which("npm") is None:
        print("examples/node needs Node.js 20 or newer with npm, which is not installed: https://nodejs.org")
        required = os.environ.get("CI") == "true" and "node" not in os.environ.get("CI_WITHOUT", "").split()
        return int(required)
    if code := await run("npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"):
        return code
    with tempfile.TemporaryDirectory() as aside:
        descriptors = write(Path(aside, "descriptors.binpb"))
        async with AgentServer(TextProcessor(), bind="127.0.0.1:0") as server:
            return await run("node", "client.js", server.address, descriptors)


async def run(*command: str | Path) -> int:
    process = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parent)
    return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
