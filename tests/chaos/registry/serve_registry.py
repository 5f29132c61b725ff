"""A registry in a process of its own, to be killed: `python serve_registry.py DATABASE [BIND [SETTINGS]]`.

It prints its address. SETTINGS are RegistrySettings in JSON, beside short leases and ticks.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from atomesh.registry import RegistryServer, RegistrySettings, SQLiteStorage


async def main(database: Path, bind: str = "127.0.0.1:0", said: str = "{}") -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    settings = RegistrySettings(**{"min_ttl": 1.0, "tick": 0.2, **json.loads(said)})
    async with RegistryServer(storage=SQLiteStorage(database), bind=bind, settings=settings) as registry:
        print(registry.address, flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
