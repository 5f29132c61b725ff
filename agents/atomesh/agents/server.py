"""A process of agents: its gRPC server, its place in the registry, its metrics, its end."""

from __future__ import annotations

import asyncio
import os
import platform
import random
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import metadata
from types import TracebackType
from typing import Any, Self, Unpack

from prometheus_client import CollectorRegistry, ProcessCollector
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from atomesh.agents.admission import Admission
from atomesh.agents.agent import Agent
from atomesh.agents.calls import Where
from atomesh.agents.context import new_instance_id
from atomesh.agents.doors import TypedDoor, anybody, check_request
from atomesh.agents.drain import Drainer
from atomesh.agents.failures import log
from atomesh.agents.metrics import AgentMetrics, AgentSeries
from atomesh.agents.mux_door import MuxDoor
from atomesh.agents.served import ServedAgent
from atomesh.agents.service import AgentService
from atomesh.agents.settings import ServerOptions, split_options
from atomesh.agents.spec import AgentOptions, AgentSpec, resolve
from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.endpoint import State
from atomesh.core.errors import InvalidArgument
from atomesh.rpc.credentials import Credentials
from atomesh.rpc.http import HttpServer, Page, metrics_page
from atomesh.rpc.metrics import GrpcMetrics
from atomesh.rpc.network import GRPC_NETWORK, Network
from atomesh.rpc.registrar import Registrar
from atomesh.rpc.registry_client import RegistryClient
from atomesh.rpc.server import Server
from atomesh.rpc.services import HealthService, add_reflection
from atomesh.rpc.tasks import Tasks
from atomesh.rpc.watchdog import Watchdog
from atomesh.v1 import agent_pb2_grpc

_FLUSH = 0.25
"""Seconds for answers that are on their way out when the last slot is free.
Watchers of our health hold the server open for just as long."""

_STOP = 5.0
"""Seconds after which a gRPC server that does not end is left to the process
(grpc issue 28999). It takes _FLUSH; half would do as well."""


