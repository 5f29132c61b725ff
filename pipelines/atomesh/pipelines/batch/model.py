"""What a batch is given and what comes of it. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum, StrEnum
from typing import Any, Final, TypeAlias

from google.protobuf.message import Message

from atomesh.core.context import Context
from atomesh.core.errors import AgentFailed, AtomeshError, InvalidArgument
from atomesh.pipelines.errors import RunFailed

Target: TypeAlias = Any
"""An agent's name or its Contract; what else there is depends on the executor."""

_MAX_ID = 64
"""Characters of a batch's id: with an item's key it is an idempotency key, which has 128 bytes."""


class Pairs(Enum):
    """Stands where a target does."""

    PAIRS = "pairs"


PAIRS: Final = Pairs.PAIRS
"""The target of a batch whose inputs are pairs `(target, input)`."""


class Outcome(StrEnum):
    """How an item ended."""

    SUCCESS = "success"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    """It was under way when the batch's time was up; nobody knows how far it came."""
    CANCELLED = "cancelled"
    """It was under way when the batch was stopped; nobody knows how far it came."""


class BatchStatus(StrEnum):
    """How a batch stands."""

    RUNNING = "running"
    SUCCESS = "success"
    """Every input has its output."""
    PARTIAL = "partial"
    """Enough of them have: `min_success`."""
    FAILED = "failed"


class Ended(StrEnum):
    """Why nothing more is begun."""

    INPUTS = "inputs"
    """There are no more."""
    BROKEN_INPUTS = "broken_inputs"
    """The iterable raised."""
    TIMEOUT = "timeout"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class BatchInput:
    """An input with more than a message: whom it goes to, or what it is called.

    Any iterable of inputs may hold these beside plain ones.
    """

    input: Message | Exception
    """An exception is an input that could not be had: an item that failed with it, and nothing is sent."""
    target: Target = None
    """Unset: the batch's own."""
    key: str = ""
    """Names the item in idempotency keys, the same whenever it is sent. Unset: its place among the inputs."""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One input's end."""

    index: int
    """Its place among the inputs, from 0."""
    key: str
    target: str
    outcome: Outcome
    output: Any = None
    error: Exception | None = None
    seconds: float = 0.0
    """From when it was begun to its end, waiting included."""
    queue_wait: float = 0.0
    """Seconds that it waited in the client for a slot, as far as that is known."""
    execution: float = 0.0
    """Seconds that it kept slots busy, as far as that is known."""
    endpoint: str = ""
    attempts: int = 0

    @property
    def error_type(self) -> str:
        """The error's reason; empty where there is no error."""
        return "" if self.error is None else error_type(self.error)

    @property
    def may_have_run(self) -> bool:
        """Whether something may have been done for it though there is no output.

        Not where it certainly was not executed, and not where the agent itself
        says that it could not do it.
        """
        error = self.error
        if isinstance(error, RunFailed):  # what its stages did is done, whichever failed
            return any(stage.attempt_count for stage in error.run.stages)
        if isinstance(error, AtomeshError):
            return error.executed is not False and not isinstance(error, AgentFailed)
        return error is not None and self.seconds > 0  # what could not be read was never begun


@dataclass(frozen=True, slots=True)
class Executed:
    """An output, and how it came to be."""

    output: Any
    endpoint: str = ""
    queue_wait: float = 0.0
    """Seconds that it waited here for a slot."""
    execution: float | None = None
    """Seconds that it kept slots busy; None where nobody knows, and then it is all that was no wait."""
    around: float | None = None
    """Seconds under way beside the execution and all waits; None where nobody knows."""
    attempts: int = 1


