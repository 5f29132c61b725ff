"""The ends of `bench_tracing`: a collector that counts, an agent and a client that export to it, or do not.

    python -m benchmarks._tracing_ends collector
    python -m benchmarks._tracing_ends agent COLLECTOR RATIO
    python -m benchmarks._tracing_ends client WORLD AGENT COLLECTOR RATIO SETTINGS

RATIO is the share of traces that is sampled, or `off` for no tracing at all.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from benchmarks._drive import Loops, measure
from benchmarks._ends import TIMEOUT, forever, payload, run

OFF = "off"


async def collect() -> None:
    """Takes all spans, and drops them."""
    import grpc.aio
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as wire
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services

    class Dropping(services.TraceServiceServicer):
        async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 # OTLP's name
            return wire.ExportTraceServiceResponse()

    server = grpc.aio.server()
    services.add_TraceServiceServicer_to_server(Dropping(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await forever(f"http://127.0.0.1:{port}")


@contextlib.asynccontextmanager
async def tracer(collector: str, ratio: str) -> AsyncIterator[Any]:
    """What begins spans, or None."""
    if ratio == OFF:
        yield None
        return
    from atomesh.rpc.otlp import open_otlp

    async with open_otlp(collector, service="bench", ratio=float(ratio)) as opened:
        yield opened


async def serve(collector: str, ratio: str) -> None:
    """One endpoint of the echo agent."""
    from bench.v1 import echo_pb2

    from atomesh.agents import Agent, AgentServer, ExecutionContext

    class Echo(Agent[echo_pb2.EchoInput, echo_pb2.EchoOutput]):
        name = "echo"
        slots = 1024  # more than calls at once: this measures what a call costs, not who waits
        idempotent = True

        async def execute(self, input: echo_pb2.EchoInput, context: ExecutionContext) -> echo_pb2.EchoOutput:
            return echo_pb2.EchoOutput(text=input.text)

    async with tracer(collector, ratio) as begins, AgentServer(Echo(), tracer=begins) as server:
        await forever(server.address)


async def drive(world: str, address: str, collector: str, ratio: str, settings: dict[str, Any]) -> None:
    """Measures, and says the figures."""
    from bench.v1 import echo_pb2

    from atomesh.balancer import Client
    from atomesh.core import Contract

    echo = Contract("echo", echo_pb2.EchoInput, echo_pb2.EchoOutput)
    message = echo_pb2.EchoInput(text=payload(settings["size"]), number=7)
    async with (
        tracer(collector, ratio) as begins,
        Client(endpoints=[address], tracer=begins, mux=world == "mux", timeout=TIMEOUT) as mesh,
    ):
        await mesh.call(echo, message)
        loops = Loops(lambda: mesh.call(echo, message), settings["concurrency"])
        print(json.dumps(await measure([loops], settings["seconds"], settings["servers"])), flush=True)


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "collector":
        run(collect(), "asyncio")
    elif role == "agent":
        run(serve(*rest), "asyncio")
    else:
        world, address, collector, ratio, settings = rest
        run(drive(world, address, collector, ratio, json.loads(settings)), "asyncio")
