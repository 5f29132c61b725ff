"""The agent of every world: it works for as long as it is told, and keeps the books."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from atomesh.agents import AgentFailed, ExecutionContext, StreamingAgent
from atomesh.testing.memory import Host
from atomesh.testing.world.jobs import Job

if TYPE_CHECKING:
    from atomesh.testing.world.members import EndpointMember

AGENT = "digger"


class Digger(StreamingAgent[StringValue, Int32Value, StringValue]):
    """Takes a Job, works for as long as that says at its endpoint's pace, and gives its chunks by number."""

    name = AGENT

    def __init__(self, member: EndpointMember, host: Host) -> None:
        """Of this endpoint, as long as this host lives."""
        self._member = member
        self._host = host

    async def stream(self, input: StringValue, context: ExecutionContext) -> AsyncIterator[Int32Value | StringValue]:
        """The work."""
        del context
        job = Job.read(input.value)
        member, heard, book = self._member, self._host, self._member.ground.book
        if heard.alive:
            book.execution_began(member.name, member.slots, job.number, member.ground.clock.now())
            member.most_at_once = max(member.most_at_once, member.slots - member.free)
        how = "cut off"
        try:
            for chunk in range(job.chunks):
                await self._work(job)
                yield Int32Value(value=chunk)
            await self._work(job)
            failed = member.failures.draw(member.rng)
            how = "failed" if failed else "done"
        finally:
            if heard.alive:
                book.execution_ended(member.name, job.number, how)
        if failed:
            raise AgentFailed(f"call {job.number} hit rock")
        yield StringValue(value=job.output)

    async def _work(self, job: Job) -> None:
        member = self._member
        await member.ground.clock.sleep(job.seconds / (job.chunks + 1) * member.slowness)
