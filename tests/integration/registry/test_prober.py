"""The prober against real servers: those that serve, say that they do not, hang, are not there, or must not be dialled."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.contract import describe
from atomesh.core.endpoint import ALL_STATES, Endpoint, Probe, ProbeResult, State
from atomesh.core.selector import Selector
from atomesh.registry import RegistrySettings
from atomesh.registry.ledger import Ledger
from atomesh.registry.metrics import RegistryMetrics
from atomesh.registry.operations import Register, Stored
from atomesh.registry.prober import Prober
from atomesh.rpc.credentials import PLAINTEXT, Credentials
from atomesh.rpc.network import GRPC_NETWORK
from atomesh.text.v1 import text_pb2
from atomesh.v1 import agent_pb2, registry_pb2

FAST = RegistrySettings(min_ttl=1.0, tick=0.05, deaf_after=2.5, probe_interval=0.3, probe_timeout=0.3)
TEXT = describe(text_pb2.TextInput, text_pb2.TextOutput)
_ANY = Selector(states=ALL_STATES)
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc] # the wheel has no types
    """Says what it is told to, of itself as a whole or by name."""

    def __init__(self, states: dict[str, Any]) -> None:
        self.states = states
        self.asked: list[str] = []
        self.shown: set[str] = set()
        """Names of what came in headers."""

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 # gRPC's name
        self.asked.append(request.service)
        self.shown |= {key for key, _ in context.invocation_metadata()}
        if request.service not in self.states:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return health_pb2.HealthCheckResponse(status=self.states[request.service])


@contextlib.asynccontextmanager
async def server_of(health: Health | None, credentials: Credentials = PLAINTEXT) -> AsyncIterator[str]:
    server = grpc.aio.server()
    if health is not None:
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
    secure = credentials.for_server("127.0.0.1:0")
    port = server.add_secure_port("127.0.0.1:0", secure) if secure else server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def until(known: Callable[[], Any]) -> Any:
    async with asyncio.timeout(15):
        while not (found := known()):
            await SYSTEM_CLOCK.sleep(0.02)
    return found


def endpoint_of(server: Any, address: str) -> Endpoint:
    entry = server.ledger.store.get(("text-processor", address))
    assert entry is not None, "a probe must never take an endpoint away"
    shown: Endpoint = server.ledger.as_heard(entry)
    return shown


async def next_change(watch: Any) -> Any:
    while not (step := await watch.read()).changes.changes:
        continue  # a bookmark
    return step.changes.changes[0].changed


async def probed(server: Any, address: str) -> Probe:
    found: Probe = await until(lambda: endpoint_of(server, address).last_probe)
    return found


async def test_an_endpoint_that_stops_serving_is_suspect_and_comes_back(registry: Any) -> None:
    health = Health({"text-processor": SERVING})
    async with server_of(health) as address, registry(settings=FAST) as (server, caller):
        await caller.register(address=address)
        watch = caller.watch(states=[agent_pb2.SERVING_STATE_SERVING, agent_pb2.SERVING_STATE_SUSPECT])
        assert (await watch.read()).reset.endpoints
        first = await probed(server, address)
        assert first.result is ProbeResult.SERVING
        assert 0 < first.duration < 0.3
        health.states["text-processor"] = NOT_SERVING
        changed = await next_change(watch)
        assert changed.state == agent_pb2.SERVING_STATE_SUSPECT
        assert changed.last_probe.result == registry_pb2.PROBE_RESULT_NOT_SERVING
        assert changed.last_probe.detail == "its health is NOT_SERVING"
        health.states["text-processor"] = SERVING
        changed = await next_change(watch)
        assert changed.state == agent_pb2.SERVING_STATE_SERVING
        assert server.collectors.get_sample_value(*_probes("serving")) >= 3
        durations = "atomesh_registry_probe_seconds_count"
        assert server.collectors.get_sample_value(durations, {"result": "not_serving"}) >= 2
        watch.cancel()


async def test_a_server_that_knows_itself_as_a_whole_only_is_asked_so(registry: Any) -> None:
    health = Health({"": SERVING})
    async with server_of(health) as address, registry(settings=FAST) as (server, caller):
        await caller.register(address=address)
        assert (await probed(server, address)).result is ProbeResult.SERVING
        assert health.asked[:2] == ["text-processor", ""]


async def test_a_server_without_the_health_service_answers_and_that_will_do(registry: Any) -> None:
    async with server_of(None) as address, registry(settings=FAST) as (server, caller):
        await caller.register(address=address)
        assert (await probed(server, address)).result is ProbeResult.UNIMPLEMENTED
        await until(lambda: server.collectors.get_sample_value(*_probes("unimplemented")) >= 4)
        assert endpoint_of(server, address).state is State.SERVING


async def test_who_is_not_there_and_who_hangs_are_suspect(registry: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging, socket.create_server(("127.0.0.1", 0)) as gone:
        hangs = f"127.0.0.1:{hanging.getsockname()[1]}"
        nobody = f"127.0.0.1:{gone.getsockname()[1]}"
        gone.close()
        async with registry(settings=FAST) as (server, caller):
            await caller.register(address=hangs)
            await caller.register(address=nobody)
            await until(lambda: server.ledger.counts()[State.SUSPECT] == 2)
            assert endpoint_of(server, nobody).last_probe.result is ProbeResult.UNREACHABLE  # type: ignore[union-attr]
            slow = endpoint_of(server, hangs).last_probe
            assert slow is not None
            assert slow.result in (ProbeResult.TIMEOUT, ProbeResult.UNREACHABLE)
            assert slow.duration < 2
            assert "\n" not in slow.detail


async def test_an_address_outside_of_the_allow_list_is_not_dialled_and_stays_as_it_was(registry: Any) -> None:
    settings = RegistrySettings(
        min_ttl=1.0, tick=0.05, probe_interval=0.3, probe_timeout=0.3, probe_networks=("10.0.0.0/8",)
    )
    health = Health({"": SERVING})
    async with server_of(health) as address, registry(settings=settings) as (server, caller):
        await caller.register(address=address)
        probe = await probed(server, address)
        assert probe.result is ProbeResult.FORBIDDEN
        assert "127.0.0.1 is in none of the networks that are probed (--probe-network)" in probe.detail
        await until(lambda: server.collectors.get_sample_value(*_probes("forbidden")) >= 4)
        assert endpoint_of(server, address).state is State.SERVING
        assert not health.asked


async def test_without_probes_nobody_is_dialled(registry: Any) -> None:
    health = Health({"": NOT_SERVING})
    settings = RegistrySettings(min_ttl=1.0, tick=0.05, probe_interval=0)
    async with server_of(health) as address, registry(settings=settings) as (server, caller):
        await caller.register(address=address)
        await SYSTEM_CLOCK.sleep(0.8)  # two intervals and more
        assert not health.asked
        assert endpoint_of(server, address).last_probe is None


class Names:
    """A resolver that answers with the next list each time, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextlib.asynccontextmanager
