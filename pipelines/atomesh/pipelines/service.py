"""PipelineService over gRPC: runs and their events, what is stored, and plans."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc.aio

from atomesh.core.clock import Clock
from atomesh.core.context import Context
from atomesh.core.contract import unpack
from atomesh.core.errors import AtomeshError, Draining
from atomesh.core.times import from_timestamp, set_duration, to_timestamp
from atomesh.pipelines import plan as plans
from atomesh.pipelines.errors import NotResumable, RunCancelled, RunFailed, UnknownRun
from atomesh.pipelines.events import Event, fit, to_proto
from atomesh.pipelines.record import RunStatus
from atomesh.pipelines.runner import Runner
from atomesh.pipelines.running import Outcome
from atomesh.pipelines.shelf import Shelf
from atomesh.pipelines.store.base import MAX_OUTPUT, Resumption, RunStore
from atomesh.rpc.credentials import PLAINTEXT, Credentials
from atomesh.rpc.tasks import Tasks
from atomesh.v1 import pipeline_pb2, pipeline_pb2_grpc

_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
FindPlans: TypeAlias = Callable[[pipeline_pb2.PlanRequest], Awaitable[pipeline_pb2.PlanResponse]]

_FINAL_OUTPUT = 3 * 1024 * 1024
"""Bytes of a final output in an event: gRPC takes messages of 4 MiB, and the run's stages are in it too."""


