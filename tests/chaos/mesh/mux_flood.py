"""A client written by hand that wants more than its share: `python mux_flood.py ADDRESS AGENT greedy|idle|deaf STREAMS`.

`greedy` demands a million slots and uses each that it is granted. `idle` demands them in a hundred frames a second and
uses none. `deaf` sends a thousand calls for 100 kB each and reads nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from typing import Any

import grpc.aio

from atomesh.text.v1.text_pb2 import TextInput
from atomesh.v1 import agent_pb2_grpc, mux_pb2

FLOOD = 1_000_000
CALLS = 1_000


def frame(content: str, ids: itertools.count[int], count: int, granted: bool) -> mux_pb2.MuxRequest:
    payload = TextInput(content=content, operation="summarize").SerializeToString()
    calls = (mux_pb2.MuxCall(id=next(ids), input=payload, granted=granted) for _ in range(count))
    return mux_pb2.MuxRequest(calls=calls, demand=FLOOD)


async def opened(address: str, agent: str) -> Any:
    """A stream on a connection of its own, after its hello."""
    channel = grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    rpc: Any = agent_pb2_grpc.AgentServiceStub(channel).Mux()
    features = [mux_pb2.MUX_FEATURE_PARTS, mux_pb2.MUX_FEATURE_GRANTS]
    await rpc.write(mux_pb2.MuxRequest(open=mux_pb2.MuxOpen(version=1, agent=agent, features=features)))
    assert (await rpc.read()).HasField("hello")
    rpc.kept = channel
    return rpc


async def greedy(rpc: Any) -> None:
    ids, granted = itertools.count(1), 0
    await rpc.write(mux_pb2.MuxRequest(demand=FLOOD))
    while (answer := await rpc.read()) is not grpc.aio.EOF:
        if answer.grants:
            granted += answer.grants
            await rpc.write(frame("sleep 0.02", ids, answer.grants, granted=True))


async def idle(rpc: Any) -> None:
    async def read() -> None:
        while await rpc.read() is not grpc.aio.EOF:
            pass

    reading = asyncio.create_task(read())
    while not reading.done():
        await rpc.write(mux_pb2.MuxRequest(demand=FLOOD, ping=1))
        await asyncio.sleep(0.01)  # noqa: TID251 # real processes live in real time


async def deaf(rpc: Any) -> None:
    ids = itertools.count(1)
    for _ in range(CALLS):
        await rpc.write(frame("long 100000", ids, 1, granted=False))
    await asyncio.Event().wait()


async def main() -> None:
    address, agent, kind, streams = sys.argv[1:]
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    rpcs = [await opened(address, agent) for _ in range(int(streams))]
    tasks = [asyncio.create_task({"greedy": greedy, "idle": idle, "deaf": deaf}[kind](rpc)) for rpc in rpcs]
    print(json.dumps({"streams": len(tasks)}), flush=True)
    await lines.read()


if __name__ == "__main__":
    asyncio.run(main())
