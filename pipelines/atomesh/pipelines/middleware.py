"""What an author puts around every stage: logging, auth, transformation; and what a run may be given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from google.protobuf.message import Message

from atomesh.core.context import Context
from atomesh.core.errors import AtomeshError
from atomesh.pipelines.record import RunRecord, StageRecord


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


class Provider(Protocol):
    """Gives each run a value under the name that pipelines declare in `providers`.

    A str, number, bool, list or dict travels in the context's metadata to every
    agent, as text or JSON; anything else stays with the runner, for middleware.
    """

    async def provide(self, run: RunRecord) -> Any:
        """The value for this run."""
        ...


class RunObserver:
    """Is told of runs, beside the metrics; override what is needed. What it raises is logged and changes nothing."""

    def run_started(self, run: RunRecord) -> None:
        """A run began."""

    def stage_ended(self, run: RunRecord, stage: StageRecord) -> None:
        """A stage ended, however."""

    def run_ended(self, run: RunRecord) -> None:
        """A run ended, however."""
