"""The demo's work: real documents through a real client, every answer checked."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from atomesh.balancer import CallOptions, Client, Reply
from atomesh.core import Contract
from atomesh.core.clock import SYSTEM_CLOCK
from atomesh.core.errors import AtomeshError
from atomesh.text.v1.text_pb2 import TextInput, TextOutput

TEXT = Contract("text-processor", TextInput, TextOutput)
OPERATIONS = {"summarize": "summary", "extract_keywords": "keywords", "sentiment": "sentiment"}
"""Each with the part of the answer that must be there."""

CONCURRENCY = 32
"""Calls at once: more than the 12 slots of three endpoints, so that some always
wait in the client, which is where a fleet that shrinks is felt."""

_LONGEST = 10_000


def documents(count: int) -> list[TextInput]:
    """So many texts: paragraphs of Python's own documentation, each with one of the operations.

    A paragraph that is too short to say anything goes with the one after it.
    """
    from pydoc_data.topics import topics

    texts: list[str] = []
    for topic in sorted(topics):
        held = ""
        for paragraph in re.split(r"\n\s*\n", topics[topic]):
            held = f"{held}\n\n{paragraph}".strip() if held else paragraph.strip()
            if len(held) >= 80:
                texts.append(held[:_LONGEST])
                held = ""
    # Operation first, then paragraph: every paragraph meets every operation in time.
    pairs = zip(itertools.cycle(texts), itertools.cycle(OPERATIONS), strict=False)
    return [TextInput(content=text, operation=operation) for text, operation in itertools.islice(pairs, count)]


@dataclass
class Tally:
    """What became of the calls so far."""

    total: int
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    """Calls that ended with an error, each in words."""
    wrong: list[str] = field(default_factory=list)
    """Answers that are not what was asked for."""
    seconds: list[float] = field(default_factory=list)
    by_endpoint: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of each answered call, by the address that answered."""
    tries: Counter[str] = field(default_factory=Counter)
    """Attempts that did not go well, by reason; their calls went on elsewhere."""
    rerouted: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    """When each call ended that needed more than one attempt, and where those failed."""
    _waiting: list[tuple[int, asyncio.Event]] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Calls that have ended, well or not."""
        return self.answered + len(self.failures)

    async def until(self, done: int) -> None:
        """Returns once so many calls have ended."""
        event = asyncio.Event()
        self._waiting.append((done, event))
        self._wake()
        await event.wait()

    def record(self, sent: TextInput, reply: Reply[TextOutput], seconds: float) -> None:
        """Takes an answer, and checks it."""
        self.answered += 1
        self.seconds.append(seconds)
        self.by_endpoint.setdefault(reply.info.endpoint, []).append(seconds)
        if complaint := _complaint(sent, reply.output):
            self.wrong.append(f"{complaint} (request {reply.info.request_id} at {reply.info.endpoint})")
        if reply.attempts:
            self.tries.update(attempt.reason for attempt in reply.attempts)
            where = frozenset(attempt.endpoint for attempt in reply.attempts)
            self.rerouted.append((SYSTEM_CLOCK.now(), where))
        self._wake()

    def fail(self, error: AtomeshError) -> None:
        """Takes an error."""
        self.failures.append(f"{error.reason}: {error}")
        self._wake()

    def last_rerouted(self, address: str, since: float) -> float | None:
        """Seconds from `since` to the end of the last call that had failed at the address; None where none had."""
        return max((at - since for at, where in self.rerouted if address in where and at >= since), default=None)

    def _wake(self) -> None:
        for done, event in self._waiting:
            if self.done >= done:
                event.set()


async def push(client: Client, inputs: Sequence[TextInput], tally: Tally, joined: asyncio.Event) -> None:
    """Makes all calls, CONCURRENCY at a time.

    The last fifth waits for `joined`: on a fast machine the work would else be
    over before the newcomer's process has started.
    """
    left = iter(enumerate(inputs))
    held_from = len(inputs) * 4 // 5

    async def caller() -> None:
        for index, message in left:
            if index >= held_from:
                await joined.wait()
            begun = SYSTEM_CLOCK.now()
            try:
                reply = await client.execute(TEXT, message, CallOptions())
            except AtomeshError as error:
                tally.fail(error)
            else:
                tally.record(message, reply, SYSTEM_CLOCK.now() - begun)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(caller())


def _complaint(sent: TextInput, output: TextOutput) -> str:
    """What is wrong with an answer; empty where nothing is."""
    if not isinstance(output, TextOutput):
        return f"answer of type {type(output).__name__}"
    if output.metadata.get("operation") != sent.operation:
        return f"asked to {sent.operation}, answered {output.metadata.get('operation')!r}"
    if output.WhichOneof("structured") != OPERATIONS[sent.operation]:
        return f"no {OPERATIONS[sent.operation]} in the answer to {sent.operation}"
    return ""


def quantile(seconds: Sequence[float], share: float) -> float:
    """The nearest-rank quantile; 0 of nothing."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
