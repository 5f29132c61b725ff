"""One stage of a run: guard, input, attempts, and what goes on in place of an output."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from google.protobuf.message import Message

from atomesh.balancer import CallOptions, Client
from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.core.context import Context
from atomesh.core.errors import AtomeshError
from atomesh.pipelines.checkpoints import Checkpoints
from atomesh.pipelines.events import AttemptFailed, StageEnded, StageProgress, StageStarted
from atomesh.pipelines.middleware import Middleware, StageCall, authored
from atomesh.pipelines.plan import Step, Target
from atomesh.pipelines.policy import Tries, after_failure, attempt_timeout
from atomesh.pipelines.record import MAX_ITEM_ATTEMPTS, AttemptRecord, StageRecord, StageStatus
from atomesh.pipelines.running import Run

_T = TypeVar("_T")
_MAX_KEY = 128  # bytes, as context.proto says


@dataclass(slots=True)
class _Piece:
    """One call of a stage: the stage itself, or one of its items."""

    run: Run
    step: Step
    record: StageRecord
    key: str
    """Names it within its run: the stage's id, with the item's place where it maps."""
    item: int | None = None
    number: int = 0
    """Attempts made, the fallback's included."""


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
        self._mesh = mesh
        self._clock = clock
        self._rng = rng
        self._middleware = tuple(middleware)
        self._checkpoints = checkpoints

    async def run(self, run: Run, step: Step) -> None:
        """Runs the stage; its output, or what goes on in its place, is in the run's values afterwards.

        Raises:
            AtomeshError: it failed, and its `on_error` neither skips nor falls back.
        """
        record, begun = run.stages[step.id], self._clock.now()
        output: Any = None
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
        undoing = step.undo
        if undoing is None:
            return
        record, number = run.stages[step.id], 0
        deadline = self._clock.now() + undoing.timeout * step.attempts
        options = CallOptions(
            timeout=undoing.timeout,
            context=_keyed(run.context, f"{run.key}/{step.id}/undo"),
            version=undoing.target.version,
        )
        while True:
            number += 1
            try:
                message = undoing.fill(run.values)
                await self._mesh.execute(undoing.target.contract, message, options)
            except AtomeshError as error:
                run.note(self._clock.wall(), f"{step.id}.undo", number, error)
                tries = Tries(number, step.attempts, undoing.target.idempotent, step.backoff, deadline)
                verdict = after_failure(error, tries, self._clock.now(), self._rng)
                if verdict.retry_in is None:
                    record.reason = f"not undone: {error.message}"
                    return
                await self._clock.sleep(verdict.retry_in)
            else:
                record.status = StageStatus.COMPENSATED
                return

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
            output = await self._piece(_Piece(run, step, record, step.id), run.values)
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
                piece = _Piece(run, step, record, f"{step.id}/{index}", index)
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

    async def _piece(self, piece: _Piece, values: Any) -> Message:
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

    async def _kept(self, piece: _Piece, message: Message, checkpoints: Checkpoints) -> Message:
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

    async def _called(self, piece: _Piece, message: Message) -> Message:
        """The agent's output, or its fallback's, with the middleware around it."""
        run, step = piece.run, piece.step
        piece.record.input_bytes += message.ByteSize()
        context = run.context if step.idempotent else _keyed(run.context, f"{run.key}/{piece.key}")
        if not self._middleware:
            return await self._with_fallback(piece, message, context)
        call = StageCall(run.record, piece.record, step.target.agent, message, context, piece.item, run.resources)
        try:
            for each in self._middleware:
                await self._authored(run, each, each.before(call))
            came = output = await self._with_fallback(piece, call.input, call.context)
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

    async def _with_fallback(self, piece: _Piece, message: Message, context: Context) -> Message:
        step, other = piece.step, piece.step.fallback
        try:
            return await self._attempts(piece, step.target, message, context)
        except AtomeshError:
            if other is None:
                raise
        piece.record.fell_back_to = piece.record.agent = other.agent
        given = _as(message, other.contract.input)
        return _as(await self._attempts(piece, other, given, context), step.target.contract.output)

    # -- attempts ------------------------------------------------------------

    async def _attempts(self, piece: _Piece, target: Target, message: Message, context: Context) -> Message:
        """The agent's output after as many attempts as the stage has.

        Raises:
            AtomeshError: the last attempt's.
        """
        run, step, made = piece.run, piece.step, 0
        while True:
            made += 1
            piece.number += 1
            begun = self._clock.now()
            attempt = AttemptRecord(piece.number, target.agent, self._clock.wall(), item=piece.item)
            piece.record.attempt_count += 1
            try:
                output = await self._attempt(piece, target, message, context, attempt)
            except AtomeshError as error:
                now = self._clock.now()
                attempt.seconds = now - begun
                tries = Tries(made, step.attempts, self._twice(step, target), step.backoff, run.deadline)
                verdict = after_failure(error, tries, now, self._rng)
                self._attempt_failed(piece, attempt, error, verdict.retry_in)
                # Of items side by side, one that was given up after its last attempt is enough.
                others = piece.item is not None and piece.record.retries_exhausted
                piece.record.retries_exhausted = verdict.exhausted or others
                if verdict.retry_in is None:
                    raise
                await self._clock.sleep(verdict.retry_in)
            except asyncio.CancelledError:
                attempt.seconds, attempt.outcome = self._clock.now() - begun, "CANCELLED"
                self._keep(piece, attempt)
                raise
            else:
                attempt.seconds, attempt.outcome = self._clock.now() - begun, "OK"
                if piece.item is None:
                    piece.record.attempts.append(attempt)
                return output

    async def _attempt(
        self, piece: _Piece, target: Target, message: Message, context: Context, attempt: AttemptRecord
    ) -> Message:
        """One call of the mesh, with what came of it in the records."""
        run, step, record = piece.run, piece.step, piece.record
        timeout = attempt_timeout(step.timeout, run.deadline, self._clock.now())
        if timeout <= 0:
            raise errors.DeadlineExceeded(f"the run's time is up before {step.id} was tried", executed=False)
        options = CallOptions(timeout, context, step.spec.idempotent, None, None, target.version, True)
        reply = await self._mesh.execute(target.contract, message, options)
        answer = reply.answer
        attempt.endpoint = endpoint = answer.endpoint
        attempt.queue_wait = waited = reply.queue_wait + answer.waited
        record.queue_wait += waited
        record.execution += answer.seconds
        record.output_bytes += len(answer.output)
        record.endpoint = endpoint if record.endpoint in ("", endpoint) or piece.item is None else ""
        return reply.output

    def _attempt_failed(
        self, piece: _Piece, attempt: AttemptRecord, error: AtomeshError, retry_in: float | None
    ) -> None:
        run, record = piece.run, piece.record
        attempt.outcome, attempt.error, attempt.endpoint = error.reason, str(error), _last_endpoint(error)
        if isinstance(error, errors.CircuitOpen):
            record.circuit_open = True
        self._keep(piece, attempt)
        run.note(self._clock.wall(), record.stage, attempt.number, error)
        if run.listener is not None:
            run.tell(AttemptFailed(run.record, record, attempt, retry_in))

    @staticmethod
    def _keep(piece: _Piece, attempt: AttemptRecord) -> None:
        if piece.item is None or len(piece.record.attempts) < MAX_ITEM_ATTEMPTS:
            piece.record.attempts.append(attempt)

    @staticmethod
    def _failed(record: StageRecord, error: Exception) -> None:
        record.error = str(error)
        record.error_type = error.reason if isinstance(error, AtomeshError) else type(error).__name__

    @staticmethod
    def _twice(step: Step, target: Target) -> bool:
        """Whether the stage may run twice at this agent."""
        return target.idempotent if step.spec.idempotent is None else step.spec.idempotent


def _keyed(context: Context, key: str) -> Context:
    """The context with a key by which an agent can recognise work that it has done already."""
    short = key if len(key.encode()) <= _MAX_KEY else hashlib.sha256(key.encode()).hexdigest()
    return replace(context, idempotency_key=short)


def _as(message: Message, wanted: type[Message]) -> Message:
    return message if isinstance(message, wanted) else wanted.FromString(message.SerializeToString())


def _last_endpoint(error: AtomeshError) -> str:
    return error.origin.endpoint or (error.attempts[-1].endpoint if error.attempts else "")


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
