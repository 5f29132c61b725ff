"""Runs plans: stages as soon as what they need is there, one deadline over all, a record of everything.

A run whose stages follow one another is one task, its caller's; only branches
that run side by side are tasks of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import random
import re
import sys
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import Message

from atomesh.balancer import Client
from atomesh.core import errors
from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.context import Context, current_scope, new_request_id
from atomesh.core.contract import known_class
from atomesh.core.errors import AtomeshError
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
from atomesh.pipelines.middleware import Middleware, Provider, RunObserver, authored
from atomesh.pipelines.plan import Plan, Step
from atomesh.pipelines.record import Failure, RunRecord, RunStatus, StageRecord, StageStatus, packed
from atomesh.pipelines.running import Outcome, Run
from atomesh.pipelines.stage import Stages
from atomesh.pipelines.store.base import Resumption, RunStore

log = logging.getLogger("atomesh.pipelines")

_MAX_CONTEXT_VALUE = 4096  # bytes, as context.proto says
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # as pipeline.proto says
_NEVER = 1e9  # seconds
_LAST_SECONDS = 0.05
"""Whoever leaves within the last of the time that he gave was out of it: his own
clock began before ours, by the way from him to here. Half may be too little
for a busy machine; at ten times a cancellation is taken for it."""
_UNDOING = 0.2
"""Part of a caller's time that is kept for undoing. A tenth of half a minute is little
for a call or two; with two fifths of it, stages fail that would have gone well."""


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
        owner: str = "",
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        """`store` keeps what became of runs; `checkpoints`, the outputs of durable ones. `owner` names this process."""
        self.store = store
        self.owner = owner
        self._checkpoints = checkpoints
        self._providers = dict(providers or {})
        self._observers = tuple(observers)
        self.metrics = metrics or PipelineMetrics()
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
        taken = plan.contract.input
        if not isinstance(input, taken):
            input = _converted(plan, input)
        if timeout is not None and not 0 < timeout < _NEVER:  # nor is NaN
            raise errors.InvalidArgument(f"timeout {timeout!r} s is not a number of seconds above 0 and below 1e9")
        run_id = run_id or new_request_id()
        if not _RUN_ID.fullmatch(run_id):
            raise errors.InvalidArgument(f"run id {run_id!r:.80} is not 1 to 64 of A-Z, a-z, 0-9, _ and -")
        if run_id in self._runs:
            raise RunExists(f"run {run_id} is under way already; give each run an id of its own")
        now, scope = self._clock.now(), current_scope()
        deadline = now + (plan.spec.timeout if timeout is None else timeout)
        if scope is not None:
            # An execution is cut off at its deadline; what is to be undone is undone before.
            cut_off = scope.deadline - _kept_for_undoing(plan, scope.deadline - now)
            deadline = cut_off if timeout is None else min(deadline, cut_off)
            context = context or scope.child()
        wall = self._clock.wall()
        context = (context or Context.begun(wall)).with_request_id()
        key = context.idempotency_key or run_id
        if context.idempotency_key:  # which names the run; each of its calls is another piece of work
            context = replace(context, idempotency_key="")
        if plan.spec.context:
            context = replace(context, metadata={**context.metadata, **_travelling(plan.spec.context)})
        records = [StageRecord(step.id, step.target.agent, step.spec.name) for step in plan.steps]
        stages = {record.stage: record for record in records}
        if not plan.sequential:
            records.sort(key=lambda record: plan.order[record.stage])
        record = RunRecord(run_id, plan.name, plan.spec.version, wall, records)
        record.input_bytes, record.owner, record.durable = input.ByteSize(), self.owner, plan.spec.durable
        record.types = plan.types
        record.request_id, record.user_id = context.request_id, context.user_id
        series = self.metrics.of(plan.name)
        values = {"input": input}
        return Run(plan, record, context, deadline, series, values, stages, key, observers=self._observers)

    async def _check_free(self, store: RunStore, run_id: str) -> None:
        """Lets an id pass that somebody gave. A store that is away stops no run, and cannot tell."""
        with contextlib.suppress(UnknownRun, StoreUnavailable):
            if _RUN_ID.fullmatch(run_id) and run_id not in self._runs:
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
        if run.observers:
            run.observe("run_started")
        if run.listener is not None:
            run.tell(RunStarted(record))
        try:
            if run.plan.spec.providers:
                await self._provide(run)
            await self._all(run)
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

    async def _all(self, run: Run) -> None:
        """Runs every stage, each when what it needs has ended."""
        try:
            if run.plan.sequential:
                for step in run.plan.steps:
                    await self._stages.run(run, step)
            else:
                await self._branches(run)
        except AtomeshError as error:
            failed = next((s for s in run.plan.steps if run.stages[s.id].status is StageStatus.FAILED), None)
            if failed is not None and failed.spec.on_error == "compensate":
                if failed.undo is not None and error.executed is not False:
                    run.stages[failed.id].reason = "it may have run, and is not undone: nobody knows how far it came"
                for step in reversed(run.finished):
                    await self._stages.undo(run, step)
            raise

    async def _branches(self, run: Run) -> None:
        waiting = {step.id: set(step.needs) for step in run.plan.steps}
        steps = {step.id: step for step in run.plan.steps}
        running: dict[asyncio.Task[None], Step] = {}
        try:
            while waiting or running:
                ready = [steps[name] for name, needs in waiting.items() if not needs]
                for step in ready:
                    del waiting[step.id]
                if len(ready) == 1 and not running:
                    await self._stages.run(run, ready[0])
                    ended = ready
                else:
                    for step in ready:
                        task = asyncio.create_task(self._stages.run(run, step), name=f"stage {step.id}")
                        running[task] = step
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    done = [task for task in running if task.done()]  # in order, so that a run ends the same each time
                    ended = [running.pop(task) for task in done]
                    for task in done:
                        task.result()
                for needs in waiting.values():
                    needs.difference_update(step.id for step in ended)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

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

    async def _provide(self, run: Run) -> None:
        """What the declared providers give: what can travel goes into the context, the rest stays."""
        travelling: dict[str, Any] = {}
        resources: dict[str, Any] = {}
        for name in run.plan.spec.providers:
            provider = self._providers.get(name)
            if provider is None:
                raise errors.InvalidArgument(
                    f"pipeline {run.plan.name} declares the context provider {name!r}, which the runner was not given; "
                    f"make it Runner(mesh, providers={{{name!r}: ...}})"
                )
            left = run.deadline - self._clock.now()
            value = await authored(f"context provider {name}", _given(provider, run.record), left)
            (travelling if isinstance(value, str | int | float | bool | list | dict) else resources)[name] = value
        run.context = replace(run.context, metadata={**run.context.metadata, **_travelling(travelling)})
        run.resources = resources


async def _given(provider: Provider, run: RunRecord) -> Any:
    """What a provider gives, whether it is an `async def` or a plain one."""
    value = provider.provide(run)
    return await value if inspect.isawaitable(value) else value


def _kept_for_undoing(plan: Plan, left: float) -> float:
    """Seconds of those that are left in which no stage may run any more, where a failure is to be undone."""
    if not any(step.spec.on_error == "compensate" for step in plan.steps):
        return 0.0
    return min(sum(step.undo.timeout for step in plan.steps if step.undo is not None), left * _UNDOING)


def _travelling(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as context metadata: text as it is, the rest as JSON.

    Raises:
        InvalidArgument: one is no JSON, or too long.
    """
    said: dict[str, str] = {}
    for name, value in values.items():
        try:
            said[name] = text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise errors.InvalidArgument(f"context value {name!r:.80} cannot travel: {error}") from None
        if len(text.encode("utf-8", "replace")) > _MAX_CONTEXT_VALUE:
            raise errors.InvalidArgument(f"context value {name!r:.80} has more than {_MAX_CONTEXT_VALUE} bytes")
    return said


def _converted(plan: Plan, given: Message) -> Message:
    """An input in the plan's own class of its type.

    Raises:
        WrongType: it is of another type.
    """
    wanted = plan.contract.input_type
    name = given.DESCRIPTOR.full_name if isinstance(given, Message) else f"a {type(given).__name__}"
    if name != wanted:
        raise errors.WrongType(f"pipeline {plan.name} takes {wanted}, not {name}")
    return plan.contract.input.FromString(given.SerializeToString())


def _ours(output: Message) -> Message:
    """The output in this process's own class of its type, where there is one."""
    found = known_class(output.DESCRIPTOR.full_name)
    if found is None or isinstance(output, found):
        return output
    return found.FromString(output.SerializeToString())


def _how(record: RunRecord) -> RunStatus:
    skipped = any(stage.status is StageStatus.SKIPPED or stage.items_skipped for stage in record.stages)
    return RunStatus.PARTIAL if skipped else RunStatus.SUCCESS
