"""Runs plans: one deadline over all stages, a record of everything, and an end for every run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import sys
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import Message

from atomesh.balancer import Client
from atomesh.core import errors
from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.context import Context, current_tracer
from atomesh.core.contract import known_class
from atomesh.core.errors import AtomeshError
from atomesh.core.tracing import Tracer
from atomesh.pipelines.checkpoints import Checkpoints
from atomesh.pipelines.errors import (
    Interrupted,
    NotResumable,
    RunCancelled,
    RunExists,
    RunFailed,
    StoreUnavailable,
    UnknownRun,
)
from atomesh.pipelines.events import Event, Listener, RunEnded, RunStarted
from atomesh.pipelines.metrics import PipelineMetrics
from atomesh.pipelines.middleware import Middleware, Provider, RunObserver
from atomesh.pipelines.opening import is_run_id, open_run
from atomesh.pipelines.plan import Plan
from atomesh.pipelines.providers import provide
from atomesh.pipelines.record import Failure, RunRecord, RunStatus, StageStatus, packed
from atomesh.pipelines.running import Outcome, Run
from atomesh.pipelines.schedule import run_stages
from atomesh.pipelines.stage import Stages
from atomesh.pipelines.store.base import Resumption, RunStore
from atomesh.pipelines.tracing import RunTrace

log = logging.getLogger("atomesh.pipelines")

_LAST_SECONDS = 0.05
"""Whoever leaves within the last of the time that he gave was out of it: his own
clock began before ours, by the way from him to here. Half may be too little
for a busy machine; at ten times a cancellation is taken for it."""


class Runner:
    """Runs plans over one client of the mesh.

    async with Runner(mesh) as runner:
        outcome = await runner.run(plan, TextInput(content="..."))
        print(outcome.output, outcome.record.status)
    """

    def __init__(
        self,
        mesh: Client,
        *,
        store: RunStore | None = None,
        checkpoints: Checkpoints | None = None,
        providers: Mapping[str, Provider] | None = None,
        middleware: Sequence[Middleware] = (),
        observers: Sequence[RunObserver] = (),
        metrics: PipelineMetrics | None = None,
        tracer: Tracer | None = None,
        owner: str = "",
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        """`store` keeps what became of runs; `checkpoints`, the outputs of durable ones. `owner` names this process.

        With a `tracer` runs and their stages are spans; one inside an execution that is traced is, without.
        """
        self.store = store
        self.owner = owner
        self._checkpoints = checkpoints
        self._providers = dict(providers or {})
        self._observers = tuple(observers)
        self.metrics = metrics or PipelineMetrics()
        self._tracer = tracer
        self._clock = clock
        rng = rng or random.Random()
        self._stages = Stages(mesh, clock=clock, rng=rng, middleware=middleware, checkpoints=checkpoints)
        self._runs: dict[str, Run] = {}
        self._detached: set[asyncio.Task[Outcome]] = set()
        """Durable runs, which outlive their callers."""
        self._tidying: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes."""
        await self.close()

    async def close(self) -> None:
        """Cancels what runs, and returns when it has ended; durable runs are interrupted, and can be resumed."""
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for run_id, run in list(self._runs.items()):
            if run.record.durable and run.task is not None:
                run.task.cancel()
            else:
                self.cancel(run_id)
        await asyncio.gather(*(task for task in tasks if task is not asyncio.current_task()), return_exceptions=True)
        await asyncio.gather(*self._tidying)

    @property
    def running(self) -> Mapping[str, RunRecord]:
        """The records of the runs under way, by id."""
        return {run_id: run.record for run_id, run in self._runs.items()}

    async def run(
        self,
        plan: Plan,
        input: Message,
        *,
        timeout: float | None = None,
        context: Context | None = None,
        run_id: str = "",
        listener: Listener | None = None,
    ) -> Outcome:
        """Runs the plan to its end. A durable one goes on where its caller is cancelled; `cancel` ends it.

        `timeout` is in seconds; inside an agent a run never outlives its caller.
        `listener` is called with each event as it happens.

        Raises:
            WrongType: the input is not what the pipeline takes.
            RunExists: there is a run of that id, under way here or in the store.
            RunFailed: a stage failed for good; `run` is the record.
            RunCancelled: `cancel` was called.
        """
        if run_id and self.store is not None and not plan.spec.durable:
            await self._check_free(self.store, run_id)
        run = self._new(plan, input, timeout, context, run_id)
        run.listener = listener
        if plan.spec.durable:
            await self._begin_durable(run)
            return await self._detach(run)
        if self.store is not None:
            self.store.begin(run.record)
        return await self._go(run)

    async def stream(self, plan: Plan, input: Message, **options: Any) -> AsyncGenerator[Event, None]:
        """Runs the plan and gives each event as it happens; the last one is RunEnded, however the run ended.

        Takes the options of `run`. Whoever stops reading cancels the run.
        """
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        task = asyncio.create_task(self.run(plan, input, listener=events.put_nowait, **options), name="run")
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, RunFailed | RunCancelled):
                raise error
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def resume(
        self, plan: Plan, resumption: Resumption, *, repeat_interrupted: bool = False, listener: Listener | None = None
    ) -> Outcome:
        """Goes on with a durable run that was interrupted, claimed from the store; finished stages are not repeated.

        Raises:
            NotResumable: there are no checkpoints here.
            As `run`.
        """
        self.check_resumes()
        message = plan.contract.input.FromString(resumption.input.value)
        run = self._new(plan, message, None, Context.from_proto(resumption.context), resumption.run_id)
        run.listener, run.repeat_interrupted, run.record.durable = listener, repeat_interrupted, True
        run.record.started_at = resumption.started_at or run.record.started_at
        run.resumed = True
        return await self._detach(run)

    def check_resumes(self) -> None:
        """Returns where runs can be resumed; to be asked before one is claimed.

        Raises:
            NotResumable: there are no checkpoints here.
        """
        if self._checkpoints is None:
            raise NotResumable("this process keeps no checkpoints; resume the run where durable pipelines run")

    def cancel(self, run_id: str) -> None:
        """Cancels a run: what is in flight downstream is cancelled at once.

        Raises:
            UnknownRun: no run of that id is under way here.
        """
        run = self._runs.get(run_id)
        if run is None:
            raise UnknownRun(f"no run {run_id!r:.80} is under way here; `atomesh runs ls` lists those there were")
        if run.task is asyncio.current_task():
            # A task cannot be interrupted by itself: in its next turn, if the run has one.
            asyncio.get_running_loop().call_soon(self._interrupt, run)
        else:
            self._interrupt(run)

    def _interrupt(self, run: Run) -> None:
        if not run.cancelled and run.task is not None and self._runs.get(run.record.id) is run:
            run.cancelled = True
            run.task.cancel()

    # -- a run's way ---------------------------------------------------------

    def _new(self, plan: Plan, input: Message, timeout: float | None, context: Context | None, run_id: str) -> Run:
        run = open_run(
            plan, input, run_id=run_id, timeout=timeout, context=context, clock=self._clock, metrics=self.metrics
        )
        if run.record.id in self._runs:
            raise RunExists(f"run {run.record.id} is under way already; give each run an id of its own")
        run.record.owner, run.observers = self.owner, self._observers
        return run

    async def _check_free(self, store: RunStore, run_id: str) -> None:
        """Lets an id pass that somebody gave. A store that is away stops no run, and cannot tell."""
        with contextlib.suppress(UnknownRun, StoreUnavailable):
            if is_run_id(run_id) and run_id not in self._runs:
                await store.get_run(run_id)
                raise RunExists(f"there is a run {run_id} already; name another, or leave the id out")

    async def _begin_durable(self, run: Run) -> None:
        if self._checkpoints is None or self.store is None:
            raise errors.Conflict(
                f"pipeline {run.plan.name} is durable, and this process keeps no checkpoints; "
                'install "atomesh[durable]", or say durable: false'
            )
        spec = run.plan.spec.model_dump_json(exclude_defaults=True)
        context, record = run.context.to_proto(), run.record
        await self.store.begin_durable(
            record, Resumption(record.id, spec, packed(run.values["input"]), context, self.owner)
        )

    async def _detach(self, run: Run) -> Outcome:
        """Runs it in a task of its own, which its caller waits for and does not take along when it goes away."""
        task = asyncio.create_task(self._go(run), name=f"run {run.record.id}")
        self._detached.add(task)
        task.add_done_callback(self._detached.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # What becomes of it is in its record; nobody is left to be told.
            task.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())
            raise

    async def _go(self, run: Run) -> Outcome:
        """Runs it in the caller's own task, and sees to its end."""
        begun, record = self._clock.now(), run.record
        run.task = asyncio.current_task()
        self._runs[record.id] = run
        run.series.running += 1
        if (tracer := self._tracer or current_tracer()) is not None:
            run.trace = RunTrace(tracer, record, run.context)
            run.context = run.trace.context
        if run.observers:
            run.observe("run_started")
        if run.listener is not None:
            run.tell(RunStarted(record))
        try:
            if run.plan.spec.providers:
                await provide(run, self._providers, self._clock)
            await run_stages(self._stages, run)
            record.output = output = run.plan.output(run.values)
            if output is None:
                raise errors.InvalidArgument("nothing came of the stage that the output is of; give it a default")
            record.output_bytes = output.ByteSize()
            record.status = _how(record)
        except asyncio.CancelledError as error:
            record.status = RunStatus.CANCELLED
            if not (run.cancelled or record.durable) and self._clock.now() >= run.deadline - _LAST_SECONDS:
                self._blame(run, errors.DeadlineExceeded("the run's time was up, and its caller's with it"))
            if not run.cancelled or run.task is None or run.task.uncancel() > 0:
                raise  # it is the caller who is cancelled, or it as well
            raise RunCancelled(f"run {record.id} was cancelled", record) from error
        except Interrupted:
            record.status = RunStatus.RUNNING  # it waits: to be resumed, by whoever has a word to say
            if self.store is not None:
                await self._give_up(self.store, record)
            raise
        except AtomeshError as error:
            self._blame(run, error)
            raise RunFailed(record) from error
        finally:
            self._ended(run, begun)
        return Outcome(_ours(output), record)

    def _ended(self, run: Run, begun: float) -> None:
        record, waits = run.record, isinstance(sys.exception(), Interrupted)
        if not (record.status.ended or waits):  # what no error of the mesh is: a mistake in a provider, or here
            record.status = RunStatus.FAILED
        record.seconds, record.ended_at = self._clock.now() - begun, 0.0 if waits else self._clock.wall()
        if run.resumed:  # since it first began, in another process: its clocks are not ours, but for the wall's
            record.seconds = max(record.seconds, self._clock.wall() - record.started_at)
        del self._runs[record.id]
        run.series.running -= 1
        run.series.run_ended(record)
        if run.trace is not None:
            run.trace.end(record)
        interrupted = record.durable and record.status is RunStatus.CANCELLED and not run.cancelled
        if self.store is not None and not (interrupted or waits):
            self.store.end(record)
            if record.durable and self._checkpoints is not None:
                self._afterwards(self._forget(self.store, self._checkpoints, record.id))
        elif self.store is not None and interrupted:
            self._afterwards(self._give_up(self.store, record))
        if run.observers:
            run.observe("run_ended")
        if run.listener is not None:
            run.tell(RunEnded(record))

    def _afterwards(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="after a run")
        self._tidying.add(task)
        task.add_done_callback(self._tidying.discard)

    async def _give_up(self, store: RunStore, record: RunRecord) -> None:
        """Whoever can go on with a durable run may have it, though this process lives."""
        try:
            await store.release(record.id, record.owner)
        except StoreUnavailable as error:
            log.warning("run %s stays this process's, which does not go on with it: %s", record.id, error)

    async def _forget(self, store: RunStore, checkpoints: Checkpoints, run_id: str) -> None:
        """Lets go of a run's checkpoints once its end is on the disk; before, they are what it would go on from."""
        try:
            await store.flush()
            await checkpoints.forget(run_id)
        except StoreUnavailable as error:
            log.warning("the checkpoints of run %s stay, though it has ended: %s", run_id, error)

    def _blame(self, run: Run, error: AtomeshError) -> None:
        record = run.record
        record.status = RunStatus.FAILED
        failed = [stage for stage in record.stages if stage.status is StageStatus.FAILED]
        failed = failed or [stage for stage in record.stages if stage.status is StageStatus.CANCELLED]
        # Branches may have failed in one turn; the run's error is that of one of them.
        stage = next((stage for stage in failed if stage.error == str(error)), failed[0] if failed else None)
        name, spent = (stage.stage, stage.retries_exhausted) if stage is not None else ("", False)
        record.failure = Failure(name, error.reason, str(error), spent)
        if stage is None or not stage.attempts:
            run.note(self._clock.wall(), name, 0, error)


def _ours(output: Message) -> Message:
    """The output in this process's own class of its type, where there is one."""
    found = known_class(output.DESCRIPTOR.full_name)
    if found is None or isinstance(output, found):
        return output
    return found.FromString(output.SerializeToString())


def _how(record: RunRecord) -> RunStatus:
    skipped = any(stage.status is StageStatus.SKIPPED or stage.items_skipped for stage in record.stages)
    return RunStatus.PARTIAL if skipped else RunStatus.SUCCESS
