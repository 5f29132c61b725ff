"""A client shows what it counts on an HTTP port of its own."""

from __future__ import annotations

import asyncio
import urllib.request

import pytest

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.core.errors import Conflict, InvalidArgument
from atomesh.text.v1.text_pb2 import TextInput, TextOutput


class Echo(Agent[TextInput, TextOutput]):
    name = "echo"

    async def execute(self, input: TextInput, context: ExecutionContext) -> TextOutput:
        return TextOutput(result=input.content)


def scrape(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


async def test_a_scrape_of_the_client_shows_its_calls() -> None:
    async with AgentServer([Echo()]) as server, Client(endpoints=[server.address]) as client:
        address = await client.serve_metrics()
        for _ in range(3):
            await client.call("echo", TextInput(content="hello", operation="summarize"))
        page = await asyncio.to_thread(scrape, address)
        assert 'atomesh_client_calls_total{agent="echo",reason="OK"} 3.0' in page
        assert 'grpc_client_handled_total{grpc_code="OK"' in page
        with pytest.raises(Conflict, match=f"served at {address} already"):
            await client.serve_metrics()


async def test_metrics_off_loopback_are_refused_unless_insecure_is_said() -> None:
    async with Client(endpoints=["127.0.0.1:1"]) as client:
        with pytest.raises(InvalidArgument, match="not loopback"):
            await client.serve_metrics("0.0.0.0:0")