def error_type(error: Exception) -> str:
    """What an error is counted as: its reason, or its class where it is none of the mesh's."""
    return str(error.reason) if isinstance(error, AtomeshError) else type(error).__name__


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How a batch is done. Times are in seconds."""

    ordered: bool = False
    """Results in the order of the inputs rather than as they complete."""
    max_concurrency: int | None = None
    """At most so many calls at once, however many slots there are."""
    item_timeout: float = 60.0
    """What one item may take, waiting included."""
    timeout: float = 300.0
    """What the batch may take; what has finished by then is kept."""
    min_success: float = 0.5
    """The share of items that must succeed for the batch not to have failed."""
    strict: bool = False
    """Raises BatchFailed at the end where anything failed."""
    keep: bool = True
    """Whether `run_batch` keeps the items; without it memory is constant, and an observer sees them."""
    id: str = ""
    """Names the batch. Unset: made up."""
    context: Context | None = None
    """What travels with each call. Its idempotency key, where it has one, takes the place of the batch's id."""
    look_ahead: int = 1000
    """Inputs of pairs that are read before it is their turn: one agent may be so many
    behind before the others stop for it. At 16 KiB each these are 16 MB; with half of it
    a run of inputs for one agent idles the others sooner, twice holds twice."""
    max_unread: int | None = None
    """Results that nobody has read yet, from which on nothing is begun. Unset: 1,000, or 10,000 in order."""

    def __post_init__(self) -> None:
        """Checks each.

        Raises:
            InvalidArgument: a number out of its range.
        """
        for name in ("item_timeout", "timeout"):
            if not 0 < (seconds := getattr(self, name)) < 1e9:  # nor is NaN
                raise InvalidArgument(f"{name} {seconds!r} is not a positive number of seconds")
        if not 0 <= self.min_success <= 1:
            raise InvalidArgument(f"min_success {self.min_success!r} is no share; expected 0 to 1")
        for name in ("max_concurrency", "look_ahead", "max_unread"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise InvalidArgument(f"{name} {count!r} is less than 1; nothing would ever be begun")
        if len(self.id) > _MAX_ID or not self.id.isprintable():
            raise InvalidArgument(f"the batch's id {self.id!r:.80} is not at most {_MAX_ID} printable characters")

    @property
    def unread_limit(self) -> int:
        """Results that may wait to be read.

        A reader that takes 10 ms for each at 10,000 items per second is a second
        behind with 1,000. In order they also wait for the slowest before them:
        where costs differ a thousandfold, 64 slots do some 10,000 items beside
        one of the longest, and fewer would have the fleet wait for it.
        """
        if self.max_unread is not None:
            return self.max_unread
        return 10_000 if self.ordered else 1_000


@dataclass(frozen=True, slots=True)
class Share:
    """What one endpoint, target or kind of error had of a batch."""

    items: int = 0
    failed: int = 0
    mean_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ItemError:
    """One item's error, in words."""

    index: int
    key: str
    target: str
    type: str
    message: str


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """The analytics of a batch: so far, or final. Times are in seconds."""

    batch_id: str
    target: str
    status: BatchStatus
    ended: Ended | None
    """Why it ended; None while it runs."""
    total: int
    """Inputs known of: those that were read, or all where the inputs have a length."""
    succeeded: int
    failed: int
    timed_out: int
    cancelled: int
    not_run: int
    """Known of and never begun."""
    success_rate: float
    duration: float
    mean_seconds: float
    p50_seconds: float
    p99_seconds: float
    mean_queue_wait: float
    concurrency_mean: float
    """Calls at once, those that wait for a slot included."""
    concurrency_max: int
    slots_mean: float
    throughput: float
    """Items that ended, per second."""
    efficiency: float
    """Slot time that was busy, of what there was from the beginning to the end. 0 where no slots are known."""
    efficiency_fed: float
    """The same for the time in which there were inputs to begin: the end, where the
    last calls run and slots are idle for want of work, is left out."""
    by_endpoint: dict[str, Share]
    by_target: dict[str, Share]
    by_error: dict[str, int]
    errors: tuple[ItemError, ...]
    """The first hundred."""
    inputs_error: str = ""
    """What the iterable raised."""

    @property
    def clean(self) -> bool:
        """Whether nothing at all went wrong."""
        return self.succeeded == self.total and self.ended in (None, Ended.INPUTS)

    def to_data(self) -> dict[str, Any]:
        """As JSON data."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, Share | ItemError):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is."""

    total: int | None
    """How many inputs there are; None where that is not known."""
    ended: int
    succeeded: int
    outstanding: int
    seconds: float
    """Since it began."""
    over: bool = False
