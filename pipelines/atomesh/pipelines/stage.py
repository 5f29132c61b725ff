"""One stage of a run: guard, input, attempts, and what goes on in place of an output."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from atomesh.balancer import Client
from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.core.errors import AtomeshError
from atomesh.pipelines.attempts import Attempts, Piece
from atomesh.pipelines.checkpoints import Checkpoints
from atomesh.pipelines.events import StageEnded, StageProgress, StageStarted
from atomesh.pipelines.middleware import Middleware, StageCall, authored
from atomesh.pipelines.plan import Step
from atomesh.pipelines.record import StageRecord, StageStatus
from atomesh.pipelines.running import Run

_T = TypeVar("_T")


class Stages:
    """Runs stages over one client."""

    def __init__(
        self,
        mesh: Client,
        *,
        clock: Clock,
        rng: random.Random,
        middleware: Sequence[Middleware] = (),
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """Middleware that comes first is outermost."""
        self._attempts = Attempts(mesh, clock, rng)
        self._clock = clock
        self._middleware = tuple(middleware)
        self._checkpoints = checkpoints

    async def run(self, run: Run, step: Step) -> None:
        """Runs the stage; its output, or what goes on in its place, is in the run's values afterwards.

        Raises:
            AtomeshError: it failed, and its `on_error` neither skips nor falls back.
        """
        record, begun = run.stages[step.id], self._clock.now()
        output: Any = None
        if run.trace is not None:
            run.trace.begin(record)
        try:
            if reason := self._left_out(run, step):
                record.status, record.reason = StageStatus.OMITTED, reason
                output = self._unrun(run, step)
            else:
                record.started_at, record.status = self._clock.wall(), StageStatus.RUNNING
                output = await self._work(run, step, record)
        except asyncio.CancelledError:
            record.status = StageStatus.CANCELLED
            raise
        except Exception as error:
            self._failed(record, error)
            record.status = StageStatus.FAILED
            raise
        finally:
            if record.ran:
                record.seconds = self._clock.now() - begun
            self._ended(run, step, output)

    async def undo(self, run: Run, step: Step) -> None:
        """Undoes a stage that went well; an error is in the run's log, and the others are undone all the same."""
        await self._attempts.undo(run, step)

    # -- a stage -------------------------------------------------------------

    def _left_out(self, run: Run, step: Step) -> str:
        """Why the stage does not run; empty where it does."""
        if step.reads and all(run.values.get(name) is None for name in step.reads):
            return f"nothing came of {' and '.join(step.reads)}"
        if step.when is not None and not step.when(run.values):
            return f"when {step.spec.when}"
        return ""

    @staticmethod
    def _unrun(run: Run, step: Step) -> Any:
        """What goes on from a stage that is left out: its default, for each item where it maps."""
        if step.default is None or step.over is None:
            return step.default
        return [step.default for _ in step.over(run.values) or ()]

    async def _work(self, run: Run, step: Step, record: StageRecord) -> Any:
        """The stage's output, or what goes on in its place."""
        if step.over is not None:
            output: Any = await self._items(run, step, record)
        else:
            if run.listener is not None:
                run.tell(StageStarted(run.record, record))
            output = await self._piece(Piece(run, step, record, step.id), run.values)
        if record.status is StageStatus.RUNNING:
            record.status = StageStatus.SUCCESS
            run.finished.append(step)
        return output

    def _ended(self, run: Run, step: Step, output: Any) -> None:
        record = run.stages[step.id]
        run.values[step.id] = output
        if output is not None:
            record.outputs = output if isinstance(output, list) else (output,)
        run.series.stage_ended(record)
        if run.trace is not None:
            run.trace.stage_ended(record)
        if run.observers:
            run.observe("stage_ended", record)
        if run.listener is not None:
            run.tell(StageEnded(run.record, record, output))

    async def _items(self, run: Run, step: Step, record: StageRecord) -> list[Message]:
        """The outputs of all items, in their order; at most `concurrency` of them at once."""
        items = (step.over(run.values) if step.over is not None else None) or ()
        record.items = len(items)
        if run.listener is not None:
            run.tell(StageStarted(run.record, record))
        outputs: list[Any] = [None] * len(items)
        left = iter(enumerate(items))
        done = 0

        async def work() -> None:
            nonlocal done
            for index, item in left:
                piece = Piece(run, step, record, f"{step.id}/{index}", index)
                outputs[index] = await self._piece(piece, {**run.values, "item": item, "index": index})
                done += 1
                if run.listener is not None:
                    run.tell(StageProgress(run.record, record, done))

        await _together([work() for _ in range(min(step.spec.concurrency, len(items)))])
        if record.items_skipped:
            record.reason = f"{record.items_skipped} of {record.items} items were skipped"
            if record.items_skipped == record.items:
                record.status = StageStatus.SKIPPED
        return outputs

    async def _piece(self, piece: Piece, values: Any) -> Message:
        """The output of one piece, from its checkpoint where there is one, or what goes on in its place."""
        run, step, record = piece.run, piece.step, piece.record
        message: Message | None = None
        try:
            message = step.fill(values)
            if message is None:
                raise errors.InvalidArgument(f"there is nothing to give to {step.target.agent}: its input is not there")
            if self._checkpoints is None or not run.plan.spec.durable:
                return await self._called(piece, message)
            return await self._kept(piece, message, self._checkpoints)
        except AtomeshError as error:
            instead = step.default if step.passes is None or message is None else step.passes(message)
            if step.spec.on_error != "skip" or instead is None:
                raise
            self._failed(record, error)
            if piece.item is None:
                record.status = StageStatus.SKIPPED
                record.reason = "its default went on" if step.passes is None else "its input went on"
            record.items_skipped += piece.item is not None
            record.output_bytes += instead.ByteSize()
            return instead

    async def _kept(self, piece: Piece, message: Message, checkpoints: Checkpoints) -> Message:
        """As `_called`, once: where it finished before, by the output that was kept then."""
        output: list[Message] = []

        async def work() -> bytes:
            output.append(await self._called(piece, message))
            return output[0].SerializeToString()

        repeat = piece.step.idempotent or piece.run.repeat_interrupted
        kept = await checkpoints.stage(piece.run.record.id, piece.key, work, repeat=repeat)
        if output:
            return output[0]
        piece.record.reason = "from its checkpoint"
        piece.record.output_bytes += len(kept)
        return piece.step.target.contract.output.FromString(kept)

    async def _called(self, piece: Piece, message: Message) -> Message:
        """The agent's output, or its fallback's, with the middleware around it."""
        run, step = piece.run, piece.step
        piece.record.input_bytes += message.ByteSize()
        context = run.context_of(step).with_key(f"{run.key}/{piece.key}")
        if not self._middleware:
            return await self._attempts.spend(piece, message, context)
        call = StageCall(run.record, piece.record, step.target.agent, message, context, piece.item, run.resources)
        try:
            for each in self._middleware:
                await self._authored(run, each, each.before(call))
            came = output = await self._attempts.spend(piece, call.input, call.context)
            for each in reversed(self._middleware):
                changed = await self._authored(run, each, each.after(call, output))
                output = output if changed is None else _checked(each, changed, output)
            if output is not came:
                piece.record.output_bytes += output.ByteSize() - came.ByteSize()
            return output
        except AtomeshError as error:
            for each in reversed(self._middleware):
                await self._authored(run, each, each.error(call, error))
            raise

    async def _authored(self, run: Run, each: Middleware, work: Awaitable[_T]) -> _T:
        return await authored(f"middleware {type(each).__name__}", work, run.deadline - self._clock.now())

    @staticmethod
    def _failed(record: StageRecord, error: Exception) -> None:
        record.error = str(error)
        record.error_type = error.reason if isinstance(error, AtomeshError) else type(error).__name__


def _checked(owner: Middleware, output: Message, was: Message) -> Message:
    if not isinstance(output, type(was)):
        wanted, given = was.DESCRIPTOR.full_name, type(output).__name__
        raise errors.AgentCrashed(f"middleware {type(owner).__name__} gave a {given} in place of {wanted}")
    return output


async def _together(works: Sequence[Any]) -> None:
    """Runs all; the first error ends the others and is raised as it came."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        for done in asyncio.as_completed(tasks):
            await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
