"""gRPC without sockets: channels and servers in memory, in virtual time, with faults from a seed.

    async def main() -> None:
        network = MemoryNetwork(random.Random(7))
        here, there = network.host("client"), network.host("server")
        server = there.server()                       # a grpc.aio.Server
        port = server.add_insecure_port(f"{there.ip}:0")
        channel = here.channel(f"{there.ip}:{port}")  # a grpc.aio.Channel
        network.block("client", "server")             # one way of a partition

    run_hosts(main())

A Host is an `atomesh.rpc.network.Network`, so whatever in the library takes
`network=` runs on it unchanged. It does what grpc.aio does, as far as the
library relies on it: messages pass through the real serializers, deadlines
cancel handlers, a cancelled await cancels its RPC, an error's trailers arrive
and drop what was not read before them, writers wait for readers, channels
have gRPC's states and backoff. Each of these has a test in
`tests/unit/testing`, and what can be compared is compared with grpc.aio itself.

Limits: no TLS, no compression, no message size limit, no headers before the
trailers; a frame arrives whole. HTTP pages and threads are not on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from atomesh.testing.memory.channel import MemoryChannel
from atomesh.testing.memory.hosts import HostLoop
from atomesh.testing.memory.links import LinkProfile
from atomesh.testing.memory.network import Host, MemoryNetwork, Observer
from atomesh.testing.memory.server import MemoryServer

_Result = TypeVar("_Result")

__all__ = ["Host", "HostLoop", "LinkProfile", "MemoryChannel", "MemoryNetwork", "MemoryServer", "Observer", "run_hosts"]


def run_hosts(main: Coroutine[Any, Any, _Result], *, start: float = 0.0) -> _Result:
    """Runs `main` as `run_virtual` does, on a loop that can hold up one host alone.

    Raises:
        DeadlockError: everybody waits and no timer is set.
    """
    with asyncio.Runner(debug=False, loop_factory=lambda: HostLoop(start)) as runner:
        return runner.run(main)
