"""How an item ended, in the terms of its batch. Pure."""

from __future__ import annotations

from atomesh.core.errors import AtomeshError, Attempt, Cancelled, DeadlineExceeded
from atomesh.pipelines.batch.inputs import Job
from atomesh.pipelines.batch.model import BatchItem, Ended, Executed, Outcome


def finished(job: Job, now: float, executed: Executed) -> BatchItem:
    """An item with its output."""
    seconds = now - (now if job.begun is None else job.begun)
    execution = executed.execution
    return BatchItem(
        job.index,
        job.key,
        job.name,
        Outcome.SUCCESS,
        executed.output,
        None,
        seconds,
        executed.queue_wait,
        max(0.0, seconds - executed.queue_wait) if execution is None else execution,
        executed.endpoint,
        executed.attempts,
    )


def failed(index: int, key: str, target: str, error: Exception, seconds: float = 0.0) -> BatchItem:
    """An item with its error; `seconds` is 0 where it was never begun."""
    attempts, endpoint, execution, wait = 0, "", 0.0, 0.0
    if isinstance(error, AtomeshError):
        error.__traceback__ = None  # whoever keeps the item would keep all that its call knew
        attempts, execution = len(error.attempts), held(error.attempts)
        if attempts:
            wait = max(0.0, seconds - sum(attempt.seconds for attempt in error.attempts))
        endpoint = error.origin.endpoint or (error.attempts[-1].endpoint if error.attempts else "")
    return BatchItem(
        index, key, target, Outcome.FAILED, None, error, seconds, wait, min(execution, seconds), endpoint, attempts
    )


def interrupted(job: Job, now: float, why: Ended | None) -> BatchItem:
    """An item that was under way when the batch ended."""
    seconds = now - (now if job.begun is None else job.begun)
    if why is Ended.TIMEOUT:
        late = DeadlineExceeded(
            f"under way for {seconds:.3g} s when the batch's time was up; give it more with `timeout`"
        )
        return BatchItem(job.index, job.key, job.name, Outcome.TIMED_OUT, None, late, seconds)
    gone = Cancelled(f"under way for {seconds:.3g} s when the batch was stopped")
    return BatchItem(job.index, job.key, job.name, Outcome.CANCELLED, None, gone, seconds)


def held(attempts: tuple[Attempt, ...]) -> float:
    """Seconds for which attempts that failed kept slots busy."""
    return sum(attempt.seconds for attempt in attempts if attempt.executed is not False)