class PipelineService(pipeline_pb2_grpc.PipelineServiceServicer):
    """The semantics of each method are in pipeline.proto."""

    def __init__(
        self,
        runner: Runner,
        shelf: Shelf,
        store: RunStore,
        clock: Clock,
        *,
        find_plans: FindPlans,
        credentials: Credentials = PLAINTEXT,
        guard_calls: bool = False,
        draining: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`find_plans` answers Plan; `draining` says whether a pipeline is out of service.

        `guard_calls`: to run pipelines, and to see what came of it, needs the token too.
        """
        self._runner = runner
        self._shelf = shelf
        self._store = store
        self._clock = clock
        self._find_plans = find_plans
        self._credentials = credentials
        self._guard_calls = guard_calls
        self._draining = draining
        self._tasks = Tasks()
        self._under_way: set[asyncio.Task[AtomeshError | None]] = set()

    async def close(self) -> None:
        """Ends the durable runs that nobody follows any more; they can be resumed."""
        await self._tasks.cancel()

    async def idle(self) -> None:
        """Returns once no run is under way that was begun or resumed here."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def Run(  # noqa: N802 # gRPC's name
        self, request: pipeline_pb2.RunRequest, context: _Context
    ) -> AsyncIterator[pipeline_pb2.RunResponse]:
        """Runs a pipeline and tells of it."""
        self._check_caller(context)
        self._check_serving(request.pipeline)
        plan = await self._shelf.plan(request.pipeline)
        message = unpack(request.input, plan.contract.input)
        said = Context.from_proto(request.context) if request.HasField("context") else None
        timeout = context.time_remaining()

        def run(listener: Callable[[Event], None]) -> Awaitable[Outcome]:
            return self._runner.run(
                plan, message, timeout=timeout, context=said, run_id=request.run_id, listener=listener
            )

        async with aclosing(self._followed(plan, run, stage_outputs=request.stage_outputs)) as events:
            async for event in events:
                yield pipeline_pb2.RunResponse(event=event)

    async def ResumeRun(  # noqa: N802 # gRPC's name
        self, request: pipeline_pb2.ResumeRunRequest, context: _Context
    ) -> AsyncIterator[pipeline_pb2.ResumeRunResponse]:
        """Goes on with an interrupted run."""
        self._credentials.check_token(context.invocation_metadata())
        self._check_serving("")
        if request.run_id in self._runner.running:
            raise NotResumable(f"run {request.run_id} is under way here")
        plan, resumption = await self._claimed(request.run_id)

        def run(listener: Callable[[Event], None]) -> Awaitable[Outcome]:
            return self._runner.resume(
                plan, resumption, repeat_interrupted=request.repeat_interrupted, listener=listener
            )

        async with aclosing(self._followed(plan, run, stage_outputs=False)) as events:
            async for event in events:
                yield pipeline_pb2.ResumeRunResponse(event=event)

    async def resume_all(self) -> int:
        """Goes on, in the background, with interrupted durable runs whose process is gone; how many."""
        resumed = 0
        for run in await self._store.list_runs(statuses=(RunStatus.RUNNING,), limit=1000):
            if not run.durable or run.id in self._runner.running:
                continue
            try:
                plan, resumption = await self._claimed(run.id)
            except AtomeshError:
                continue  # somebody else's, or its agents are away: `runs resume` says so to whoever asks
            self._begin(self._runner.resume(plan, resumption), f"run {run.id}")
            resumed += 1
        return resumed

    async def GetRun(self, request: pipeline_pb2.GetRunRequest, context: _Context) -> pipeline_pb2.GetRunResponse:  # noqa: N802 # gRPC's name
        """One run, as far as it has come."""
        self._check_caller(context)
        run = await self._get(request.run_id)
        fit(run)
        record = self._runner.running.get(run.id)
        if record is not None and record.types is not None:
            return pipeline_pb2.GetRunResponse(run=run, descriptor_set=record.types.descriptor_set)
        types = await self._store.get_types(run.descriptor_hash) if run.descriptor_hash else b""
        return pipeline_pb2.GetRunResponse(run=run, descriptor_set=types)

    async def ListRuns(self, request: pipeline_pb2.ListRunsRequest, context: _Context) -> pipeline_pb2.ListRunsResponse:  # noqa: N802 # gRPC's name
        """Runs, newest first."""
        self._check_caller(context)
        statuses = tuple(RunStatus(status) for status in request.statuses if status)
        await self._store.flush()
        runs = await self._store.list_runs(request.pipeline, statuses, request.limit or 50, request.before)
        running, wall = self._runner.running, self._clock.wall()
        return pipeline_pb2.ListRunsResponse(runs=[_until_now(run, wall) if run.id in running else run for run in runs])

    async def CancelRun(  # noqa: N802 # gRPC's name
        self, request: pipeline_pb2.CancelRunRequest, context: _Context
    ) -> pipeline_pb2.CancelRunResponse:
        """Cancels a run of this process."""
        self._credentials.check_token(context.invocation_metadata())
        if request.run_id in self._runner.running:
            self._runner.cancel(request.run_id)
            return pipeline_pb2.CancelRunResponse(status=pipeline_pb2.RUN_STATUS_CANCELLED)
        run = await self._get(request.run_id)
        if not RunStatus(run.status).ended:
            raise UnknownRun(f"run {run.id} is not of this process but of {run.owner}; cancel it there")
        return pipeline_pb2.CancelRunResponse(status=run.status)

    async def Plan(self, request: pipeline_pb2.PlanRequest, context: _Context) -> pipeline_pb2.PlanResponse:  # noqa: N802 # gRPC's name
        """Chains of agents."""
        del context
        return await self._find_plans(request)

    async def PutPipeline(  # noqa: N802 # gRPC's name
        self, request: pipeline_pb2.PutPipelineRequest, context: _Context
    ) -> pipeline_pb2.PutPipelineResponse:
        """Stores a pipeline."""
        self._credentials.check_token(context.invocation_metadata())
        return pipeline_pb2.PutPipelineResponse(pipeline=await self._shelf.put(request.text))

    async def GetPipeline(  # noqa: N802 # gRPC's name
        self, request: pipeline_pb2.GetPipelineRequest, context: _Context
    ) -> pipeline_pb2.GetPipelineResponse:
        """One pipeline, served or stored."""
        del context
        return pipeline_pb2.GetPipelineResponse(pipeline=await self._shelf.get(request.name))

    async def ListPipelines(  # noqa: N802 # gRPC's name
        self, request: pipeline_pb2.ListPipelinesRequest, context: _Context
    ) -> pipeline_pb2.ListPipelinesResponse:
        """All pipelines, served or stored."""
        del request, context
        return pipeline_pb2.ListPipelinesResponse(pipelines=await self._shelf.list())

    async def DeletePipeline(  # noqa: N802 # gRPC's name
        self, request: pipeline_pb2.DeletePipelineRequest, context: _Context
    ) -> pipeline_pb2.DeletePipelineResponse:
        """Forgets a stored pipeline."""
        self._credentials.check_token(context.invocation_metadata())
        await self._store.delete_pipeline(request.name)
        return pipeline_pb2.DeletePipelineResponse()

    async def PutDefinition(  # noqa: N802 # gRPC's name
        self, request: pipeline_pb2.PutDefinitionRequest, context: _Context
    ) -> pipeline_pb2.PutDefinitionResponse:
        """Stores how an agent is started."""
        self._credentials.check_token(context.invocation_metadata())
        definition = request.definition
        definition.stored_at.CopyFrom(to_timestamp(self._clock.wall()))
        await self._store.put_definition(definition)
        return pipeline_pb2.PutDefinitionResponse(definition=definition)

    async def ListDefinitions(  # noqa: N802 # gRPC's name
        self, request: pipeline_pb2.ListDefinitionsRequest, context: _Context
    ) -> pipeline_pb2.ListDefinitionsResponse:
        """All stored definitions."""
        del request, context
        return pipeline_pb2.ListDefinitionsResponse(definitions=await self._store.list_definitions())

    async def DeleteDefinition(  # noqa: N802 # gRPC's name
        self, request: pipeline_pb2.DeleteDefinitionRequest, context: _Context
    ) -> pipeline_pb2.DeleteDefinitionResponse:
        """Forgets a definition."""
        self._credentials.check_token(context.invocation_metadata())
        await self._store.delete_definition(request.name)
        return pipeline_pb2.DeleteDefinitionResponse()

    # -- inside --------------------------------------------------------------

    def _check_caller(self, context: _Context) -> None:
        """Lets a call pass that is guarded where the calls of agents are; Run is a second door to what they do."""
        if self._guard_calls:
            self._credentials.check_token(context.invocation_metadata())

    def _check_serving(self, pipeline: str) -> None:
        if self._draining(pipeline):
            raise Draining(f"{pipeline or 'this process'} is draining here; run it at another endpoint")

    async def _claimed(self, run_id: str) -> tuple[plans.Plan, Resumption]:
        """An interrupted run, taken over, and its plan; it is given back where that cannot be made."""
        self._runner.check_resumes()
        resumption = await self._store.claim(run_id, self._runner.owner)
        try:
            return await self._shelf.of_json(resumption.spec), resumption
        except BaseException:
            await self._store.release(run_id, self._runner.owner)
            raise

    def _begin(self, run: Awaitable[Outcome], name: str) -> asyncio.Task[AtomeshError | None]:
        """A run in a task of its own, which a drain waits for."""
        task = self._tasks.spawn(_ended(run), name)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _get(self, run_id: str) -> pipeline_pb2.Run:
        """A run under way here as it stands, any other as it is kept."""
        record = self._runner.running.get(run_id)
        if record is not None:
            return _until_now(record.to_proto(MAX_OUTPUT), self._clock.wall())
        await self._store.flush()
        return await self._store.get_run(run_id)

    async def _followed(
        self, plan: plans.Plan, run: Callable[[Callable[[Event], None]], Awaitable[Outcome]], *, stage_outputs: bool
    ) -> AsyncGenerator[pipeline_pb2.RunEvent, None]:
        """A run's events. One that nobody follows any more is cancelled, unless it is durable."""
        events: asyncio.Queue[pipeline_pb2.RunEvent | None] = asyncio.Queue()

        def listen(event: Event) -> None:
            # Made at once: what it tells of goes on changing.
            events.put_nowait(to_proto(event, self._clock.wall(), _FINAL_OUTPUT, stage_outputs=stage_outputs))

        task = self._begin(run(listen), "run")
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            error = task.result()
            if error is not None and not isinstance(error, RunFailed | RunCancelled):
                raise error  # it never began
        finally:
            if not plan.spec.durable:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


def _until_now(run: pipeline_pb2.Run, wall: float) -> pipeline_pb2.Run:
    """A run under way, with the time that it and its stages have taken so far."""
    set_duration(run.duration, max(0.0, wall - from_timestamp(run.started_at)))
    for stage in run.stages:
        if stage.status == pipeline_pb2.STAGE_STATUS_RUNNING:
            set_duration(stage.duration, max(0.0, wall - from_timestamp(stage.started_at)))
    return run


async def _ended(run: Awaitable[Outcome]) -> AtomeshError | None:
    """Why a run did not go well; what began says so in its record and by its last event too."""
    try:
        await run
    except AtomeshError as error:
        return error
    return None
