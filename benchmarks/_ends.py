"""The two ends of a measurement, each a process of its own.

    python -m benchmarks._ends registry
    python -m benchmarks._ends bare LOOP
    python -m benchmarks._ends agent REGISTRY LOOP
    python -m benchmarks._ends client WORLD TARGETS SETTINGS

Servers say their address as first line and serve until killed; the client says
its figures. Worlds: `raw` is generated code over grpc.aio and nothing else;
`unary` and `mux` are the mesh with everything on: registry, watch, picks,
slots, validation both ways, deadlines, context, retries, metrics on both sides.
All worlds carry the same message with the same deadline, on the same loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

from benchmarks._drive import Loops, measure

TIMEOUT = 30.0
"""Seconds that a call may take, in every world."""
SENTENCE = "The mesh carries this sentence there and back again. "

Send = Callable[[Any], Awaitable[object]]


def payload(size: int) -> str:
    """Text of so many bytes."""
    return (SENTENCE * (size // len(SENTENCE) + 1))[:size]


async def forever(line: str) -> None:
    """Says the line, and is there until killed."""
    print(line, flush=True)
    await asyncio.Event().wait()


async def serve_bare() -> None:
    """Generated code and nothing else."""
    import grpc.aio
    from bench.v1 import echo_pb2, echo_pb2_grpc

    class Service:
        async def Execute(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
            return echo_pb2.EchoOutput(text=request.text)

    server = grpc.aio.server()
    echo_pb2_grpc.add_EchoServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await forever(f"127.0.0.1:{port}")


async def serve_registry() -> None:
    """A registry in memory."""
    from atomesh.registry import MemoryStorage, RegistryServer

    async with RegistryServer(storage=MemoryStorage()) as registry:
        await forever(registry.address)


async def serve_agent(registry: str) -> None:
    """One endpoint of the echo agent, registered."""
    from bench.v1 import echo_pb2

    from atomesh.agents import Agent, AgentServer, ExecutionContext

    class Echo(Agent[echo_pb2.EchoInput, echo_pb2.EchoOutput]):
        name = "echo"
        slots = 1024  # more than calls at once: this measures what carries a call, not who waits
        idempotent = True  # so that retries are on

        async def execute(self, input: echo_pb2.EchoInput, context: ExecutionContext) -> echo_pb2.EchoOutput:
            return echo_pb2.EchoOutput(text=input.text)

    async with AgentServer(Echo(), registry=registry) as server:
        await server.registered.wait()
        await forever(server.address)


@contextlib.asynccontextmanager
async def bare_client(addresses: Sequence[str]) -> AsyncIterator[Send]:
    """A stub per address, in turn."""
    import grpc.aio
    from bench.v1 import echo_pb2_grpc

    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(address)) for address in addresses]
        stubs: list[Any] = [echo_pb2_grpc.EchoServiceStub(channel) for channel in channels]
        if len(stubs) == 1:
            execute = stubs[0].Execute
            yield lambda message: execute(message, timeout=TIMEOUT)
        else:
            turn = itertools.cycle([stub.Execute for stub in stubs])
            yield lambda message: next(turn)(message, timeout=TIMEOUT)


@contextlib.asynccontextmanager
async def mesh_client(registry: str, *, mux: bool) -> AsyncIterator[Send]:
    """The mesh's client, over the registry."""
    from bench.v1 import echo_pb2

    from atomesh.core import Contract

    echo = Contract("echo", echo_pb2.EchoInput, echo_pb2.EchoOutput)
    async with mesh(registry, mux=mux, timeout=TIMEOUT) as client:
        yield lambda message: client.call(echo, message)


def mesh(registry: str, *, mux: bool, **settings: Any) -> Any:
    """A client of the mesh over one transport."""
    from atomesh.balancer import Client

    return Client(registry, mux=mux, **settings)


async def run_client(world: str, targets: list[str], settings: dict[str, Any]) -> None:
    """Measures, and says the figures."""
    from bench.v1 import echo_pb2

    client = bare_client(targets) if world == "raw" else mesh_client(targets[0], mux=world == "mux")
    async with client as send:
        loops = []
        for size, tasks in settings["loops"]:
            message = echo_pb2.EchoInput(text=payload(size), number=7)
            await send(message)
            loops.append(Loops(lambda message=message: send(message), tasks))  # type: ignore[misc] # bound, not late
        print(json.dumps(await measure(loops, settings["seconds"], settings["servers"])), flush=True)


def run(main: Coroutine[Any, Any, None], loop: str) -> None:
    """Runs on plain asyncio or on uvloop, and dies with the process that started this one."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if loop == "uvloop":
        import uvloop

        uvloop.run(main)
    else:
        asyncio.run(main)


def start(role: str, *rest: str) -> None:
    """Runs one end."""
    if role == "registry":
        run(serve_registry(), "asyncio")
    elif role == "bare":
        run(serve_bare(), rest[0])
    elif role == "agent":
        run(serve_agent(rest[0]), rest[1])
    else:
        world, targets, settings = rest[0], rest[1].split(","), json.loads(rest[2])
        run(run_client(world, targets, settings), settings["loop"])


if __name__ == "__main__":
    start(*sys.argv[1:])
