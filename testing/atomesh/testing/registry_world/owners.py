"""Who registers: owners that renew, change, leave, crash and come back, and some that do what they must not."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from atomesh.core.clock import Clock
from atomesh.testing.history import LOST, OK, Caller
from atomesh.testing.registry_world.contracts import BROKEN, PLAIN, WIDER, Contract
from atomesh.testing.registry_world.scenario import CAPABILITIES, COLOURS, ZONES, OwnerPlan
from atomesh.v1 import registry_pb2

_AGAIN = 0.3
"""Seconds before it tries again what was refused or lost."""


class Owner:
    """One process with one endpoint; at each restart it is another instance."""

    def __init__(self, plan: OwnerPlan, caller: Caller, clock: Clock, rng: random.Random) -> None:
        """It does nothing before `live`."""
        self._plan = plan
        self._caller = caller
        self._clock = clock
        self._rng = rng
        self._instances = 0
        self._executions = 0
        self._contract = PLAIN
        self._lease = ""
        self._past: list[str] = []
        """Leases that it once had."""

    async def live(self) -> None:
        """For as long as the world lets it."""
        await self._clock.sleep(self._rng.uniform(0.0, 1.0))
        while True:
            if not self._lease:
                await self._come()
            await self._clock.sleep(self._plan.ttl / 3 * self._rng.uniform(0.7, 1.05))
            if self._rng.random() < self._plan.restless:
                await self._rng.choice(self._whims())()
            else:
                await self._renew()

    def _whims(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        return (
            self._change_state,
            self._change_labels,
            self._change_nothing,
            self._say_goodbye,
            self._fall_silent,
            self._crash,
            self._register_again,
            self._use_old_lease,
            self._guess,
            self._ask_wrongly,
        )

    async def _come(self) -> None:
        """Registers as a new instance, until that is done."""
        self._instances += 1
        rng = self._rng
        self._contract = rng.choice((PLAIN, PLAIN, PLAIN, WIDER, WIDER, BROKEN))
        spec = registry_pb2.EndpointSpec(
            agent=self._plan.agent,
            address=f"10.0.0.1:{self._plan.port}",
            instance_id=f"{self._plan.name}-{self._instances:03d}",
            version=rng.choice(("1.0.0", "1.2.0", "2.0.0")),
            slots=rng.randint(1, 8),
            zone=rng.choice(ZONES),
            labels={"colour": rng.choice(COLOURS)},
        )
        for name in rng.sample(CAPABILITIES, rng.randint(0, len(CAPABILITIES))):
            spec.capabilities.add(name=name, score=1.0)
        while not await self._register(spec, self._contract):
            await self._clock.sleep(_AGAIN * rng.uniform(1.0, 5.0))

    async def _register(self, spec: registry_pb2.EndpointSpec, contract: Contract) -> bool:
        """Whether it is registered now."""
        self._spec = spec
        call, lease = await self._caller.register(spec, contract.proto, contract.hash, self._plan.ttl)
        if call.outcome == OK:
            self._past.extend([self._lease] if self._lease else [])
            self._lease, self._executions = lease, 0
        elif call.outcome == LOST and self._rng.random() < 0.5:
            self._instances += 1  # it crashed before the answer
            spec.instance_id = f"{self._plan.name}-{self._instances:03d}"
        elif call.refused:
            self._contract = PLAIN
            return await self._register(spec, PLAIN) if contract is not PLAIN else False
        return call.outcome == OK

    async def _renew(self) -> None:
        self._executions += self._rng.randint(0, 3)
        call = await self._caller.renew([self._lease], [self._executions])
        if call.outcome != OK:
            return
        if call.statuses == ("SUPERSEDED",):
            self._lose()
            await self._clock.sleep(self._plan.ttl * self._rng.uniform(0.5, 2.0))
        elif call.statuses == ("UNKNOWN",):
            self._lose()

    def _lose(self) -> None:
        self._past.append(self._lease)
        self._lease = ""

    async def _change_state(self) -> None:
        await self._caller.update(self._lease, state=self._rng.choice(("SERVING", "DRAINING", "NOT_SERVING")))

    async def _change_labels(self) -> None:
        labels = {"colour": self._rng.choice(COLOURS)} if self._rng.random() < 0.8 else {}
        slots = self._rng.randint(1, 8) if self._rng.random() < 0.5 else None
        await self._caller.update(self._lease, labels=labels, slots=slots)

    async def _change_nothing(self) -> None:
        await self._caller.update(self._lease)

    async def _say_goodbye(self) -> None:
        call = await self._caller.deregister(self._lease)
        if call.outcome == OK:
            self._lose()
            await self._clock.sleep(self._rng.choice((0.0, 0.5, 2.0)) * self._plan.ttl)

    async def _fall_silent(self) -> None:
        await self._clock.sleep(self._plan.ttl * self._rng.choice((0.5, 1.0, 2.0, 4.0)))

    async def _crash(self) -> None:
        """Its next instance comes before or after the lease has run out."""
        self._lose()
        await self._clock.sleep(self._plan.ttl * self._rng.choice((0.0, 0.1, 0.5, 1.5)))

    async def _register_again(self) -> None:
        """As whoever has not heard the answer to the first try."""
        await self._register(self._spec, self._contract)

    async def _use_old_lease(self) -> None:
        if self._past:
            await self._use(self._rng.choice(self._past))

    async def _guess(self) -> None:
        await self._use(f"{self._rng.getrandbits(128):032x}")

    async def _ask_wrongly(self) -> None:
        """Nothing of this may be done."""
        way, spec = self._rng.randrange(4), registry_pb2.EndpointSpec()
        spec.CopyFrom(self._spec)
        if way == 0:
            await self._caller.update(self._lease, state="SUSPECT")
        elif way == 1:
            await self._caller.update(self._lease, slots=0)
        elif way == 2:
            spec.address = f"0.0.0.0:{self._plan.port}"
            await self._caller.register(spec, PLAIN.proto, PLAIN.hash, self._plan.ttl)
        else:
            await self._caller.register(spec, PLAIN.proto, PLAIN.hash, self._rng.choice((0.01, 1e6)))

    async def _use(self, lease: str) -> None:
        way = self._rng.randrange(3)
        if way == 0:
            await self._caller.renew([lease, *([self._lease] if self._lease else [])])
        elif way == 1:
            await self._caller.update(lease, state="NOT_SERVING", slots=77)
        else:
            await self._caller.deregister(lease)
