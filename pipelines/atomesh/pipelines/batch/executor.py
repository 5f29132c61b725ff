"""Whoever executes a batch's items: agents through a client, or something else with slots."""

from __future__ import annotations

from typing import Protocol

from google.protobuf.message import Message

from atomesh.balancer.capacity import Capacity
from atomesh.balancer.client import CallOptions, Client
from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.context import Context
from atomesh.core.contract import Contract
from atomesh.core.errors import InvalidArgument
from atomesh.pipelines.batch.items import held
from atomesh.pipelines.batch.model import Executed, Target


class Executor(Protocol):
    """What a batch asks of whoever executes its items."""

    @property
    def clock(self) -> Clock:
        """The clock that the batch goes by."""
        ...

    def name(self, target: Target) -> str:
        """What a target is called: targets of one name have their slots in common.

        Raises:
            InvalidArgument: it is no target.
        """
        ...

    async def meet(self, target: Target, timeout: float) -> None:
        """Returns once the target is known.

        Raises:
            AtomeshError: it is not, or nobody can tell.
        """
        ...

    def capacity(self, target: Target) -> Capacity:
        """What the target could take now."""
        ...

    async def changed(self, target: Target, since: Capacity) -> None:
        """Returns when its endpoints or slots are others than in `since`."""
        ...

    async def execute(self, target: Target, input: Message, *, timeout: float, context: Context) -> Executed:
        """One item's output.

        Raises:
            Exception: there is none, and this is why.
        """
        ...


class MeshExecutor:
    """Agents, through a client. Its rules for trying again hold; nothing is tried again beside them."""

    def __init__(self, mesh: Client, clock: Clock = SYSTEM_CLOCK) -> None:
        """`clock` is the client's own."""
        self._mesh = mesh
        self.clock = clock

    def name(self, target: Target) -> str:
        """The agent's name."""
        if isinstance(target, Contract):
            return target.agent
        if not isinstance(target, str):
            raise InvalidArgument(f"{target!r:.80} is no target; give an agent's name or its Contract")
        return target

    async def meet(self, target: Target, timeout: float) -> None:
        """As `Client.meet`."""
        await self._mesh.meet(self.name(target), timeout=timeout)

    def capacity(self, target: Target) -> Capacity:
        """As `Client.capacity`."""
        return self._mesh.capacity(self.name(target))

    async def changed(self, target: Target, since: Capacity) -> None:
        """As `Client.capacity_changed`."""
        await self._mesh.capacity_changed(self.name(target), since=since)

    async def execute(self, target: Target, input: Message, *, timeout: float, context: Context) -> Executed:
        """One call."""
        began = self.clock.now()
        reply = await self._mesh.execute(target, input, CallOptions(timeout=timeout, context=context))
        seconds, answer = self.clock.now() - began, reply.answer
        before = sum(attempt.seconds for attempt in reply.attempts)
        around = seconds - reply.queue_wait - before - answer.seconds - answer.waited
        return Executed(
            reply.output,
            reply.info.endpoint,
            reply.queue_wait,
            answer.seconds + held(reply.attempts),
            max(0.0, around),
            1 + len(reply.attempts),
        )
