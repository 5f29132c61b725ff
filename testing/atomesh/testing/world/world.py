"""A world: the real mesh on a network in memory, in virtual time, with faults, all out of one seed."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from dataclasses import dataclass

from atomesh.balancer.retry import MAX_ATTEMPTS
from atomesh.testing.clock import VirtualClock
from atomesh.testing.memory import MemoryNetwork, run_hosts
from atomesh.testing.world.callers import Callers, Wish, share
from atomesh.testing.world.digger import AGENT
from atomesh.testing.world.faults import Fault
from atomesh.testing.world.invariants import Book, Violation
from atomesh.testing.world.members import ClientMember, EndpointMember, Ground, RegistryMember
from atomesh.testing.world.scenario import Scenario
from atomesh.testing.world.trace import Trace
from atomesh.testing.world.watch import LOOKS, TROUBLE, Lookout

START_SECONDS = 10.0
"""For a fleet to register and be known, with nothing wrong."""
SETTLE_SECONDS = 700.0
"""After the last fault, for every slot to be of use again. An endpoint that was
ejected five times in a row is out for 160 s, six times for 300."""
ROUND_SECONDS = 2.0
MAX_ROUND_SECONDS = 30.0
QUIET_SECONDS = 1.0
"""For the last grants to come back, or to lapse; after faults it takes TROUBLE."""
END_SECONDS = 60.0
"""For everybody to stop, with nothing wrong."""
PROBE_WAIT = 0.3
"""Seconds within which calls must fill every slot at once at the end, beside ten round trips."""


Member = RegistryMember | EndpointMember | ClientMember


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a world."""

    seed: int
    time: float
    calls: int
    results: dict[str, int]
    """How many calls ended how."""
    violations: tuple[Violation, ...]
    lines: tuple[str, ...]
    digest: str


