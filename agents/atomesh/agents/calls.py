"""What is asked of a served agent, what comes of it, and until when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message

from atomesh.core.clock import Clock
from atomesh.core.context import Context
from atomesh.core.errors import AtomeshError

CLEAN_UP = 0.25
"""Seconds for cancelled work to clean up before its caller is answered without
it. Half answers for work that is about to say how it ended; twice is late."""


class Call(Protocol):
    """One call as a door hands it in."""

    context: Context

    @property
    def typed(self) -> bool:
        """Whether it came through the service of the contract's own file."""
        ...

    def read(self, expected: type[Message]) -> Message:
        """The input. Raises InvalidArgument where it is none of that type."""
        ...

    def timeout(self) -> float | None:
        """Seconds until the caller's deadline; None where it gave none."""
        ...

    def no_wait(self) -> bool:
        """Whether the caller holds its calls itself; asked only where no slot is free at once."""
        ...

    def answer(self, error: AtomeshError) -> None:
        """Answers now, while the execution runs on."""
        ...


@dataclass(slots=True)  # not frozen, which would double the price of making one
class Done:
    """A finished execution; seconds."""

    output: Message
    waited: float
    took: float
    notes: dict[str, str] | None = None
    """What the agent said of it beside its output."""


@dataclass(frozen=True, slots=True)
class Where:
    """The place where an agent is served, and its time."""

    instance_id: str
    address: Callable[[], str]
    """What the endpoint advertises; known once it is bound."""
    clock: Clock
    default_timeout: float


class Alarm:
    """The deadline of a call whose caller gave none; gRPC itself sees to the others."""

    def __init__(self, seconds: float, task: asyncio.Task[Any], late: Callable[[], None]) -> None:
        """Cancels the task then, and calls `late` where it has not ended a moment later."""
        self._loop = asyncio.get_running_loop()
        self._task = task
        self._late = late
        self._timer = self._loop.call_later(seconds, self._ring)

    def cancel(self) -> None:
        """It is not needed any more."""
        self._timer.cancel()

    def _ring(self) -> None:
        self._task.cancel()
        self._timer = self._loop.call_later(CLEAN_UP, self._late)
