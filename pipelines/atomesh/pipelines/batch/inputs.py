"""What an iterable gives, as jobs: read one by one, never ahead of its turn by more than the batch allows."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.protobuf.message import Message

from atomesh.core.errors import InvalidArgument, WrongType
from atomesh.pipelines.batch.model import PAIRS, BatchInput, Pairs, Target

Inputs: TypeAlias = Iterable[Any] | AsyncIterable[Any]
"""Messages, pairs `(target, message)` where the target is PAIRS, or BatchInputs."""


@dataclass(slots=True)
class Job:
    """One input on its way."""

    index: int
    key: str
    target: Target
    name: str
    """What the target is called."""
    input: Message
    begun: float | None = None


def length(inputs: Inputs) -> int | None:
    """How many inputs there are, where somebody knows."""
    size = getattr(inputs, "__len__", None)
    return int(size()) if size is not None else None


@contextlib.asynccontextmanager
async def opened(inputs: Inputs) -> AsyncIterator[AsyncIterator[Any]]:
    """The inputs one after the other; a generator that was not read to its end is closed."""
    if not isinstance(inputs, AsyncIterable):
        async with contextlib.aclosing(_each(inputs)) as items:
            yield items
        return
    iterator = aiter(inputs)
    try:
        yield iterator
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


async def _each(inputs: Iterable[Any]) -> AsyncGenerator[Any, None]:
    for given in inputs:
        yield given


def parted(given: Any, target: Target | Pairs) -> tuple[BatchInput, Target]:
    """An input with its target.

    Raises:
        InvalidArgument, WrongType: it is none; the item has failed.
    """
    if target is PAIRS and isinstance(given, tuple) and len(given) == 2:
        given = BatchInput(given[1], given[0])
    elif not isinstance(given, BatchInput):
        if target is PAIRS and not isinstance(given, Exception):
            raise InvalidArgument(f"{given!r:.80} is no pair of a target and an input")
        given = BatchInput(given)
    whom = target if given.target is None else given.target
    if not isinstance(given.input, Message | Exception):
        raise WrongType(f"{given.input!r:.80} is no message, but a {type(given.input).__name__}")
    if whom is PAIRS and isinstance(given.input, Message):
        raise InvalidArgument("an input of a batch of pairs names no target")
    return given, whom
