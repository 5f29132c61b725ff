"""A process with a mux: it says when it is there, and waits to be killed.

Arguments: the address, and what it sends as content; with a third one it reads nothing after its hello.
"""

import asyncio
import sys
from typing import Any

import grpc.aio

from atomesh.text.v1.text_pb2 import TextInput
from atomesh.v1 import agent_pb2_grpc, mux_pb2

FEATURES = (mux_pb2.MUX_FEATURE_PARTS, mux_pb2.MUX_FEATURE_GRANTS, mux_pb2.MUX_FEATURE_RETIRE)


async def main() -> None:
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        stub: Any = agent_pb2_grpc.AgentServiceStub(channel)
        rpc = stub.Mux()
        opening = mux_pb2.MuxOpen(version=1, features=FEATURES)
        input = TextInput(content=sys.argv[2], operation="sentiment").SerializeToString()
        calls = [mux_pb2.MuxCall(id=n + 1, input=input, timeout_us=60_000_000) for n in range(2)]
        await rpc.write(mux_pb2.MuxRequest(open=opening, calls=calls))
        await rpc.read()
        print("there", flush=True)
        while len(sys.argv) < 4:
            await rpc.read()
        await asyncio.Event().wait()


asyncio.run(main())
