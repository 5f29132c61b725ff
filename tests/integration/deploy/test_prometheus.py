"""A real Prometheus with the example's configuration: it finds agents that come and go, and scrapes them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from atomesh.agents import Agent, AgentServer, ExecutionContext
from atomesh.balancer import Client
from atomesh.core import Contract
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.contract import describe
from atomesh.core.endpoint import Endpoint
from atomesh.registry import MemoryStorage, RegistryServer, RegistrySettings, SQLiteStorage
from atomesh.rpc.http import HttpServer, metrics_page
from atomesh.rpc.registry_client import RegistryClient
from atomesh.text.v1.text_pb2 import TextInput, TextOutput
from benchmarks._prometheus import POLL_SECONDS, Prometheus, example

pytestmark = pytest.mark.needs_tool("prometheus")

ROOT = Path(__file__).resolve().parents[3]
HERE = "127.0.0.1:0"
SOON = 20.0
"""Seconds for a refresh and a scrape, a second each, and the five in which Prometheus
gathers what it discovers: twenty because the machine does other things too."""
FLEETING = RegistrySettings(min_ttl=1.0, tick=0.1)


NOTHING_YET = {
    'sum by (agent, reason) (rate(atomesh_agent_refusals_total{agent=~".*"}[30s])) > 0',
    'sum by (agent, reason) (rate(atomesh_client_retries_total{agent=~".*"}[30s]))',
    'sum by (agent, outcome) (rate(atomesh_client_hedges_total{agent=~".*"}[30s]))',
    'sum by (agent) (increase(atomesh_client_ejections_total{agent=~".*"}[30s]))',
}
"""Queries of the dashboard that a mesh where nothing goes wrong has no answer to."""


def drawn() -> list[str]:
    """Every query of the dashboard, its variables filled in."""
    panels = json.loads((ROOT / "deploy" / "grafana" / "atomesh.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [query.replace("$__rate_interval", "30s").replace("$agent", ".*") for query in queries]


class Echo(Agent[TextInput, TextOutput]):
    name = "echo"

    async def execute(self, input: TextInput, context: ExecutionContext, /) -> TextOutput:
        return TextOutput(result=input.content)


@contextlib.asynccontextmanager
async def watching(registry: RegistryServer, folder: Path, *clients: str) -> AsyncIterator[Prometheus]:
    async with Prometheus(folder, example(registry.http_address, clients=clients)) as prometheus:
        yield prometheus


@contextlib.asynccontextmanager
async def agent(registry: RegistryServer, **options: Any) -> AsyncIterator[AgentServer]:
    async with AgentServer(Echo(), registry=registry.address, http_bind=HERE, **options) as server:
        async with asyncio.timeout(SOON):
            await server.registered.wait()
        yield server


@contextlib.asynccontextmanager
async def silent(registry: RegistryServer, ttl: float) -> AsyncIterator[str]:
    """A process that registered, shows metrics, and is never heard of again; where it shows them."""
    page = HttpServer(bind=HERE, pages={"/metrics": metrics_page(CollectorRegistry())})
    await page.start()
    try:
        async with RegistryClient(registry.address) as client:
            endpoint = Endpoint("silent", "127.0.0.1:9", "instance-1", metrics_address=page.address)
            await client.register(endpoint, describe(TextInput, TextOutput), ttl=ttl)
            yield page.address
    finally:
        await page.stop()


def has(*addresses: str | None) -> Callable[[dict[str, Any]], bool]:
    """Whether all of them are up; `seen` is `Prometheus.up()`."""
    return lambda seen: all(seen.get(str(address)) == 1 for address in addresses)


def lacks(address: str | None) -> Callable[[dict[str, Any]], bool]:
    return lambda seen: str(address) not in seen


async def test_agents_that_come_and_go_are_found_scraped_and_dropped(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        registry = await enter(RegistryServer(storage=MemoryStorage(), http_bind=HERE, settings=FLEETING))
        client = await enter(Client(registry.address))
        prometheus = await enter(watching(registry, tmp_path, await client.serve_metrics()))
        first, second = await enter(agent(registry, zone="west")), await enter(agent(registry))
        dead = await enter(silent(registry, ttl=12.0))
        there = has(registry.http_address, first.http_address, second.http_address, dead)
        await prometheus.until(prometheus.up, there, SOON)
        ((labels, _),) = await prometheus.query(f'up{{instance="{first.http_address}"}}')
        assert (labels["role"], labels["agent"], labels["zone"]) == ("agent", "echo", "west")

        for _ in range(7):
            await client.call(Contract("echo", TextInput, TextOutput), TextInput(content="x", operation="summarize"))
        executions = 'sum by (agent) (atomesh_agent_executions_total{outcome="ok"})'
        await prometheus.until(lambda: prometheus.values(executions, "agent"), lambda by: by == {"echo": 7}, SOON)

        third = await enter(agent(registry))
        await prometheus.until(prometheus.up, has(third.http_address), SOON)
        gone = first.http_address
        await first.drain()
        await prometheus.until(prometheus.targets, lacks(gone), SOON)
        await prometheus.until(prometheus.targets, lacks(dead), SOON)
        leases = 'atomesh_registry_leases{state="serving"}'
        await prometheus.until(lambda: prometheus.values(leases, "state"), lambda by: by == {"serving": 2}, SOON)
        assert has(registry.http_address, second.http_address, third.http_address)(await prometheus.up())
        await prometheus.until(prometheus.up, lambda up: gone not in up and dead not in up, SOON)
        assert prometheus.errors() == []
        assert set((await prometheus.rules()).values()) == {"ok"}, "the rules can be evaluated"
        empty = [query for query in drawn() if not await prometheus.query(query)]
        assert set(empty) == NOTHING_YET, "the dashboard draws what there is"


async def test_no_target_is_lost_while_the_registry_is_away_and_while_it_is_cold(tmp_path: Path) -> None:
    lost: list[set[str]] = []

    async def count(prometheus: Prometheus, expected: set[str]) -> None:
        while True:
            if missing := expected - (await prometheus.targets()).keys():
                lost.append(missing)
            await SYSTEM_CLOCK.sleep(POLL_SECONDS)

    def started(bind: str = HERE, http_bind: str = HERE) -> RegistryServer:
        settings = RegistrySettings(min_ttl=1.0, warm_within=8.0)
        storage = SQLiteStorage(tmp_path / "registry.db")
        return RegistryServer(storage=storage, bind=bind, http_bind=http_bind, settings=settings)

    async with contextlib.AsyncExitStack() as stack:
        registry = started()
        await registry.start()
        stack.push_async_callback(lambda: registry.stop())
        served = await stack.enter_async_context(agent(registry))
        # Its lease outlives the restart, and nobody renews it: the registry is cold for all of `warm_within`.
        quiet = await stack.enter_async_context(silent(registry, ttl=300.0))
        prometheus = await stack.enter_async_context(watching(registry, tmp_path))
        known = {registry.http_address, str(served.http_address), quiet}
        await prometheus.until(prometheus.up, has(*known), SOON)
        counting = asyncio.create_task(count(prometheus, known))
        try:
            await registry.stop()
            down = await prometheus.until(prometheus.up, lambda up: up[registry.http_address] == 0, SOON)
            assert has(str(served.http_address), quiet)(down), "agents are scraped on without a registry"
            alerts = 'ALERTS{alertname="AtomeshRegistryDown"}'
            await prometheus.until(lambda: prometheus.values(alerts, "alertstate"), lambda by: "pending" in by, SOON)

            registry = started(registry.address, registry.http_address)
            await registry.start()
            refused = await prometheus.own("prometheus_sd_http_failures_total")
            async with httpx.AsyncClient(trust_env=False) as http:
                for page in ("readyz", "prometheus/targets", "v1/endpoints"):
                    assert (await http.get(f"http://{registry.http_address}/{page}")).status_code == 503, page
            failures = functools.partial(prometheus.own, "prometheus_sd_http_failures_total")
            await prometheus.until(failures, lambda now: now > refused, SOON)
            assert not registry.warm, "that one was a 503 of the cold registry"
            async with asyncio.timeout(SOON):
                while not registry.warm:
                    await SYSTEM_CLOCK.sleep(POLL_SECONDS)
            late = await stack.enter_async_context(agent(registry))
            await prometheus.until(prometheus.up, has(*known, late.http_address), SOON)
        finally:
            counting.cancel()
            await asyncio.wait([counting])
        assert counting.cancelled(), "it looked to the end"
        assert lost == [], "whoever serves is scraped, whatever becomes of the registry"
