"""A batch while it runs: reads inputs, hands them on, gives results out, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from atomesh.core.context import Context, current_scope, new_request_id
from atomesh.pipelines.batch.analysis import Analysis
from atomesh.pipelines.batch.dispatch import Dispatch
from atomesh.pipelines.batch.errors import BatchFailed, EmptyBatch
from atomesh.pipelines.batch.executor import Executor
from atomesh.pipelines.batch.inputs import Inputs, Job, length, opened, parted
from atomesh.pipelines.batch.items import failed
from atomesh.pipelines.batch.model import (
    PAIRS,
    BatchItem,
    BatchSettings,
    BatchSummary,
    Ended,
    Pairs,
    Progress,
    Target,
)
from atomesh.pipelines.batch.observer import BatchObserver, Throttle
from atomesh.pipelines.batch.results import Results
from atomesh.rpc.tasks import Tasks

_READY = 16
"""Inputs of one target that are read ahead, so that a source that takes its time has
one at hand when a slot comes free."""

_TICK_SECONDS = 0.05
"""Between two looks at a fleet that others use too: so long their news are believed
(`balancer.candidate.LOAD_NEWS_SECONDS`)."""

_PROGRESS_SECONDS = 0.1
"""Between two words of progress: a terminal shows no more, and they cost nothing so."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who looks on."""

    observer: BatchObserver
    progress: Callable[[Progress], None] | None


