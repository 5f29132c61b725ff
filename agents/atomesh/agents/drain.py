"""Out of service without losing a call.

In this order: NOT_SERVING to whoever watches our health, `drain` to our muxes,
DRAINING to the registry, wait until its watch has carried that (and so nobody picks us any
more), refuse what still comes (unexecuted), finish what runs, deregister.
Leases are renewed all the while: an endpoint that finishes its work is alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from atomesh.agents.served import ServedAgent
from atomesh.core.clock import Clock
from atomesh.core.endpoint import ALL_STATES, State
from atomesh.core.errors import AtomeshError
from atomesh.core.selector import Selector
from atomesh.core.updates import Added, Changed, Removed, Reset, WatchEvent
from atomesh.rpc.registrar import Registrar
from atomesh.rpc.registry_client import RegistryClient
from atomesh.rpc.services import HealthService
from atomesh.rpc.tasks import Tasks

log = logging.getLogger("atomesh.agents")

GRACE = 25.0
"""Seconds that what runs may take. Kubernetes kills after 30; half would cut
off a slow model's answer."""

_WATCH_CARRIES = 1.0
"""Seconds for the registry's watch to carry our state: it takes milliseconds,
and without a registry nobody waits. Twice of it only prolongs every restart
while a registry is sick."""

_OTHERS_LAG = 0.1
"""Seconds by which other watchers may be behind ours: a pass of their event
loop and one of ours. Half of it and a busy client's next pick still comes to
us (and is refused unexecuted, so nothing is lost); more is waited for nothing."""

_CANCELLED_ENDS = 1.0
"""Seconds for cancelled work to clean up. What ignores cancellation longer ends
with the process."""


class Drainer:
    """Drains the agents of one process, each once."""

    def __init__(
        self,
        agents: Mapping[str, ServedAgent],
        health: HealthService,
        clock: Clock,
        *,
        registry: tuple[RegistryClient, Registrar] | None,
        grace: float = GRACE,
        draining: Callable[[Sequence[str]], None] = lambda _: None,
    ) -> None:
        """`grace` in seconds is for who says none; `draining` is told the names of agents that begin to drain."""
        self._agents = agents
        self._health = health
        self._clock = clock
        self._registry = registry
        self._grace = grace
        self._draining = draining
        self._states = dict.fromkeys(agents, State.NOT_SERVING)
        self._tasks = Tasks()
        self._left: set[str] = set()
        self.done = asyncio.Event()
        """Set once all have drained."""
        self.beside: list[Callable[[], Awaitable[None]]] = []
        """Each returns once what the process does beside its agents has ended; the drain of the last agent waits for it."""

    def state(self, agent: str) -> State:
        """Whether the agent takes calls."""
        return self._states[agent]

    def serving(self) -> None:
        """All take calls from now on."""
        self._set(self._agents, State.SERVING)

    def begin(self, agents: Sequence[str], grace: float | None = None) -> None:
        """Begins to drain those of them that do not drain yet."""
        names = [name for name in agents if self._states[name] is not State.DRAINING]
        if names:
            self._set(names, State.DRAINING)
            self._draining(names)
            self._tasks.spawn(self._drain(names, self._grace if grace is None else grace), f"drain {names}")

    async def close(self) -> None:
        """Ends draining wherever it is."""
        self._set(self._agents, State.NOT_SERVING)
        await self._tasks.cancel()

    def _set(self, agents: Collection[str], state: State) -> None:
        for name in agents:
            self._states[name] = state
        served = list(self._agents.values())
        up = {name for name, now in self._states.items() if now is State.SERVING}
        services = {agent.spec.typed_service for agent in served} - {""}
        self._health.set(
            {"": bool(up)}
            | {name: name in up for name in self._states}
            | {
                service: any(agent.spec.typed_service == service and agent.spec.name in up for agent in served)
                for service in services
            }
        )

    async def _drain(self, names: Sequence[str], grace: float) -> None:
        log.info("draining %s", ", ".join(names))
        if self._registry is not None and await self._registry[1].drain(names):
            await self._until_carried(self._registry[0], names)
        await self._clock.sleep(_OTHERS_LAG)
        for name in names:
            self._agents[name].admission.draining = True
        await self._finish([self._agents[name] for name in names], grace)
        if self._registry is not None:
            await self._registry[1].leave(names)
        self._left.update(names)
        log.info("drained %s", ", ".join(names))
        if len(self._left) == len(self._agents):
            self.done.set()

    async def _finish(self, agents: Sequence[ServedAgent], grace: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                for served in agents:
                    await served.idle()
                for idle in self.beside if State.SERVING not in self._states.values() else ():
                    await idle()
                return
        cut = sum(served.cancel_running(f"cut off by a drain after {grace:g} s") for served in agents)
        log.warning("%d executions had not ended after %g s and were cut off", cut, grace)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CANCELLED_ENDS):
                for served in agents:
                    await served.idle()

    async def _until_carried(self, client: RegistryClient, names: Sequence[str]) -> None:
        """Returns once our own watch shows us draining; after a second whatever it shows."""
        try:
            async with asyncio.timeout(_WATCH_CARRIES):
                for name in names:
                    await self._shown(client, self._agents[name])
        except (TimeoutError, AtomeshError) as error:
            log.warning("draining without having seen it in the registry's watch: %r", error)

    async def _shown(self, client: RegistryClient, served: ServedAgent) -> None:
        selector = Selector(agent=served.spec.name, states=ALL_STATES)
        async with contextlib.aclosing(client.watch_once(selector)) as events:
            async for event in events:
                if not _still_serving(event, served.where.instance_id):
                    return


def _still_serving(event: WatchEvent, instance_id: str) -> bool:
    """Whether the instance serves as far as this event tells: not told of is as before, and that is serving."""
    serving = True
    for update in event.updates:
        if isinstance(update, Reset):
            serving = any(e.instance_id == instance_id and e.state is State.SERVING for e in update.endpoints)
        elif isinstance(update, Added | Changed) and update.endpoint.instance_id == instance_id:
            serving = update.endpoint.state is State.SERVING
        elif isinstance(update, Removed) and update.instance_id == instance_id:
            serving = False
    return serving
