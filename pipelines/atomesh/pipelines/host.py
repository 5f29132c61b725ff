"""A process that serves pipelines: each as an agent, and PipelineService beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, Unpack

from atomesh.agents import AgentServer, ServerOptions
from atomesh.balancer import Client
from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.errors import InvalidArgument
from atomesh.pipelines.agent import pipeline_agent
from atomesh.pipelines.binding import plan_pipeline
from atomesh.pipelines.checkpoints import Checkpoints
from atomesh.pipelines.machine import this_process
from atomesh.pipelines.metrics import PipelineMetrics
from atomesh.pipelines.middleware import Middleware, Provider, RunObserver
from atomesh.pipelines.model import PipelineSpec
from atomesh.pipelines.plan import Plan
from atomesh.pipelines.reading import Source
from atomesh.pipelines.runner import Runner
from atomesh.pipelines.service import PipelineService
from atomesh.pipelines.shelf import Shelf
from atomesh.pipelines.store.base import RunStore
from atomesh.v1 import pipeline_pb2, pipeline_pb2_grpc


class Finder(Protocol):
    """Finds agents and plans by what a registry knows."""

    async def choose(self, capability: str) -> tuple[str, str]:
        """The best agent for a capability, and why."""
        ...

    async def find_plans(self, request: pipeline_pb2.PlanRequest) -> pipeline_pb2.PlanResponse:
        """Answers PipelineService.Plan."""
        ...


class PipelineHost:
    """Serves pipelines until it is stopped; interrupted durable runs go on at its start.

    async with PipelineHost([(spec, source)], mesh=mesh, store=store, finder=finder, registry="127.0.0.1:7400"):
        ...

    The mesh and the store are its caller's, open before and closed after it.
    """

    def __init__(
        self,
        pipelines: Sequence[tuple[PipelineSpec, Source]],
        *,
        mesh: Client,
        store: RunStore,
        finder: Finder,
        checkpoints: Checkpoints | None = None,
        context_providers: Mapping[str, Provider] | None = None,
        middleware: Sequence[Middleware] = (),
        observers: Sequence[RunObserver] = (),
        clock: Clock = SYSTEM_CLOCK,
        **options: Unpack[ServerOptions],
    ) -> None:
        """`options` are those of AgentServer."""
        self._pipelines = pipelines
        self._mesh = mesh
        self._store = store
        self._finder = finder
        self._clock = clock
        self._options = options
        self._checkpoints = checkpoints
        self._providers = context_providers
        self._middleware = middleware
        self._observers = observers
        self._runner: Runner | None = None
        self._service: PipelineService | None = None
        self._server: AgentServer | None = None
        self.resumed = 0
        """Runs that went on at the start."""

    @property
    def server(self) -> AgentServer:
        """The server, once started."""
        if self._server is None:
            raise RuntimeError("the pipelines are not served yet; call start() first")
        return self._server

    @property
    def runner(self) -> Runner:
        """What runs them, once started."""
        if self._runner is None:
            raise RuntimeError("the pipelines are not served yet; call start() first")
        return self._runner

    async def start(self) -> None:
        """Makes the plans, listens, registers, and goes on with what was interrupted.

        Raises:
            PipelineInvalid, UnknownAgent: as plan_pipeline.
            Conflict: an address is in use.
        """
        if not self._pipelines:
            raise InvalidArgument("no pipeline to serve; name a file, or store one with `atomesh pipeline add FILE`")
        plans: dict[str, Plan] = {}
        for spec, source in self._pipelines:
            if spec.name in plans:
                raise InvalidArgument(f"two pipelines here are named {spec.name}; give each a name of its own")
            plans[spec.name] = await plan_pipeline(self._mesh, spec, source, choose=self._finder.choose)
        server = AgentServer(
            [pipeline_agent(plan, lambda: self.runner, self._clock) for plan in plans.values()], **self._options
        )
        self._runner = runner = Runner(
            self._mesh,
            store=self._store,
            checkpoints=self._checkpoints,
            providers=self._providers,
            middleware=self._middleware,
            observers=self._observers,
            metrics=PipelineMetrics(server.metrics),
            tracer=self._options.get("tracer"),
            clock=self._clock,
        )
        shelf = Shelf(self._mesh, self._store, self._clock, choose=self._finder.choose, served=plans)
        self._service = service = PipelineService(
            runner,
            shelf,
            self._store,
            self._clock,
            find_plans=self._finder.find_plans,
            credentials=server.credentials,
            guard_calls=self._options.get("guard_calls", False),
            draining=self._draining,
        )
        server.add_service(pipeline_pb2_grpc.add_PipelineServiceServicer_to_server, service, service.idle)
        self._server = server
        await server.start()
        runner.owner = str(this_process(server.address))
        if self._checkpoints is not None:
            self.resumed = await service.resume_all()

    def _draining(self, pipeline: str) -> bool:
        """Whether that pipeline is out of service here; one that is not served ends with the last that is."""
        agents = self.server.agents
        return all(agents[name].admission.draining for name in ([pipeline] if pipeline in agents else agents))

    async def stop(self) -> None:
        """Ends at once; durable runs can be resumed. Drain the server first where nothing may be lost."""
        if self._server is not None:
            await self._server.stop()
        if self._service is not None:
            await self._service.close()
        if self._runner is not None:
            await self._runner.close()

    async def __aenter__(self) -> Self:
        """Started."""
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stopped."""
        await self.stop()
