"""A pipeline as the target of a batch: each item is a run."""

from __future__ import annotations

import asyncio

from google.protobuf.message import Message

from atomesh.balancer import Client
from atomesh.balancer.capacity import Capacity
from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.core.context import Context
from atomesh.core.errors import InvalidArgument
from atomesh.pipelines.batch.model import Executed, Target
from atomesh.pipelines.plan import Plan
from atomesh.pipelines.runner import Runner


class RunExecutor:
    """Plans, through a runner. An item's idempotency key is what those of its run's calls begin with."""

    def __init__(self, runner: Runner, mesh: Client, clock: Clock = SYSTEM_CLOCK) -> None:
        """`mesh` and `clock` are those of the runner."""
        self._runner = runner
        self._mesh = mesh
        self.clock = clock

    def name(self, target: Target) -> str:
        """The pipeline's name."""
        return _plan(target).name

    async def meet(self, target: Target, timeout: float) -> None:
        """Its plan was made, so its agents are known; this client meets those that it has not called yet."""
        plan = _plan(target)
        await asyncio.gather(*(self._mesh.meet(step.target.agent, step.target.version, timeout) for step in plan.steps))

    def capacity(self, target: Target) -> Capacity:
        """The slots of its agents together: a run is in one of them at a time, or in as many as it has branches."""
        met = dict.fromkeys((step.target.agent, step.target.version) for step in _plan(target).steps)
        each = [self._mesh.capacity(agent, version) for agent, version in met]
        return Capacity(
            endpoints=sum(one.endpoints for one in each),
            slots=sum(one.slots for one in each),
            free=sum(one.free for one in each),
            in_flight=sum(one.in_flight for one in each),
            waiting=sum(one.waiting for one in each),
        )

    async def changed(self, target: Target, since: Capacity) -> None:
        """Returns when endpoints or slots of any of its agents are others."""
        met = dict.fromkeys((step.target.agent, step.target.version) for step in _plan(target).steps)
        waits = [asyncio.ensure_future(self._mesh.capacity_changed(agent, version)) for agent, version in met]
        try:
            if self.capacity(target).size == since.size:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def execute(self, target: Target, input: Message, *, timeout: float, context: Context) -> Executed:
        """One run."""
        outcome = await self._runner.run(_plan(target), input, timeout=timeout, context=context)
        stages = outcome.record.stages
        waited = sum(stage.queue_wait for stage in stages)
        return Executed(
            outcome.output,
            next((stage.endpoint for stage in reversed(stages) if stage.endpoint), ""),
            waited,
            sum(stage.execution for stage in stages),
            None,
            sum(stage.attempt_count for stage in stages),
        )


def _plan(target: Target) -> Plan:
    if not isinstance(target, Plan):
        raise InvalidArgument(f"{target!r:.80} is no plan; make one with plan_pipeline")
    return target