async def probing(
    address: str, names: Any, credentials: Credentials = PLAINTEXT, settings: RegistrySettings = FAST
) -> AsyncIterator[Callable[[], Probe | None]]:
    """A prober over a ledger with one endpoint, without the rest of a registry."""
    ledger = Ledger(Stored("store-1"), settings, SYSTEM_CLOCK.now(), new_lease_id=lambda: "unused")
    endpoint = Endpoint("text-processor", address, "instance-1")
    now = SYSTEM_CLOCK.now()
    ledger.apply(ledger.stage([Register(endpoint, TEXT, "lease", 600.0, 0.0)], now), now)
    prober = Prober(
        ledger,
        credentials=credentials,
        metrics=RegistryMetrics(CollectorRegistry()),
        clock=SYSTEM_CLOCK,
        network=GRPC_NETWORK,
        resolve=names,
    )
    running = asyncio.create_task(prober.run())

    def last() -> Probe | None:
        (shown,) = ledger.discover(_ANY)
        return shown.last_probe

    try:
        yield last
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_name_is_checked_again_at_every_dial_and_dialled_as_it_was_checked() -> None:
    health = Health({"": SERVING})
    async with server_of(health) as address:
        port = address.rpartition(":")[2]
        names = Names(["127.0.0.1"], ["169.254.169.254"])
        async with probing(f"inside.example:{port}", names) as last:
            await until(lambda: (probe := last()) and probe.result is ProbeResult.SERVING)
            asked = len(health.asked)
            await until(lambda: (probe := last()) and probe.result is ProbeResult.FORBIDDEN)
            assert set(names.asked) == {"inside.example"}
            assert len(health.asked) == asked, "what stands for a metadata service now must not be dialled"