class World:
    """Runs one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        """Inside a running HostLoop; nothing lives before `run`."""
        self.scenario = scenario
        clock = VirtualClock(loop=asyncio.get_running_loop())
        self.book = Book(Trace(clock.now), MAX_ATTEMPTS + scenario.hedge)
        self.network = MemoryNetwork(random.Random(f"network {scenario.seed}"), profile=scenario.link)
        self.ground = Ground(self.network, clock, self.book, scenario.seed)
        self.registry = RegistryMember(self.ground, "registry")
        self.endpoints = [
            EndpointMember(self.ground, name, slots, self.registry.address, max_age=scenario.max_age)
            for name, slots in zip(scenario.endpoint_names, scenario.slots, strict=True)
        ]
        self.clients = [
            ClientMember(self.ground, name, self.registry.address, scenario) for name in scenario.client_names
        ]
        everybody: list[Member] = [self.registry, *self.endpoints, *self.clients]
        self._members = {each.name: each for each in everybody}
        self._callers = Callers(self)
        self._lookout = Lookout(self)
        self._faulty = 0
        self._quiet_since = float("-inf")
        self._ended = False

    @property
    def quiet_for(self) -> float:
        """Seconds since the last fault was over; 0 while one lasts."""
        return 0.0 if self._faulty else self.ground.clock.now() - self._quiet_since

    def member(self, name: str) -> Member:
        """By its name."""
        return self._members[name]

    def endpoint(self, name: str) -> EndpointMember:
        """By its name."""
        member = self._members[name]
        assert isinstance(member, EndpointMember), f"{name} is no endpoint"
        return member

    def excuse(self, name: str) -> None:
        """Who stood still is late with what it does next, and with what was on its way to it."""
        self._members[name].late_until = self.ground.clock.now() + 2 * LOOKS + 10 * self.scenario.link.mean

    def apart(self, one: str, other: str) -> bool:
        """Whether something is between two."""
        return self.network.blocked(one, other) or self.network.blocked(other, one)

    async def run(self) -> None:
        """From the first start to the last stop."""
        looking = asyncio.create_task(self._look(), name="lookout")
        try:
            await self._begin()
            await self._live()
            await self._settle()
            await self.ground.clock.sleep(max(QUIET_SECONDS, TROUBLE - self.quiet_for))
            self._check_quiet()
            async with asyncio.timeout(END_SECONDS):
                await self._end()
        finally:
            self._ended = True
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    def fail(self, error: Exception) -> None:
        """The world has ended with an error of its own."""
        self._violated(f"the world ends with {type(error).__name__}: {error}")

    def report(self) -> Report:
        """What became of it."""
        results: dict[str, int] = {}
        for call in self.book.calls.values():
            results[call.result] = results.get(call.result, 0) + 1
        trace = self.book.trace
        return Report(
            self.scenario.seed,
            self.ground.clock.now(),
            len(self.book.calls),
            results,
            tuple(self.book.violations),
            tuple(trace.lines),
            trace.digest(),
        )

    async def _begin(self) -> None:
        for member in self._members.values():
            await member.start()
        async with asyncio.timeout(START_SECONDS):
            for endpoint in self.endpoints:
                await endpoint.running.registered.wait()

    async def _live(self) -> None:
        scenario = self.scenario
        shares = share(scenario.calls, scenario.clients, self.ground.rng("shares"))
        began = self.ground.clock.now()
        works = [
            client.host.spawn(self._callers.arrive(client, calls), f"calls of {client.name}")
            for client, calls in zip(self.clients, shares, strict=True)
        ]
        works += [asyncio.create_task(self._suffer(fault, began), name=str(fault)) for fault in scenario.faults]
        await asyncio.gather(*works)
        await self._callers.all_ended()
        self._check_ends()

    def _check_ends(self) -> None:
        """How calls may end where nothing goes wrong, or nothing but restarts."""
        scenario, calls = self.scenario, self.book.calls.values()
        if scenario.gentle and (lost := [call for call in calls if call.result in _LOST]):
            what = f"{len(lost)} calls were lost, call {lost[0].number} with {lost[0].result}"
            self._violated(f"nothing but restarts, and {what}")
        if scenario.calm and (failed := [call for call in calls if call.result not in _FINE]):
            first = failed[0]
            self._violated(
                f"nothing went wrong, and {len(failed)} calls failed, call {first.number} with {first.result}"
            )

    async def _suffer(self, fault: Fault, began: float) -> None:
        clock = self.ground.clock
        await clock.sleep(began + fault.at - clock.now())
        self._faulty += 1
        self.book.trace.add("fault", f"{fault} begins")
        try:
            await fault.begin(self)
            await clock.sleep(fault.seconds)
            await fault.end(self)
        finally:
            self.book.trace.add("fault", f"{type(fault).__name__} is over")
            self._faulty -= 1
            self._quiet_since = clock.now()

    async def _settle(self) -> None:
        """Fills all slots at once, until that works: what leaked in the faults never comes back."""
        until, pause = self.ground.clock.now() + SETTLE_SECONDS, ROUND_SECONDS
        while not await self._fills_all_slots():
            if self.ground.clock.now() > until:
                idle = ", ".join(f"{each.name} {each.most_at_once} of {each.slots}" for each in self.endpoints)
                self._violated(f"{SETTLE_SECONDS:g} s after the last fault not all slots are of use ({idle})")
                return
            await self.ground.clock.sleep(pause)
            pause = min(2 * pause, MAX_ROUND_SECONDS)

    async def _fills_all_slots(self) -> bool:
        for endpoint in self.endpoints:
            endpoint.most_at_once = 0
        slots = sum(endpoint.slots for endpoint in self.endpoints)
        client = self.clients[0]
        within = PROBE_WAIT + 20 * self.scenario.link.latency
        calls = [self._callers.begin(client, Wish(2 * within)) for _ in range(slots)]
        await self.ground.clock.sleep(within)
        running = sum(len(call.runs_at) for call in calls)
        await self._callers.all_ended()
        return running == slots

    def _check_quiet(self) -> None:
        """Nothing is taken, promised or wanted when nobody calls."""
        for endpoint in self.endpoints:
            if endpoint.running is None:
                continue
            admission = endpoint.running.agents[AGENT].admission
            if admission.in_flight or admission.taken or admission.wanted:
                self._violated(
                    f"nobody calls, and at {endpoint.name} {admission.in_flight} slots are taken, "
                    f"{admission.taken - admission.in_flight} granted, {admission.wanted} wanted"
                )
        serving = {each.address: each.running.instance_id for each in self.endpoints if each.running is not None}
        for client in self.clients:
            self._lookout.check_nothing_out(client)
            if (known := client.view.serving()) and known != serving:
                self._violated(f"{client.name} believes that {sorted(known)} serve, and {sorted(serving)} do")

    async def _end(self) -> None:
        for client in self.clients:
            await client.stop()
        for endpoint in self.endpoints:
            await endpoint.stop()
        await self.registry.stop()
        await asyncio.gather(*self.ground.graves)

    async def _look(self) -> None:
        while not self._ended:
            await self.ground.clock.sleep(LOOKS)
            self._lookout.look()

    def _violated(self, what: str) -> None:
        self.book.violated(self.ground.clock.now(), what)


_FINE = ("OK", "CancelledError")
_LOST = ("CONNECTION_LOST", "AGENT_CRASHED", "CANCELLED", "REMOTE_ERROR")


def run_world(scenario: Scenario) -> Report:
    """Runs a scenario from beginning to end, in virtual time of its own."""
    worlds: list[World] = []

    async def live() -> None:
        worlds.append(World(scenario))
        await worlds[0].run()

    # Finalizers run when the collector says so, which is another time in every process.
    collects = gc.isenabled()
    gc.disable()
    muted = logging.getLogger("atomesh").level
    logging.getLogger("atomesh").setLevel(logging.CRITICAL)
    try:
        run_hosts(live())
    except Exception as error:  # whatever ends a world has a seed, a time and last events as well
        if not worlds:
            raise
        worlds[0].fail(error)
    finally:
        logging.getLogger("atomesh").setLevel(muted)
        if collects:
            gc.enable()
    return worlds[0].report()
