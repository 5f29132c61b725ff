"""A caller to be killed: `python read_stream.py ADDRESS CHUNKS` reads so many chunks of a stream, says so, and reads no more."""

from __future__ import annotations

import asyncio
import sys

from atomesh.balancer import Client
from atomesh.text.v1.text_pb2 import TextInput


async def main(address: str, chunks: int) -> None:
    async with Client(endpoints=[address]) as mesh:
        text = TextInput(content="hello", operation="sentiment")
        async with mesh.stream("counter", text, timeout=60) as stream:
            async for _ in stream:
                if stream.chunks == chunks:
                    print(chunks, flush=True)
                    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