async def test_a_name_that_stands_for_one_address_that_must_not_be_dialled_is_not_dialled() -> None:
    health = Health({"": SERVING})
    async with server_of(health) as address:
        port = address.rpartition(":")[2]
        async with probing(f"both.example:{port}", Names(["127.0.0.1", "8.8.8.8"])) as last:
            probe = await until(last)
            assert probe.result is ProbeResult.FORBIDDEN
            assert "8.8.8.8" in probe.detail
            assert not health.asked


async def test_a_name_without_an_address_and_a_resolver_that_fails_are_told_in_one_line() -> None:
    async def broken(host: str, port: int) -> list[str]:
        raise RuntimeError("the resolver\nis broken")

    async with probing("gone.example:1", Names([])) as last:
        probe = await until(last)
        assert (probe.result, probe.detail) == (
            ProbeResult.UNREACHABLE,
            "no address for gone.example:1: gone.example has none",
        )
    async with probing("gone.example:1", broken) as last:
        probe = await until(last)
        assert (probe.result, probe.detail) == (ProbeResult.UNREACHABLE, "RuntimeError: the resolver is broken")


async def test_the_token_is_shown_to_nobody() -> None:
    health = Health({"": SERVING})
    credentials = Credentials(token="secret")
    async with server_of(health) as address, probing(address, Names(["127.0.0.1"]), credentials) as last:
        probe = await until(last)
        assert probe.result is ProbeResult.SERVING
        assert "authorization" not in health.shown, (
            "an address is what somebody registered, and may be another's by now"
        )


@pytest.mark.parametrize("name", ["http_proxy", "grpc_proxy"])
async def test_no_proxy_is_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        health = Health({"": SERVING})
        async with server_of(health) as address, probing(address, Names(["127.0.0.1"])) as last:
            probe = await until(last)
            assert probe.result is ProbeResult.SERVING
        with pytest.raises(BlockingIOError):
            proxy.accept()


UNHURRIED = RegistrySettings(min_ttl=1.0, tick=0.05, probe_interval=3, probe_timeout=3)
"""For handshakes on a busy machine."""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("mutual", [False, True])
async def test_tls_is_spoken_as_a_caller_would_and_a_name_is_checked_as_it_was_given(
    authority: Any, host: str, mutual: bool
) -> None:
    health = Health({"": SERVING})
    own = authority.credentials("registry", mutual=True) if mutual else authority.credentials()
    async with server_of(health, authority.credentials("agent", mutual=mutual)) as address:
        there = f"{host}:{address.rpartition(':')[2]}"
        async with probing(there, Names(["127.0.0.1"]), own, UNHURRIED) as last:
            probe = await until(last)
            assert (probe.result, probe.detail) == (ProbeResult.SERVING, "")


async def test_a_registry_that_cannot_check_certificates_does_not_blame_the_endpoint(authority: Any) -> None:
    health = Health({"": SERVING})
    async with (
        server_of(health, authority.credentials("agent")) as address,
        probing(address, Names(["127.0.0.1"]), authority.credentials("registry"), UNHURRIED) as last,
    ):
        probe = await until(last)
        assert probe.result is ProbeResult.FORBIDDEN
        assert "give it --tls-ca" in probe.detail


async def test_a_certificate_that_has_expired_is_the_endpoints_fault_and_said(authority: Any) -> None:
    health = Health({"": SERVING})
    async with (
        server_of(health, authority.credentials("agent", since=-3, until=-1)) as address,
        probing(address, Names(["127.0.0.1"]), authority.credentials(), UNHURRIED) as last,
    ):
        probe = await until(last)
        assert probe.result is ProbeResult.UNREACHABLE
        assert "certificate has expired" in probe.detail


def _probes(result: str) -> tuple[str, dict[str, str]]:
    return "atomesh_registry_probes_total", {"result": result}
