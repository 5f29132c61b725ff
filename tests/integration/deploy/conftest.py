"""What processes of a mesh really show, to hold the rules and the dashboard against."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client, ClientMetrics
from atomesh.core import Contract
from atomesh.registry import MemoryStorage, RegistryServer
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
sys.path.append(str(ROOT))  # the Prometheus of the tests is that of `make soak-prometheus`

Exposed = dict[str, list[dict[str, str]]]
"""Labels of each series, by the name of its samples; no series where nothing has happened yet."""

_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


class Echo(Agent[TextInput, TextOutput]):
    name = "echo"

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        return TextOutput(result=input.content)


async def _collectors() -> list[CollectorRegistry]:
    """Those of a registry, of an agent that is called, and of its caller."""
    metrics = ClientMetrics()
    async with (
        RegistryServer(storage=MemoryStorage()) as registry,
        AgentServer(Echo(), registry=registry.address) as agent,
        Client(registry.address, metrics=metrics) as client,
    ):
        async with asyncio.timeout(20):
            await agent.registered.wait()
        await client.call(Contract("echo", TextInput, TextOutput), TextInput(content="x", operation="summarize"))
        return [registry.collectors, agent.metrics, metrics.registry]


@pytest.fixture
def exposed() -> Callable[[], Coroutine[Any, Any, Exposed]]:
    """`await exposed()`: every name that a mesh shows, with the labels that it has."""

    async def collect() -> Exposed:
        found: Exposed = {}
        for collectors in await _collectors():
            for family in text_string_to_metric_families(generate_latest(collectors).decode()):
                for suffix in _SUFFIXES.get(family.type, ("",)):
                    found.setdefault(family.name + suffix, [])
                for sample in family.samples:
                    found.setdefault(sample.name, []).append(sample.labels)
        return found

    return collect
