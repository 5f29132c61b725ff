"""A client process under load: `python mux_caller.py REGISTRY AGENT CALLERS CONTENT`.

Says once that it is there, and for every line that it reads how it fares; ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

from atomesh.balancer import Client
from atomesh.core import AtomeshError
from atomesh.core.contract import Contract
from atomesh.text.v1.text_pb2 import TextInput, TextOutput


async def main() -> None:
    registry, agent, callers, content = sys.argv[1:]
    contract = Contract(agent, TextInput, TextOutput)
    done, failed, first = 0, Counter[str](), asyncio.Event()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)

    async def call(client: Client) -> None:
        nonlocal done
        while True:
            try:
                await client.call(contract, TextInput(content=content, operation="summarize"), timeout=60)
                done += 1
                first.set()
            except AtomeshError as error:
                failed[str(error.reason)] += 1

    def say() -> None:
        print(json.dumps({"done": done, "failed": failed}), flush=True)

    async with Client(registry) as client:
        tasks = [asyncio.create_task(call(client)) for _ in range(int(callers))]
        await first.wait()
        say()
        while await lines.readline():
            say()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
