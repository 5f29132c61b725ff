"""The two ends that bench_unary.py compares, each a process of its own.

    python benchmarks/unary_peers.py server bare|mesh
    python benchmarks/unary_peers.py client bare|mesh ADDRESS CONCURRENCY SECONDS

Both worlds carry the same message (300 B of text in, the same text out, two
ordinary rules on it) on plain asyncio. The contract is benchmarks/protos,
compiled by bench_unary.py, which also sets the path to it. Bare is generated code and nothing else; mesh has everything on:
registry, watch, picks, slots, validation both ways, deadlines, context,
retries, metrics on both sides.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
from bench.v1 import echo_pb2, echo_pb2_grpc

WARM_UP_SECONDS = 0.5
PAYLOAD = "The mesh carries this sentence there and back again. " * 6


class BareService:
    """Generated code and nothing else."""

    async def Execute(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
        """The text, back."""
        return echo_pb2.EchoOutput(text=request.text)


async def serve_bare() -> None:
    """Serves until killed; the address is its first line."""
    server = grpc.aio.server()
    echo_pb2_grpc.add_EchoServiceServicer_to_server(BareService(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


async def serve_mesh() -> None:
    """A registry and an agent in one process, until killed; the registry's address is its first line."""
    from atomesh.agents import Agent, AgentServer, ExecutionContext
    from atomesh.registry import MemoryStorage, RegistryServer

    class Echo(Agent[echo_pb2.EchoInput, echo_pb2.EchoOutput]):
        name = "echo"
        slots = 1024

        async def execute(self, input: echo_pb2.EchoInput, context: ExecutionContext) -> echo_pb2.EchoOutput:
            return echo_pb2.EchoOutput(text=input.text)

    async with (
        RegistryServer(storage=MemoryStorage()) as registry,
        AgentServer([Echo()], registry=registry.address),
    ):
        print(registry.address, flush=True)
        await asyncio.Event().wait()


async def drive(call: Callable[[], Awaitable[object]], concurrency: int, seconds: float) -> dict[str, float]:
    """Calls as fast as `concurrency` loops can, for so long; what that was."""
    latencies: list[float] = []
    measuring = False
    clock = time.perf_counter

    async def loop() -> None:
        while clock() < end:
            begun = clock()
            await call()
            if measuring:
                latencies.append(clock() - begun)

    end = clock() + WARM_UP_SECONDS + seconds
    tasks = [asyncio.create_task(loop()) for _ in range(concurrency)]
    await asyncio.sleep(WARM_UP_SECONDS)  # noqa: TID251 # a benchmark lives in real time
    print("measuring", flush=True)
    measuring, begun, cpu = True, clock(), os.times()
    await asyncio.gather(*tasks)
    spent, after = clock() - begun, os.times()
    latencies.sort()
    return {
        "calls": len(latencies),
        "rate": len(latencies) / spent,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
        "client_cpu_us": (after.user + after.system - cpu.user - cpu.system) / len(latencies) * 1e6,
    }


async def call_bare(address: str, concurrency: int, seconds: float) -> dict[str, float]:
    """Measures a bare client."""
    message = echo_pb2.EchoInput(text=PAYLOAD, number=7)
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = echo_pb2_grpc.EchoServiceStub(channel)
        return await drive(lambda: stub.Execute(message, timeout=30), concurrency, seconds)


async def call_mesh(address: str, concurrency: int, seconds: float) -> dict[str, float]:
    """Measures a mesh client."""
    from atomesh.balancer import Client
    from atomesh.core import Contract

    echo = Contract("echo", echo_pb2.EchoInput, echo_pb2.EchoOutput)
    message = echo_pb2.EchoInput(text=PAYLOAD, number=7)
    async with Client(address) as mesh:
        await mesh.call(echo, message)
        return await drive(lambda: mesh.call(echo, message), concurrency, seconds)


def main(role: str, world: str, *rest: str) -> None:
    """Runs one end."""
    if role == "server":
        asyncio.run(serve_mesh() if world == "mesh" else serve_bare())
        return
    address, concurrency, seconds = rest
    run = call_mesh if world == "mesh" else call_bare
    print(json.dumps(asyncio.run(run(address, int(concurrency), float(seconds)))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
