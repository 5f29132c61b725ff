"""Those who call: arrivals that wait for nobody, each call a task of its client's host."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from google.protobuf.wrappers_pb2 import StringValue

from atomesh.core.errors import AtomeshError
from atomesh.testing.world.invariants import CallRecord
from atomesh.testing.world.members import AGENT, ClientMember

if TYPE_CHECKING:
    from atomesh.testing.world.world import World


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
            cost = scenario.costs.draw(rng)
            twice = rng.random() < scenario.idempotent
            leaves = rng.uniform(0.0, 2 * cost) if rng.random() < scenario.cancelled else None
            self.begin(member, cost, idempotent=twice, leaves=leaves)

    def begin(
        self, member: ClientMember, cost: float, *, idempotent: bool = False, leaves: float | None = None
    ) -> CallRecord:
        """One call, from now; its caller goes away after `leaves` seconds."""
        self._numbers += 1
        now, timeout = self._world.ground.clock.now(), self._world.scenario.timeout
        record = CallRecord(member.name, self._numbers, now + timeout, idempotent, now)
        self._world.book.call_began(record)
        task = member.host.spawn(self._call(member, record, cost), f"call {record.number}")
        self._calls[task] = None
        task.add_done_callback(lambda done: self._calls.pop(done, None))
        if leaves is not None:
            asyncio.get_running_loop().call_later(leaves, task.cancel, context=member.host.context)
        return record

    async def all_ended(self) -> None:
        """Returns when no call is left."""
        while self._calls:
            await asyncio.wait(list(self._calls))

    async def _call(self, member: ClientMember, record: CallRecord, cost: float) -> None:
        book, now = self._world.book, self._world.ground.clock.now
        try:
            answer = await member.running.call(
                AGENT,
                StringValue(value=f"{record.number} {cost:.6f}"),
                timeout=record.deadline - record.began,
                idempotent=record.idempotent,
            )
        except AtomeshError as error:
            book.call_ended(record.number, now(), error, "")
        except asyncio.CancelledError as error:
            book.call_ended(record.number, now(), error, "")
        else:
            book.call_ended(record.number, now(), None, answer.value)


def share(calls: int, clients: int, rng: random.Random) -> list[int]:
    """The calls of each client: alike, or one that floods."""
    if clients > 1 and rng.random() < 0.3:
        few = calls // (5 * clients)
        return [calls - few * (clients - 1), *[few] * (clients - 1)]
    return [calls // clients] * clients
