"""The fleets of one client: one per agent that is called, and one per version range that is asked of it.

A range has a fleet of its own, with its own watch, connections, queue and
records of failures: what is picked inside it, what waits for it and whether its
circuit is open has nothing to do with other versions.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from atomesh.balancer.balancer import Balancer
from atomesh.balancer.breaker import DEFAULT_BREAKER, Breaker
from atomesh.balancer.filters import Filters
from atomesh.balancer.fleet import Fleet
from atomesh.balancer.metrics import AgentSeries, ClientMetrics
from atomesh.balancer.resolver import Resolver
from atomesh.core import errors
from atomesh.core.clock import Clock
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import InvalidArgument
from atomesh.core.names import check_agent_name
from atomesh.core.versions import parse_range
from atomesh.rpc.credentials import Credentials
from atomesh.rpc.network import Network

Key: TypeAlias = str | tuple[str, str]
"""An agent's name; with the range where one is asked for."""

MAX_RANGES = 64
"""Version ranges that are followed at once. Plans name a handful; whoever makes
ranges up must not have a client hold any number of watches and connections.
Past it those in nobody's use end, the oldest first."""


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What all fleets of a client have in common."""

    resolver: Resolver
    credentials: Credentials
    metrics: ClientMetrics
    clock: Clock
    rng: random.Random
    filters: Filters
    breakers: Mapping[str, Breaker]
    mux: bool
    network: Network


def check_breakers(breakers: Mapping[str, Breaker] | None) -> Mapping[str, Breaker]:
    """The breakers, by agent.

    Raises:
        InvalidArgument: one is none, or its name is no agent's.
    """
    for agent, breaker in (breakers or {}).items():
        check_agent_name(agent)
        if not isinstance(breaker, Breaker):
            raise InvalidArgument(f"the breaker of {agent} is a {type(breaker).__name__}; give a Breaker")
    return dict(breakers or {})


class Fleets:
    """Makes fleets when they are first asked for, and ends those that are of no use."""

    def __init__(self, settings: FleetSettings) -> None:
        """None yet."""
        self.made: dict[Key, Fleet] = {}
        self._settings = settings
        self._closed = False

    def get(self, agent: str, version: str = "") -> Fleet | None:
        """The fleet, where it was met before."""
        return self.made.get((agent, version) if version else agent)

    async def meet(self, agent: str, version: str, deadline: float) -> Fleet:
        """The fleet, once the resolver has told of the agent.

        What nobody registered leaves nothing behind: or whoever can name agents
        could have a client hold any number of watches.

        Raises:
            UnknownAgent, NoEndpoint, RegistryUnavailable, DeadlineExceeded: see Fleet.sync.
        """
        key: Key = (agent, version) if version else agent
        fleet = self.made.get(key)
        if fleet is None:
            if self._closed:
                raise errors.Cancelled("the client is closed", executed=False)
            check_agent_name(agent)
            parse_range(version)
            fleet = self.made[key] = self._make(agent, version)
        fleet.strangers += 1
        try:
            await fleet.sync(deadline)
        finally:
            fleet.strangers -= 1
            if not (fleet.balancer.known or fleet.strangers or self._closed):
                await self._forget(key).close()
        if version:
            await self._tidy(key)
        return fleet

    def endpoints(self, agent: str, version: str = "") -> tuple[Endpoint, ...]:
        """The agent's endpoints as last told; none where it was not met."""
        fleet = self.get(agent, version) or next((f for f in self.made.values() if f.agent == agent), None)
        if fleet is None:
            return ()
        wanted = parse_range(version)
        told = (candidate.endpoint for candidate in fleet.balancer.candidates.values())
        return tuple(endpoint for endpoint in told if not version or endpoint.version in wanted)

    async def close(self) -> None:
        """Ends all of them."""
        self._closed = True
        fleets = list(self.made.values())
        self.made.clear()
        await asyncio.gather(*(fleet.close() for fleet in fleets))

    def _make(self, agent: str, version: str) -> Fleet:
        settings = self._settings
        shared = next((fleet.series for fleet in self.made.values() if fleet.agent == agent), None)
        balancer = Balancer(
            agent,
            rng=settings.rng,
            filters=replace(settings.filters, only=version) if version else settings.filters,
            breaker=settings.breakers.get(agent, DEFAULT_BREAKER),
        )
        return Fleet(
            balancer,
            settings.resolver,
            settings.credentials,
            shared or AgentSeries(settings.metrics, agent),
            settings.clock,
            mux=settings.mux,
            network=settings.network,
        )

    def _forget(self, key: Key) -> Fleet:
        fleet = self.made.pop(key)
        fleet.series.forget(fleet.balancer)
        return fleet

    async def _tidy(self, met: Key) -> None:
        """Ends ranges past MAX_RANGES that nobody uses."""
        ranges = [key for key in self.made if isinstance(key, tuple)]
        unused = [key for key in ranges if key != met and self.made[key].idle]
        dropped = [self._forget(key) for key in unused[: max(0, len(ranges) - MAX_RANGES)]]
        await asyncio.gather(*(fleet.close() for fleet in dropped))
