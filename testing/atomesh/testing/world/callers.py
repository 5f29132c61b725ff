"""Those who call: arrivals that wait for nobody, each call a task of its client's host."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.wrappers_pb2 import StringValue

from atomesh.core.errors import AtomeshError
from atomesh.testing.world.digger import AGENT
from atomesh.testing.world.invariants import CallRecord
from atomesh.testing.world.jobs import Job
from atomesh.testing.world.members import ClientMember
from atomesh.testing.world.scenario import MOST_BYTES, Scenario

if TYPE_CHECKING:
    from atomesh.testing.world.world import World

MOST_CHUNKS = 20
_SMALLEST = 1_000  # bytes of a payload that counts as large
_DAWDLING = 0.3  # of streams are read by callers that take their time


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of a call."""

    seconds: float
    idempotent: bool = False
    leaves: float | None = None
    """Seconds after which its caller goes away."""
    chunks: int = 0
    padding: int = 0
    dawdles: float = 0.0
    """Seconds that its caller takes over each chunk."""


class Callers:
    """Makes the calls of a world and hears how they end."""

    def __init__(self, world: World) -> None:
        """None yet."""
        self._world = world
        self._numbers = 0
        self._calls: dict[asyncio.Task[None], None] = {}

    async def arrive(self, member: ClientMember, calls: int) -> None:
        """A Poisson process of so many calls: open loop, so that slow endpoints make a queue and no excuse."""
        scenario, clock = self._world.scenario, self._world.ground.clock
        rng = self._world.ground.rng(f"{member.name} calls")
        for _ in range(calls):
            await clock.sleep(rng.expovariate(scenario.rate / scenario.clients))
            self.begin(member, _draw(rng, scenario))

    def begin(self, member: ClientMember, wish: Wish) -> CallRecord:
        """One call, from now."""
        self._numbers += 1
        now, timeout = self._world.ground.clock.now(), self._world.scenario.timeout
        job = Job(self._numbers, wish.seconds, wish.chunks, wish.padding)
        record = CallRecord(member.name, self._numbers, now + timeout, wish.idempotent, now, job, wish.dawdles)
        self._world.book.call_began(record)
        task = member.host.spawn(self._call(member, record, wish), f"call {record.number}")
        self._calls[task] = None
        task.add_done_callback(lambda done: self._calls.pop(done, None))
        if wish.leaves is not None:
            asyncio.get_running_loop().call_later(wish.leaves, task.cancel, context=member.host.context)
        return record

    async def all_ended(self) -> None:
        """Returns when no call is left."""
        while self._calls:
            await asyncio.wait(list(self._calls))

    async def _call(self, member: ClientMember, record: CallRecord, wish: Wish) -> None:
        book, now = self._world.book, self._world.ground.clock.now
        try:
            read = self._stream if wish.chunks else self._unary
            answer = await read(member, record, wish)
        except (AtomeshError, asyncio.CancelledError) as error:
            book.call_ended(record.number, now(), error, "")
        except Exception as error:  # noqa: BLE001 # callers are promised that nothing else is raised
            book.call_ended(record.number, now(), error, "")
            book.violated(now(), f"call {record.number} raised {error!r}")
        else:
            book.call_ended(record.number, now(), None, answer)

    async def _unary(self, member: ClientMember, record: CallRecord, wish: Wish) -> str:
        answer = await member.running.call(
            AGENT,
            StringValue(value=record.job.input),
            timeout=record.deadline - record.began,
            idempotent=wish.idempotent,
        )
        return str(answer.value)

    async def _stream(self, member: ClientMember, record: CallRecord, wish: Wish) -> str:
        input, timeout = StringValue(value=record.job.input), record.deadline - record.began
        clock, expected = self._world.ground.clock, 0
        async with member.running.stream(AGENT, input, timeout=timeout, idempotent=wish.idempotent) as stream:
            async for chunk in stream:
                if chunk.value != expected:
                    what = f"call {record.number} reads chunk {chunk.value} where {expected} should be"
                    self._world.book.violated(clock.now(), what)
                expected = chunk.value + 1
                await clock.sleep(wish.dawdles)
            if expected != wish.chunks:
                what = f"call {record.number} went well with {expected} of {wish.chunks} chunks"
                self._world.book.violated(clock.now(), what)
            return str(stream.output.value)


def share(calls: int, clients: int, rng: random.Random) -> list[int]:
    """The calls of each client: alike, or one that floods."""
    if clients > 1 and rng.random() < 0.3:
        few = calls // (5 * clients)
        return [calls - few * (clients - 1), *[few] * (clients - 1)]
    return [calls // clients] * clients


def _draw(rng: random.Random, scenario: Scenario) -> Wish:
    cost = scenario.costs.draw(rng)
    streams = rng.random() < scenario.streamed
    large = rng.random() < scenario.large
    return Wish(
        cost,
        idempotent=rng.random() < scenario.idempotent,
        leaves=rng.uniform(0.0, 2 * cost) if rng.random() < scenario.cancelled else None,
        chunks=rng.randint(1, MOST_CHUNKS) if streams else 0,
        padding=round(_SMALLEST * (MOST_BYTES / _SMALLEST) ** rng.random()) if large else 0,
        dawdles=cost / 10 if streams and rng.random() < _DAWDLING else 0.0,
    )
