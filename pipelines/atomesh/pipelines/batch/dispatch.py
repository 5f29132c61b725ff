"""Sends a batch's inputs: a lane for each target, a task for each call that is outstanding."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from atomesh.core.context import Context
from atomesh.core.errors import AtomeshError
from atomesh.pipelines.batch.analysis import Analysis
from atomesh.pipelines.batch.executor import Executor
from atomesh.pipelines.batch.inputs import Job
from atomesh.pipelines.batch.items import failed, finished, interrupted
from atomesh.pipelines.batch.lane import Lane
from atomesh.pipelines.batch.model import BatchItem, BatchSettings, Executed
from atomesh.pipelines.batch.results import Results
from atomesh.pipelines.batch.window import shares

log = logging.getLogger(__name__)


class Desk(Protocol):
    """Where results go, and what happens besides."""

    id: str
    results: Results
    analysis: Analysis

    def put(self, item: BatchItem) -> None:
        """An item has its outcome."""
        ...

    def starting(self, keys: list[str]) -> None:
        """These are about to be sent."""
        ...

    def settle(self) -> None:
        """Something ended: what follows is due."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        """Runs something beside; what it raises ends the batch."""
        ...

    def guarded(self, step: Callable[..., None], *given: Any) -> None:
        """Takes a step; what it raises ends the batch."""
        ...


class Dispatch:
    """The lanes and calls of one batch."""

    def __init__(self, desk: Desk, executor: Executor, settings: BatchSettings, context: Context) -> None:
        """None yet; `context` is what each call's begins with, the item's key is appended to its own."""
        self._desk = desk
        self._executor = executor
        self._clock = executor.clock
        self._settings = settings
        self._context = context
        self._lanes: dict[str, Lane] = {}
        self._calls: set[asyncio.Task[Executed]] = set()
        self.held = 0
        """Inputs that were read and not begun."""

    @property
    def outstanding(self) -> int:
        """Calls that have not ended."""
        return len(self._calls)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do, as long as nothing more comes."""
        return not (self.held or self._calls)

    @property
    def throttled(self) -> bool:
        """Whether inputs wait because others have slots."""
        return any(lane.held and lane.window.throttled for lane in self._lanes.values())

    def add(self, job: Job, *, met: bool) -> None:
        """Takes an input; `met` is whether its target is known already."""
        lane = self._lanes.get(job.name)
        if lane is None:
            lane = self._lanes[job.name] = Lane(job.name, job.target)
            self._desk.spawn(self._follow(lane, met), f"capacity of {job.name}")
        lane.held.append(job)
        self.held += 1
        self.pump()

    def pump(self) -> None:
        """Begins as many calls as there are windows, inputs and room for their results."""
        if not self.held or self._desk.analysis.ended is not None:
            return
        now = self._clock.now()
        lanes = [lane for lane in self._lanes.values() if lane.held and lane.met]
        for lane in lanes:
            if lane.window.due(now):
                self._look(lane)
        counts = self._counts(lanes)
        jobs = [(lane, lane.held.popleft()) for lane, count in zip(lanes, counts, strict=True) for _ in range(count)]
        if not jobs:
            return
        self.held -= len(jobs)
        self._desk.starting([job.key for _, job in jobs])
        for lane, job in jobs:
            self._begin(lane, job)
        self._desk.analysis.outstanding(len(self._calls), now)

    def stop(self) -> None:
        """Forgets what is held and cancels what runs; each call still has its end."""
        self.held = 0
        for lane in self._lanes.values():
            lane.held.clear()
        for task in self._calls:
            task.cancel()

    async def ended(self) -> None:
        """Returns when no call is outstanding."""
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _counts(self, lanes: list[Lane]) -> list[int]:
        """How many of each lane begin now."""
        wants = [lane.want() for lane in lanes]
        cap = self._settings.max_concurrency
        room = self.held if cap is None else max(0, cap - len(self._calls))
        results = self._desk.results
        if len(results) < self._settings.unread_limit:
            return shares(wants, room)
        # Nobody reads. In order they may be unable to: then the one that they wait for begins.
        awaited = results.next if self._settings.ordered else None
        first = (lane.held[0].index == awaited for lane in lanes)
        return [min(1, room, want.wanted) if is_next else 0 for want, is_next in zip(wants, first, strict=True)]

    async def _follow(self, lane: Lane, met: bool) -> None:
        """Keeps a lane's window at what its target can take."""
        try:
            if not met:
                await self._executor.meet(lane.target, self._settings.timeout)
        except AtomeshError as error:
            self._lost(lane, error)
            return
        lane.met = True
        try:
            while True:
                self._look(lane)
                self._desk.settle()
                await self._executor.changed(lane.target, lane.window.capacity)
        except AtomeshError as error:  # the calls will say so themselves, each for itself
            log.warning("nobody tells of the capacity of %s any more: %s", lane.name, error)

    def _lost(self, lane: Lane, error: AtomeshError) -> None:
        """Nobody is there: what is held for the lane has failed, and the next one asks again."""
        del self._lanes[lane.name]
        self.held -= len(lane.held)
        for job in lane.held:
            self._desk.put(failed(job.index, job.key, job.name, error))
        self._desk.settle()

    def _look(self, lane: Lane) -> None:
        now = self._clock.now()
        capacity = self._executor.capacity(lane.target)
        if capacity.slots != lane.window.capacity.slots:
            self._desk.analysis.slots(lane.name, capacity.slots, now)
        lane.look(capacity, now)

    def _begin(self, lane: Lane, job: Job) -> None:
        lane.outstanding += 1
        task = asyncio.create_task(self._call(job), name=f"item {job.key} of batch {self._desk.id}")
        self._calls.add(task)
        task.add_done_callback(partial(self._desk.guarded, self._ended, lane, job))

    async def _call(self, job: Job) -> Executed:
        job.begun = self._clock.now()
        context = self._context.with_key(f"{self._context.idempotency_key}/{job.key}")
        timeout = self._settings.item_timeout
        return await self._executor.execute(job.target, job.input, timeout=timeout, context=context)

    def _ended(self, lane: Lane, job: Job, task: asyncio.Task[Executed]) -> None:
        """A call ended, well or not."""
        self._calls.discard(task)
        lane.outstanding -= 1
        now = self._clock.now()
        self._desk.analysis.outstanding(len(self._calls), now)
        if task.cancelled():
            if job.begun is not None:
                self._desk.put(interrupted(job, now, self._desk.analysis.ended))
        elif (error := task.exception()) is None:
            executed = task.result()
            item = finished(job, now, executed)
            lane.ended(item, executed.around)
            self._desk.put(item)
        elif isinstance(error, Exception):
            self._desk.put(failed(job.index, job.key, job.name, error, now - (now if job.begun is None else job.begun)))
        self._desk.settle()
