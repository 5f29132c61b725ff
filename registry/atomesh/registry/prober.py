"""Asks endpoints for their health where callers reach them: grpc.health.v1, at addresses that may be dialled.

A name is resolved here, every address that it stands for is checked against
the allow-list, and the first one is dialled as it is: so a name that stands for
something else a moment later (DNS rebinding) leads nowhere. Each probe opens a
connection of its own, as a new caller would, and follows nothing: no proxy, no
redirect, no service config.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atomesh.core.clock import Clock
from atomesh.core.endpoint import Endpoint, Probe, ProbeResult
from atomesh.core.errors import InvalidArgument
from atomesh.core.names import join_address, split_address
from atomesh.registry.allow_list import AllowList
from atomesh.registry.ledger import Ledger
from atomesh.registry.metrics import RegistryMetrics
from atomesh.rpc.channel import cause_of
from atomesh.rpc.credentials import Credentials
from atomesh.rpc.network import Network
from atomesh.rpc.tasks import Tasks

log = logging.getLogger(__name__)

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""A host's IP addresses, the preferred one first; OSError where it has none."""

DETAIL_LETTERS = 200
"""Of what went wrong: gRPC's messages can quote whole certificates."""

_STATUS: dict[int, ProbeResult] = {health_pb2.HealthCheckResponse.SERVING: ProbeResult.SERVING}
_CODES = {
    grpc.StatusCode.UNIMPLEMENTED: ProbeResult.UNIMPLEMENTED,
    grpc.StatusCode.DEADLINE_EXCEEDED: ProbeResult.TIMEOUT,
    grpc.StatusCode.UNAVAILABLE: ProbeResult.UNREACHABLE,
}
"""What else a server says of its health is that it does not serve."""


_UNKNOWN_AUTHORITY = "unable to get local issuer certificate"
"""OpenSSL's words, in gRPC's, for a certificate of an authority that is not known here."""


class Forbidden(Exception):
    """The address must not be dialled."""


async def resolve(host: str, port: int) -> list[str]:
    """By the system's resolver; an IP address is itself."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [str(address[0]) for *_, address in found]


class Prober:
    """Probes what the ledger says is due, and tells it what came of that."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        credentials: Credentials,
        metrics: RegistryMetrics,
        clock: Clock,
        network: Network,
        resolve: Resolve = resolve,
    ) -> None:
        """Dials nobody before `run`. `credentials` are what it shows to endpoints, as a caller would."""
        self._ledger = ledger
        self._settings = ledger.settings
        self._allowed = AllowList(ledger.settings.probe_networks)
        self._credentials = credentials
        self._metrics = metrics
        self._clock = clock
        self._network = network
        self._resolve = resolve
        self._probes = Tasks()
        self._doubted = False

    async def run(self) -> None:
        """Probes until cancelled."""
        try:
            while True:
                await self._clock.sleep(self._settings.tick)
                for lease, endpoint in self._ledger.probes_due(self._clock.now()):
                    self._probes.spawn(self._probe(lease, endpoint), f"probe of {endpoint.address}")
        finally:
            await self._probes.cancel()

    async def _probe(self, lease: str, endpoint: Endpoint) -> None:
        at, begun = self._clock.wall(), self._clock.now()
        try:
            result, detail = await self._ask(endpoint)
        except Exception as error:
            # Whatever a resolver or a peer came up with: its probe has to end, or its turn never comes again.
            log.exception("the probe of %s at %s failed unexpectedly", endpoint.agent, endpoint.address)
            result, detail = ProbeResult.UNREACHABLE, f"{type(error).__name__}: {error}"
        ended = self._clock.now()
        self._metrics.probed(result, ended - begun)
        line = " ".join(detail.split())[:DETAIL_LETTERS]
        self._ledger.probed(lease, Probe(result, at, ended - begun, line), ended)
        self._log_doubts()

    def _log_doubts(self) -> None:
        doubted, self._doubted = self._doubted, self._ledger.doubts_probes
        if self._doubted and not doubted:
            log.warning("self-preservation: so many probes fail that they make nobody SUSPECT; can this host dial out?")
        if doubted and not self._doubted:
            log.info("self-preservation is over: probes count again")

    async def _ask(self, endpoint: Endpoint) -> tuple[ProbeResult, str]:
        timeout = self._settings.probe_timeout
        try:
            async with asyncio.timeout(timeout):
                return await self._check(endpoint)
        except TimeoutError:
            return ProbeResult.TIMEOUT, f"no answer within {timeout:g} s"
        except (Forbidden, InvalidArgument) as error:
            return ProbeResult.FORBIDDEN, str(error)
        except OSError as error:
            return ProbeResult.UNREACHABLE, f"no address for {endpoint.address}: {error.strerror or error}"
        except grpc.aio.AioRpcError as error:
            return self._judged(error)

    def _judged(self, error: grpc.aio.AioRpcError) -> tuple[ProbeResult, str]:
        said = error.details() or error.code().name
        if _UNKNOWN_AUTHORITY in said and self._credentials.tls_ca is None:
            why = (
                "this registry has no CA to check the endpoint's certificate by; give it --tls-ca, or switch probes off"
            )
            return ProbeResult.FORBIDDEN, why
        return _CODES.get(error.code(), ProbeResult.NOT_SERVING), cause_of(said) or said

    async def _check(self, endpoint: Endpoint) -> tuple[ProbeResult, str]:
        channel = await self._dial(endpoint.address)
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await self._health(stub, endpoint.agent)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                answer = await self._health(stub, "")  # a server that knows itself as a whole only
        finally:
            await channel.close()
        result = _STATUS.get(answer.status, ProbeResult.NOT_SERVING)
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return result, "" if result is ProbeResult.SERVING else f"its health is {name}"

    async def _health(self, stub: Any, service: str) -> health_pb2.HealthCheckResponse:
        request = health_pb2.HealthCheckRequest(service=service)
        # Without the token: health asks for none, and whoever has the address by now would have it.
        return await stub.Check(request, timeout=self._settings.probe_timeout)

    async def _dial(self, address: str) -> grpc.aio.Channel:
        """A channel to the very address that was checked, under the name that was given."""
        host, port = split_address(address)
        found = await self._resolve(host, port)
        if not found:
            raise OSError(f"{host} has none")
        for ip in found:
            if not self._allowed.allows(ip):
                raise Forbidden(f"{ip} is in none of the networks that are probed (--probe-network)")
        options: list[tuple[str, int | str]] = [("grpc.enable_http_proxy", 0), ("grpc.default_authority", address)]
        if self._credentials.has_tls and found[0] != host:
            options.append(("grpc.ssl_target_name_override", host))
        return self._network.channel(join_address(found[0], port), self._credentials, options)
