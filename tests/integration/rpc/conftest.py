"""A server of one small service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from atomesh.rpc.channel import open_channel
from atomesh.rpc.credentials import PLAINTEXT, Credentials
from atomesh.rpc.metrics import GrpcMetrics
from atomesh.rpc.server import Server
from atomesh.v1 import agent_pb2_grpc


class Running:
    """A server, a channel to it, and what it has counted."""

    def __init__(self, server: Server, channel: grpc.aio.Channel, collectors: CollectorRegistry) -> None:
        self.server, self.channel, self.collectors = server, channel, collectors
        # types-grpcio has one stub class for both worlds; the aio one is typed Any here.
        self.stub: Any = agent_pb2_grpc.AgentServiceStub(channel)

    def counted(self, family: str, **labels: str) -> float:
        """The value of a series of the server, 0 where there is none."""
        return self.collectors.get_sample_value(f"grpc_server_{family}", labels) or 0.0

    def codes(self, method: str) -> dict[str, float]:
        """How many calls of a method ended with which code."""
        return {
            sample.labels["grpc_code"]: sample.value
            for family in self.collectors.collect()
            for sample in family.samples
            if sample.name == "grpc_server_handled_total" and sample.labels["grpc_method"] == method
        }


@contextlib.asynccontextmanager
async def running(
    servicer: Any = None,
    *,
    add: Callable[[Any, Server], Any] | None = None,
    credentials: Credentials = PLAINTEXT,
    client: Credentials = PLAINTEXT,
) -> AsyncIterator[Running]:
    collectors = CollectorRegistry()
    server = Server(bind="127.0.0.1:0", credentials=credentials, metrics=GrpcMetrics("server", collectors))
    if servicer is not None:
        server.add(agent_pb2_grpc.add_AgentServiceServicer_to_server, servicer)
    if add is not None:
        add(servicer, server)
    await server.start()
    channel = open_channel(server.address, client)
    try:
        yield Running(server, channel, collectors)
    finally:
        await channel.close()
        await server.stop(0)


@pytest.fixture
def serve() -> Callable[..., Any]:
    """`async with serve(servicer) as running:`, an AgentService on loopback."""
    return running