class AgentServer:
    """Serves agents until it is stopped or drained.

    async with AgentServer(Greeter(), registry="127.0.0.1:7400") as server:
        await server.wait_drained()

    Keyword arguments are the fields of ServerSettings, and those of an agent
    (AgentOptions: slots, zone, providers, ...) for all agents given. Make it
    inside a running event loop; nothing is bound before `start`.
    """

    def __init__(
        self,
        agents: Agent[Any, Any] | Sequence[Agent[Any, Any]],
        *,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        network: Network = GRPC_NETWORK,
        **options: Unpack[ServerOptions],
    ) -> None:
        """Raises InvalidArgument where an agent or a setting is wrong, in one line."""
        self._settings, said = split_options(options)
        self._clock = clock
        self._network = network
        self._rng = rng = rng or random.Random()
        self.metrics = CollectorRegistry()
        """What /metrics shows; register collectors of your own here."""
        self.instance_id = new_instance_id()
        specs = _resolve(agents, said)
        where = Where(self.instance_id, lambda: self.address, clock, self._settings.default_timeout)
        families = AgentMetrics(self.metrics)
        self.agents: Mapping[str, ServedAgent] = {
            spec.name: ServedAgent(agent, spec, where, *_counted(spec, families, rng), self._settings.tracer)
            for agent, spec in specs
        }
        self._tasks = Tasks()
        self._started: list[ServedAgent] = []
        self._watchdog = Watchdog(self.metrics, clock=clock)
        ProcessCollector(registry=self.metrics)
        self._client: RegistryClient | None = None
        self._registrar: Registrar | None = None
        if self._settings.registry is not None:
            self._client = RegistryClient(self._settings.registry, self._settings.credentials, network=network)
            self._registrar = Registrar(self._client, ttl=self._settings.ttl, clock=clock, rng=rng)
        self._build()

    @property
    def address(self) -> str:
        """host:port that callers dial; the real port once started."""
        return self._settings.advertised(self._server.address)

    @property
    def http_address(self) -> str | None:
        """host:port of /metrics, /healthz and /readyz; None where there is no HTTP."""
        return self._http.address if self._http is not None else None

    @property
    def credentials(self) -> Credentials:
        """What it is served with."""
        return self._settings.credentials

    @property
    def registered(self) -> asyncio.Event:
        """Set once the registry has taken all agents; never without a registry."""
        return self._registrar.ready if self._registrar is not None else asyncio.Event()

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why the registry does not take agents of this process; empty where it takes all, or is not there."""
        return self._registrar.refusals if self._registrar is not None else ()

    def add_service(
        self,
        add_to_server: Callable[[Any, Any], None],
        servicer: object,
        idle: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Serves a gRPC service beside the agents: `add_service(add_XServicer_to_server, servicer)`, before `start`.

        A drain of all agents waits, within its grace, until `idle` returns.
        """
        self._server.add(add_to_server, servicer)
        if idle is not None:
            self._drainer.beside.append(idle)

    def state(self, agent: str) -> State:
        """Whether the agent takes calls."""
        return self._drainer.state(agent)

    async def start(self) -> None:
        """Starts the agents, listens, and begins to register.

        Raises:
            Conflict: an agent or a provider did not start, or an address is in use.
        """
        try:
            for served in self.agents.values():
                await served.start()
                self._started.append(served)
            add_reflection(self._server)
            await self._server.start()
            if self._http is not None:
                await self._http.start()
        except BaseException:
            await self.stop()
            raise
        self._watchdog.start()
        self._drainer.serving()
        if self._registrar is not None:
            self._register(self._registrar)
        log.info("serving %s at %s", ", ".join(self.agents), self.address)

    async def stop(self) -> None:
        """Ends at once: what runs is cut off. `drain` first where nothing may be lost."""
        await self._drainer.close()
        if self._registrar is not None:
            await self._registrar.leave()
        await self._tasks.cancel()
        for served in self.agents.values():
            served.admission.draining = True
            served.cancel_running("cut off, the endpoint was stopped")
        try:
            async with asyncio.timeout(_STOP):
                await self._server.stop(_FLUSH)
        except TimeoutError:
            log.warning("the gRPC server did not end within %g s", _STOP)
        if self._http is not None:
            await self._http.stop()
        while self._started:
            await self._started.pop().close()
        if self._client is not None:
            await self._client.close()
        self._watchdog.stop()

    async def drain(self, grace: float | None = None) -> None:
        """Takes all agents out of service without losing a call; `grace` in seconds, None for the setting."""
        self._drainer.begin(list(self.agents), grace)
        await self._drainer.done.wait()

    async def wait_drained(self) -> None:
        """Returns once all agents have drained, whoever asked for that."""
        await self._drainer.done.wait()

    async def __aenter__(self) -> Self:
        """Started."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stopped."""
        await self.stop()

    def _build(self) -> None:
        settings = self._settings
        metrics = GrpcMetrics("server", self.metrics)
        self._server = Server(
            bind=settings.bind,
            credentials=settings.credentials,
            metrics=metrics,
            clock=self._clock,
            network=self._network,
        )
        registry = None if self._client is None or self._registrar is None else (self._client, self._registrar)
        execute = metrics.method("unary", "atomesh.v1.AgentService", "Execute")  # a call in a mux is one of these
        guard = settings.credentials.check_token if settings.guard_calls else anybody
        mux = MuxDoor(self.agents, execute, guard, settings.max_connection_age, self._rng)
        self._server.at_stop.append(mux.finish)
        self._drainer = Drainer(
            self.agents,
            HealthService(self._server),
            self._clock,
            registry=registry,
            grace=settings.drain_grace,
            draining=mux.drain,
        )
        service = AgentService(self.agents, mux, guard, self._drainer, settings.credentials, self._clock)
        self._server.add(agent_pb2_grpc.add_AgentServiceServicer_to_server, service, check_request)
        for name in sorted({served.spec.typed_service for served in self.agents.values()} - {""}):
            sharing = {key: served for key, served in self.agents.items() if served.spec.typed_service == name}
            TypedDoor(name, sharing, guard).add_to(self._server)
        self._http: HttpServer | None = None
        if settings.http_bind is not None:
            pages: dict[str, Page] = {
                "/metrics": metrics_page(self.metrics),
                "/healthz": self._healthz,
                "/readyz": self._readyz,
            }
            self._http = HttpServer(bind=settings.http_bind, pages=pages, insecure=settings.credentials.insecure)

    def _register(self, registrar: Registrar) -> None:
        http = self.http_address
        scraped = self._settings.advertised_http(http, self.address) if http is not None else ""
        about = _about_process()
        for served in self.agents.values():
            endpoint = served.spec.endpoint(self.address, self.instance_id, about, scraped)
            registrar.add(endpoint, served.spec.contract.descriptor, served.admission.load)
        self._tasks.spawn(registrar.run(), "registrar")
        self._tasks.spawn(self._give_way(registrar), "superseded")

    async def _give_way(self, registrar: Registrar) -> None:
        await registrar.superseded.wait()
        log.error("a newer instance has registered at %s; draining", self.address)
        self._drainer.begin(list(self.agents))

    async def _healthz(self, request: Request) -> Response:
        """The process answers; that is all that it says."""
        del request
        return PlainTextResponse("ok\n")

    async def _readyz(self, request: Request) -> Response:
        """200 while all agents serve, else 503 with those that do not."""
        del request
        away = [f"{name} {self.state(name).name}" for name in self.agents if self.state(name) is not State.SERVING]
        return PlainTextResponse("\n".join(away or ["ok"]) + "\n", status_code=503 if away else 200)


def _counted(spec: AgentSpec, families: AgentMetrics, rng: random.Random) -> tuple[Admission, AgentSeries]:
    """Who gives out an agent's slots, and what is counted of it."""
    admission = Admission(spec.name, spec.slots, rng=rng)
    return admission, families.bind(admission)


def _resolve(
    agents: Agent[Any, Any] | Sequence[Agent[Any, Any]], said: AgentOptions
) -> list[tuple[Agent[Any, Any], AgentSpec]]:
    """The agents with their specs, told apart by name."""
    given: list[Any] = list(agents) if isinstance(agents, Sequence) else [agents]
    if not given:
        raise InvalidArgument("no agent to serve; give at least one")
    for agent in given:
        if not isinstance(agent, Agent):
            made = f"; write {agent.__name__}()" if isinstance(agent, type) and issubclass(agent, Agent) else ""
            raise InvalidArgument(f"{agent!r:.80} is no agent{made}")
    declared = {type(provider) for agent in given for provider in agent.providers}
    resolved = [(agent, resolve(agent, _for_one(agent, said, declared))) for agent in given]
    names = [spec.name for _, spec in resolved]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidArgument(f"two agents here are named {twice[0]}; give each a name of its own")
    return resolved


def _for_one(agent: Agent[Any, Any], said: AgentOptions, declared: set[type]) -> AgentOptions:
    """What is said, without replacements of providers that only other agents of the process have."""
    own = {type(provider) for provider in agent.providers}
    replaced = {kind: new for kind, new in said.get("providers", {}).items() if kind in own or kind not in declared}
    return AgentOptions(**{**said, "providers": replaced})


def _about_process() -> dict[str, str]:
    """For people, in the registry's answers."""
    return {
        "pid": str(os.getpid()),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "atomesh": metadata.version("atomesh"),
    }