class Batch:
    """A batch while it runs: an async iterator over its items. Made by `open_batch`."""

    def __init__(
        self,
        executor: Executor,
        target: Target | Pairs,
        inputs: Inputs,
        settings: BatchSettings,
        watch: Watch,
    ) -> None:
        """Nothing is done before it is entered."""
        self.id = settings.id or new_request_id()[:16]
        self.results = Results(ordered=settings.ordered)
        name = PAIRS.value if target is PAIRS else executor.name(target)
        self.analysis = Analysis(self.id, name, settings, executor.clock.now(), length(inputs))
        self._executor = executor
        self._clock = executor.clock
        self._target = target
        self._name = name
        self._inputs = inputs
        self._settings = settings
        self._observer = watch.observer
        self._progress = watch.progress
        self._throttle = Throttle(_PROGRESS_SECONDS)
        self._dispatch = Dispatch(self, executor, settings, _context(settings, self.id))
        self._tasks = Tasks()
        self._reader: asyncio.Task[None] | None = None
        self._read_all = False
        self._over = False
        self._broken: Exception | None = None
        """What should not have happened: an observer's error, or our own."""
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Begins.

        Raises:
            AtomeshError: the target is not known, or nobody can tell.
        """
        begun, timeout = self._clock.now(), self._settings.timeout
        if self._target is not PAIRS:
            await self._executor.meet(self._target, timeout)
        self._observer.started(self.id, self._name)
        self.spawn(self._time_out(begun + timeout - self._clock.now()), "timeout")
        self.spawn(self._tick(), "tick")
        self._reader = self.spawn(self._read(), "inputs")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends: what runs is cancelled, and has ended when this returns."""
        self.stop()
        try:
            await self._tasks.cancel()
        finally:
            await self._dispatch.ended()
        self._finish()

    def __aiter__(self) -> Self:
        """Itself: there is one reader."""
        return self

    async def __anext__(self) -> BatchItem:
        """The next item that has an outcome.

        Raises:
            StopAsyncIteration: there are no more.
            EmptyBatch: there was no input at all.
            BatchFailed: there are no more, it is strict, and something failed.
        """
        while True:
            if self._broken is not None:
                raise self._broken
            full = len(self.results) >= self._settings.unread_limit
            if (item := self.results.take()) is not None:
                if full:
                    self._dispatch.pump()
                    self._room.set()
                return item
            if self._over:
                self._conclude()
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()

    def summary(self) -> BatchSummary:
        """The analytics so far, or once it is over the final ones."""
        return self.analysis.summary(self._clock.now())

    def stop(self) -> None:
        """Begins nothing more and cancels what runs; what has finished can still be read."""
        self._stop(Ended.STOPPED)

    # -- what happens --------------------------------------------------------

    def put(self, item: BatchItem) -> None:
        """An item has its outcome."""
        self.analysis.item(item, self._clock.now())
        self.results.put(item)
        self._observer.item_ended(self.id, item)
        self._changed.set()

    def starting(self, keys: list[str]) -> None:
        """These items are about to be sent."""
        self._observer.items_starting(self.id, keys)

    def settle(self) -> None:
        """After something ended: what follows it, or the end."""
        self._dispatch.pump()
        self._tell()
        if not self._full():
            self._room.set()
        if self._read_all and not self._dispatch.held:
            self.analysis.fed(self._clock.now())
            if self._dispatch.idle:
                self._stop(Ended.BROKEN_INPUTS if self.analysis.inputs_error else Ended.INPUTS)
                self._finish()

    def spawn(self, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        """Runs something beside, until the batch is left; what it raises ends the batch."""
        return self._tasks.spawn(self._watched(work), f"batch {self.id}: {what}")

    def guarded(self, step: Callable[..., None], *given: Any) -> None:
        """Takes a step; what it raises ends the batch."""
        try:
            step(*given)
        except Exception as error:  # noqa: BLE001 # raised again where the batch is read
            self._break(error)

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 # raised again where the batch is read
            self._break(error)

    def _break(self, error: Exception) -> None:
        """An observer, or we ourselves, did what should not happen: the reader hears of it."""
        self._broken = self._broken or error
        self._changed.set()
        self._stop(Ended.STOPPED)

    # -- inputs --------------------------------------------------------------

    async def _read(self) -> None:
        """Reads inputs as long as there is room for them."""
        async with opened(self._inputs) as inputs:
            while True:
                try:
                    given = await anext(inputs)
                except StopAsyncIteration:
                    break
                except Exception as error:  # noqa: BLE001 # whatever the caller's iterable raises is its end
                    self.analysis.inputs_error = f"{type(error).__name__}: {error}"
                    break
                self._take_in(given)
                while self._full():
                    self._room.clear()
                    await self._room.wait()
        self._read_all = True
        self.settle()

    def _full(self) -> bool:
        ahead = self._settings.look_ahead if self._target is PAIRS else _READY
        return self._dispatch.held >= ahead or len(self.results) >= self._settings.unread_limit

    def _take_in(self, given: Any) -> None:
        """Hands an input on, or says at once what is wrong with it."""
        index = self.analysis.read
        self.analysis.took_in()
        key, name = str(index), ""
        try:
            part, target = parted(given, self._target)
            key = part.key or key
            name = "" if target is PAIRS else self._executor.name(target)
            if isinstance(part.input, Exception):
                raise part.input
        except Exception as error:  # noqa: BLE001 # whatever an input is, it is one item
            self.put(failed(index, key, name, error))
            return
        self._dispatch.add(Job(index, key, target, name, part.input), met=target is self._target)

    # -- the end -------------------------------------------------------------

    def _stop(self, why: Ended) -> None:
        """Begins nothing more. The first reason counts."""
        if self.analysis.ended is not None:
            return
        self.analysis.ended = why
        self.analysis.fed(self._clock.now())
        self._read_all = True
        if self._reader is not None and self._reader is not asyncio.current_task():
            self._reader.cancel()
        self._dispatch.stop()
        if self._dispatch.idle:
            self._finish()

    def _finish(self) -> None:
        """Nothing runs any more."""
        if self._over:
            return
        self._over = True
        self.results.close_gaps()
        self.analysis.over(self._clock.now())
        self._observer.ended(self.summary())
        self._tell()
        self._changed.set()

    def _conclude(self) -> None:
        summary = self.summary()
        if not summary.total and summary.ended is Ended.INPUTS:
            raise EmptyBatch("the batch is empty: there is no input; give it one at least")
        if self._settings.strict and not summary.clean:
            raise BatchFailed(summary)

    async def _time_out(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._stop(Ended.TIMEOUT)

    async def _tick(self) -> None:
        """Grows windows again that others had narrowed, though nothing of ours ends."""
        while not self._over:
            await self._clock.sleep(_TICK_SECONDS)
            if self._dispatch.throttled:
                self.settle()
            self._tell()

    def _tell(self) -> None:
        now = self._clock.now()
        if self._progress is not None and (self._over or self._throttle.passes(now)):
            self._progress(self.analysis.progress(self._dispatch.outstanding, now))


def _context(settings: BatchSettings, batch_id: str) -> Context:
    """What each call's context begins with; the key of the item is appended."""
    scope = current_scope()
    context = settings.context or (Context() if scope is None else scope.child())
    return replace(context, idempotency_key=context.idempotency_key or batch_id)
