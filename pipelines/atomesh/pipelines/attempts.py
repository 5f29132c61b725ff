"""The calls of one piece of a stage: its attempts, its fallback, and what undoes it, all of it in the records."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from google.protobuf.message import Message

from atomesh.balancer import CallOptions, Client
from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.core.context import Context
from atomesh.core.errors import AtomeshError
from atomesh.pipelines.events import AttemptFailed, StageEnded
from atomesh.pipelines.plan import Step, Target
from atomesh.pipelines.policy import Tries, after_failure, attempt_timeout, may_fall_back
from atomesh.pipelines.record import MAX_ITEM_ATTEMPTS, AttemptRecord, StageRecord, StageStatus
from atomesh.pipelines.running import Run


@dataclass(slots=True)
class Piece:
    """One call of a stage: the stage itself, or one of its items."""

    run: Run
    step: Step
    record: StageRecord
    key: str
    """Names it within its run: the stage's id, with the item's place where it maps."""
    item: int | None = None
    number: int = 0
    """Attempts made, the fallback's included."""


class Attempts:
    """Spends attempts over one client."""

    def __init__(self, mesh: Client, clock: Clock, rng: random.Random) -> None:
        """`rng` jitters the waits between attempts."""
        self._mesh = mesh
        self._clock = clock
        self._rng = rng

    async def spend(self, piece: Piece, message: Message, context: Context) -> Message:
        """The output of the stage's agent or, once its attempts are spent and nothing was done, of its fallback.

        Raises:
            AtomeshError: the last attempt's.
        """
        step, other = piece.step, piece.step.fallback
        try:
            return await self._at(piece, step.target, message, context)
        except AtomeshError as error:
            if other is None or not may_fall_back(error, idempotent=_twice(step, step.target)):
                raise
        piece.record.fell_back_to = piece.record.agent = other.agent
        given = _as(message, other.contract.input)
        return _as(await self._at(piece, other, given, context), step.target.contract.output)

    async def undo(self, run: Run, step: Step) -> None:
        """Undoes a stage that went well; an error is in the run's log, and the others are undone all the same."""
        undoing = step.undo
        if undoing is None:
            return
        record, number = run.stages[step.id], 0
        deadline = self._clock.now() + undoing.timeout * step.attempts
        options = CallOptions(
            timeout=undoing.timeout,
            context=run.context.with_key(f"{run.key}/{step.id}/undo"),
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
                if run.listener is not None:
                    run.tell(StageEnded(run.record, record, None))
                return

    async def _at(self, piece: Piece, target: Target, message: Message, context: Context) -> Message:
        """The output of one agent, after as many attempts as the stage has.

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
                tries = Tries(made, step.attempts, _twice(step, target), step.backoff, run.deadline)
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
        self, piece: Piece, target: Target, message: Message, context: Context, attempt: AttemptRecord
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
        self, piece: Piece, attempt: AttemptRecord, error: AtomeshError, retry_in: float | None
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
    def _keep(piece: Piece, attempt: AttemptRecord) -> None:
        if piece.item is None or len(piece.record.attempts) < MAX_ITEM_ATTEMPTS:
            piece.record.attempts.append(attempt)


def _twice(step: Step, target: Target) -> bool:
    """Whether the stage may run twice at this agent."""
    return target.idempotent if step.spec.idempotent is None else step.spec.idempotent


def _as(message: Message, wanted: type[Message]) -> Message:
    return message if isinstance(message, wanted) else wanted.FromString(message.SerializeToString())


def _last_endpoint(error: AtomeshError) -> str:
    return error.origin.endpoint or (error.attempts[-1].endpoint if error.attempts else "")
