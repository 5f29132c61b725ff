"""What a caller is told of an execution that went wrong, and what the log is."""

from __future__ import annotations

import logging

from atomesh.agents.context import ExecutionContext
from atomesh.agents.metrics import Outcome
from atomesh.core.errors import AgentCrashed, AgentFailed, AtomeshError, DeadlineExceeded, InvalidInput, InvalidOutput
from atomesh.core.rules import ContractRuleError

log = logging.getLogger("atomesh.agents")


def translate(error: Exception, context: ExecutionContext) -> AtomeshError:
    """The error to answer with. Nothing of an unexpected exception but its being there leaves the process."""
    agent = context.agent
    if isinstance(error, AgentFailed):
        return _passed_on(error, agent)
    if isinstance(error, InvalidOutput | AgentCrashed) and not error.origin.agent:
        return error
    if isinstance(error, InvalidInput) and not error.origin.agent:
        error.executed = True  # found by the author's own code, in the middle of the work
        return error
    if isinstance(error, ContractRuleError):
        return AgentCrashed(f"{agent}: {error}; the contract's rules need mending, not the input")
    if isinstance(error, AtomeshError):
        if isinstance(error, DeadlineExceeded) and context.remaining() <= 0:
            return DeadlineExceeded(f"{agent}: out of time in a call that it made", executed=True)
        # To the caller even a refusal further down was executed here: handed
        # on as it came, it would say that trying elsewhere is harmless.
        return AgentCrashed(f"{agent}: a call that it made failed with {error.reason}: {error.message}")
    return AgentCrashed(f"{agent} failed unexpectedly; its log has the trace under request id {context.request_id}")


def outcome_of(error: AtomeshError) -> Outcome:
    """Under which outcome it is counted."""
    if isinstance(error, AgentFailed | InvalidInput):
        return Outcome.FAILED
    if isinstance(error, InvalidOutput):
        return Outcome.INVALID_OUTPUT
    return Outcome.DEADLINE if isinstance(error, DeadlineExceeded) else Outcome.CRASHED


def log_failure(context: ExecutionContext, error: AtomeshError | None, cause: Exception | None) -> None:
    """One record for each execution that went wrong; with a trace where the author did not mean it."""
    if error is None:
        log.info("%s: the caller went away", context.agent, extra=fields(context))
        return
    unexpected = isinstance(error, AgentCrashed)
    level = logging.ERROR if unexpected or isinstance(error, InvalidOutput) else logging.WARNING
    log.log(
        level if error.executed is not False else logging.INFO,
        "%s: execution ended with %s: %.1000s",
        context.agent,
        error.reason,
        "".join(letter if letter.isprintable() else " " for letter in error.message),
        exc_info=cause if unexpected else None,
        extra=fields(context),
    )


def fields(context: ExecutionContext) -> dict[str, str]:
    """What ties a log record to its request."""
    return {
        "agent": context.agent,
        "instance_id": context.instance_id,
        "request_id": context.request_id,
        "user_id": context.user_id,
        "session_id": context.session_id,
        "traceparent": context.traceparent,
    }


def _passed_on(error: AgentFailed, agent: str) -> AgentFailed:
    """An agent's own error as raised; one of an agent further down that nobody caught is as it was, but final."""
    if not error.origin.agent or error.origin.agent == agent or not error.retryable:
        return error
    # Its own caller, one layer down, has tried again as often as it may. Were
    # each layer to do so, attempts would multiply with depth.
    return AgentFailed(error.message, reason=error.reason, details=error.details, origin=error.origin)
