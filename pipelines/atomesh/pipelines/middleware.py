"""What an author puts around every stage: logging, auth, transformation; and what a run may be given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from atomesh.core.context import Context
from atomesh.core.errors import AgentCrashed, AtomeshError, DeadlineExceeded
from atomesh.pipelines.record import RunRecord, StageRecord

_T = TypeVar("_T")
_AFTERMATH = 1.0
"""Seconds that it has when the run's time is up already: it is told of that too.
Half of it cuts off a line of log on a busy machine; twice of it is a run that
ends two seconds late."""


@dataclass(slots=True)
class StageCall:
    """A stage about to be called, once for each item where it maps. Middleware may change `input` and `context`."""

    run: RunRecord
    stage: StageRecord
    agent: str
    input: Message
    context: Context
    item: int | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    """What the run's context providers gave that does not travel."""


class Middleware:
    """Around every stage; override what is needed.

    class Timed(Middleware):
        async def after(self, call: StageCall, output: Message) -> Message | None:
            print(call.stage.stage, "done")

    Those given first are outermost: their `before` runs first, their `after` last.
    """

    async def before(self, call: StageCall) -> None:
        """Before the first attempt. What it raises is the stage's failure, and nothing is sent."""

    async def after(self, call: StageCall, output: Message) -> Message | None:
        """After it went well; a message of the output's type goes on in place of the output."""
        return None

    async def error(self, call: StageCall, error: AtomeshError) -> None:
        """After the last attempt failed, before `on_error` has its say. It may raise another error."""


async def authored(what: str, work: Awaitable[_T], seconds: float) -> _T:
    """What an author's own code gives, within so many seconds; what it raises by mistake is told under its name.

    Raises:
        DeadlineExceeded: it took longer.
        AgentCrashed: it raised what it did not mean to.
    """
    try:
        async with asyncio.timeout(max(seconds, _AFTERMATH)) as limit:
            return await work
    except AtomeshError:
        raise
    except Exception as error:
        if limit.expired():
            raise DeadlineExceeded(f"the run's time was up in {what}") from None
        raise AgentCrashed(f"{what} raised {type(error).__name__}: {error}") from error


class Provider(Protocol):
    """Gives each run a value under the name that pipelines declare in `providers`.

    A str, number, bool, list or dict travels in the context's metadata to every
    agent, as text or JSON; anything else stays with the runner, for middleware.
    """

    def provide(self, run: RunRecord, /) -> Awaitable[Any] | Any:
        """The value for this run; `async def` or plain."""
        ...


class RunObserver:
    """Is told of runs, beside the metrics; override what is needed. What it raises is logged and changes nothing."""

    def run_started(self, run: RunRecord) -> None:
        """A run began."""

    def stage_ended(self, run: RunRecord, stage: StageRecord) -> None:
        """A stage ended, however."""

    def run_ended(self, run: RunRecord) -> None:
        """A run ended, however."""
