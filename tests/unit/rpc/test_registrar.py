"""Staying registered, in virtual time: whatever the registry does, and whatever the owner does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from atomesh.core import Endpoint, Load, Position, State
from atomesh.core.contract import ContractDescriptor
from atomesh.core.errors import IncompatibleContract, RegistryUnavailable, Superseded, UnknownLease
from atomesh.rpc.registrar import Registrar
from atomesh.rpc.registry_client import Registration
from atomesh.testing import VirtualClock
from atomesh.v1 import registry_pb2

CONTRACT = ContractDescriptor("t.In", "t.Out", b"", "hash")
TTL = 15.0
RENEWED, UNKNOWN, SUPERSEDED = (
    registry_pb2.RENEW_STATUS_RENEWED,
    registry_pb2.RENEW_STATUS_UNKNOWN,
    registry_pb2.RENEW_STATUS_SUPERSEDED,
)


@dataclass
class FakeRegistry:
    """The registry's side of a RegistryClient, without wire or clock; `log` is what it was asked."""

    clock: VirtualClock
    shown: dict[str, tuple[str, str, State]] = field(default_factory=dict)  # address: lease, instance, state
    superseded: set[str] = field(default_factory=set)
    log: list[tuple[str, str, float]] = field(default_factory=list)
    down: bool = False
    refuses: str = ""  # an agent whose contract does not fit
    lost: set[str] = field(default_factory=set)  # verbs whose answer does not arrive
    latency: float = 0.0
    ttl: float = TTL
    _ids: Any = field(default_factory=lambda: itertools.count(1))

    async def _asked(self, verb: str, what: str) -> None:
        self.log.append((verb, what, self.clock.now()))
        if self.down:
            raise RegistryUnavailable("no registry answers")
        await self.clock.sleep(self.latency / 2)

    async def _answers(self, verb: str) -> None:
        await self.clock.sleep(self.latency / 2)
        if verb in self.lost:
            await self.clock.sleep(5)
            raise RegistryUnavailable("no registry answers (Deadline Exceeded)")

    async def register(self, endpoint: Endpoint, contract: Any, *, ttl: float | None = None) -> Registration:
        await self._asked("register", endpoint.address)
        if endpoint.agent == self.refuses:
            raise IncompatibleContract("field t.In.a is int32, was string")
        lease = f"lease-{next(self._ids)}"
        state = State.SERVING
        if old := self.shown.get(endpoint.address):
            if old[1] == endpoint.instance_id:
                state = old[2]  # its own earlier try: what drains still drains
            else:
                self.superseded.add(old[0])
        self.shown[endpoint.address] = (lease, endpoint.instance_id, state)
        await self._answers("register")
        return Registration(lease, ttl or self.ttl, Position("s", 1))

    async def renew(self, leases: list[tuple[str, Load | None]]) -> list[int]:
        await self._asked("renew", ",".join(lease for lease, _ in leases))
        known = {lease for lease, _, _ in self.shown.values()}
        statuses: list[int] = [
            RENEWED if lease in known else SUPERSEDED if lease in self.superseded else UNKNOWN for lease, _ in leases
        ]
        await self._answers("renew")
        return statuses

    async def update(self, lease_id: str, *, state: State) -> Position:
        await self._asked("update", lease_id)
        address = self._address(lease_id)
        self.shown[address] = (lease_id, self.shown[address][1], state)
        await self._answers("update")
        return Position("s", 2)

    async def deregister(self, lease_id: str) -> Position:
        await self._asked("deregister", lease_id)
        del self.shown[self._address(lease_id)]
        await self._answers("deregister")
        return Position("s", 3)

    def _address(self, lease_id: str) -> str:
        for address, (lease, _, _) in self.shown.items():
            if lease == lease_id:
                return address
        raise Superseded("taken") if lease_id in self.superseded else UnknownLease("no such lease")

    def states(self) -> dict[str, State]:
        return {address: state for address, (_, _, state) in self.shown.items()}

    def asked(self, verb: str) -> list[float]:
        return [at for name, _, at in self.log if name == verb]


@pytest.fixture
def registry(virtual_clock: VirtualClock) -> FakeRegistry:
    return FakeRegistry(virtual_clock)


def _registrar(registry: FakeRegistry, *agents: str, load: Any = None) -> Registrar:
    client: Any = registry
    registrar = Registrar(client, clock=registry.clock, rng=random.Random(1))
    for agent in agents or ("a",):
        registrar.add(Endpoint(agent, f"{agent}:1", instance_id="instance-1"), CONTRACT, load)
    return registrar


@contextlib.asynccontextmanager
async def _running(registrar: Registrar) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(registrar.run())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_it_registers_at_once_and_renews_every_third_of_the_ttl(registry: FakeRegistry) -> None:
    registrar = _registrar(registry, "a", "b")
    async with _running(registrar):
        await registrar.ready.wait()
        assert registry.clock.now() == 0
        await registry.clock.sleep(61)
        assert registry.states() == {"a:1": State.SERVING, "b:1": State.SERVING}
        assert registry.asked("renew") == [0, *(5.0 * turn for turn in range(1, 13))]
        assert len(registry.asked("register")) == 2, "one batch renews all leases of the process"


async def test_it_keeps_trying_while_the_registry_is_away(registry: FakeRegistry) -> None:
    registry.down = True
    registrar = _registrar(registry)
    async with _running(registrar):
        await registry.clock.sleep(600)
        assert not registrar.ready.is_set()
        gaps = [after - before for before, after in itertools.pairwise(registry.asked("register"))]
        assert max(gaps) <= 2.0, "it must be back within 2 s of the registry"
        assert gaps[0] < 0.2
        registry.down = False
        await registry.clock.sleep(2)
        assert registry.states() == {"a:1": State.SERVING}


async def test_a_registry_that_forgot_everything_gets_it_again(registry: FakeRegistry) -> None:
    registrar = _registrar(registry, "a", "b")
    async with _running(registrar):
        await registry.clock.sleep(7)
        registry.shown.clear()
        await registry.clock.sleep(5)
        assert set(registry.states()) == {"a:1", "b:1"}


async def test_a_lease_that_a_newer_instance_took_is_given_up_for_good(registry: FakeRegistry) -> None:
    registrar = _registrar(registry, "a", "b")
    async with _running(registrar):
        await registry.clock.sleep(1)
        await registry.register(Endpoint("a", "a:1", instance_id="instance-2"), CONTRACT)
        async with asyncio.timeout(6):
            await registrar.superseded.wait()
        await registry.clock.sleep(60)
        assert registry.shown["a:1"][1] == "instance-2", "two processes must not take an address from each other"
        assert registry.shown["b:1"][1] == "instance-1"


async def test_one_agent_that_is_refused_keeps_no_other_out_and_may_be_right_later(
    registry: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.refuses = "a"
    registrar = _registrar(registry, "a", "b")
    async with _running(registrar):
        await registry.clock.sleep(30)
        assert set(registry.states()) == {"b:1"}
        assert not registrar.ready.is_set()
        told = [record for record in caplog.records if "the registry refused a" in record.getMessage()]
        assert len(told) == 1, "said once, not every 2 s"
        registry.refuses = ""
        await registry.clock.sleep(3)
        assert registrar.ready.is_set()
        assert set(registry.states()) == {"a:1", "b:1"}


async def test_a_registration_whose_answer_was_lost_is_asked_for_again(registry: FakeRegistry) -> None:
    registry.lost = {"register"}
    registrar = _registrar(registry)
    async with _running(registrar):
        await registry.clock.sleep(6)
        assert set(registry.states()) == {"a:1"}, "the registry did commit it"
        registry.lost = set()
        async with asyncio.timeout(10):
            await registrar.ready.wait()
        await registry.clock.sleep(20)
        assert registry.asked("renew"), "the lease that is renewed must be the last one granted"
        assert len(registry.superseded) == 0


async def test_leaving_takes_along_a_registration_whose_answer_was_lost(registry: FakeRegistry) -> None:
    registry.lost = {"register"}
    registrar = _registrar(registry)
    async with _running(registrar):
        await registry.clock.sleep(3)  # in the middle of waiting for an answer
        registry.lost = set()
    assert set(registry.states()) == {"a:1"}
    await registrar.leave()
    assert registry.states() == {}, "no ghost for a ttl"


@pytest.mark.parametrize("when", [0.5, 1.0, 1.5, 2.5, 3.5, 7.0])
async def test_whenever_it_leaves_nothing_stays_behind(registry: FakeRegistry, when: float) -> None:
    registry.latency = 1.0
    registrar = _registrar(registry, "a", "b")
    async with _running(registrar):
        await registry.clock.sleep(when)  # registering a, registering b, renewing
        await registrar.leave()
        assert registry.states() == {}
        await registry.clock.sleep(60)
        assert registry.states() == {}, "an answer that was under way must not bring it back"
        assert max(registry.asked("register")) <= when + 1


async def test_a_slow_registration_does_not_overtake_the_farewell(registry: FakeRegistry) -> None:
    registry.latency = 4.0
    registrar = _registrar(registry)
    async with _running(registrar):
        await registry.clock.sleep(1)  # it commits a second later
        registry.latency = 0.0
        await registrar.leave()
        await registry.clock.sleep(10)
        assert registry.states() == {}


@pytest.mark.parametrize("when", [0.5, 1.5, 2.5, 3.5, 7.0])
async def test_whenever_it_drains_the_registry_hears_it_before_drain_says_so(
    registry: FakeRegistry, when: float
) -> None:
    registry.latency = 1.0
    registrar = _registrar(registry, "a", "b")
    async with _running(registrar):
        await registry.clock.sleep(when)
        assert await registrar.drain() is True
        assert State.SERVING not in registry.states().values()
        await registry.clock.sleep(60)
        assert State.SERVING not in registry.states().values()


async def test_a_drain_that_the_registry_did_not_hear_is_said_again(registry: FakeRegistry) -> None:
    registrar = _registrar(registry)
    async with _running(registrar):
        await registry.clock.sleep(1)
        registry.down = True
        assert await registrar.drain() is False
        registry.down = False
        await registry.clock.sleep(6)
        assert registry.states() == {"a:1": State.DRAINING}
        await registry.clock.sleep(60)
        assert len(registry.asked("update")) == 2, "what was heard is not said again"


async def test_what_drains_is_not_registered_anew(registry: FakeRegistry) -> None:
    registrar = _registrar(registry, "a", "b")
    async with _running(registrar):
        await registry.clock.sleep(1)
        assert await registrar.drain({"a"})
        assert registry.states() == {"a:1": State.DRAINING, "b:1": State.SERVING}
        registry.shown.clear()
        await registry.clock.sleep(20)
        assert registry.states() == {"b:1": State.SERVING}, "who goes need not come back first"


async def test_draining_before_it_was_ever_registered_is_heard(registry: FakeRegistry) -> None:
    registrar = _registrar(registry)
    assert await registrar.drain() is True
    async with _running(registrar):
        await registry.clock.sleep(20)
        assert registry.states() == {}


async def test_leaving_lets_go_of_all_even_where_the_registry_is_away(registry: FakeRegistry) -> None:
    registrar = _registrar(registry, "a", "b")
    async with _running(registrar):
        await registry.clock.sleep(1)
        registry.down = True
        await registrar.leave()
        registry.down = False
        renewals = len(registry.asked("renew"))
        await registry.clock.sleep(60)
        renewed = [what for verb, what, _ in registry.log if verb == "renew"][renewals:]
        assert not any(renewed), "what has left must run out with its ttl"


async def test_one_agent_may_leave_and_the_others_stay(registry: FakeRegistry) -> None:
    registrar = _registrar(registry, "a", "b")
    async with _running(registrar):
        await registry.clock.sleep(1)
        await registrar.leave({"a"})
        await registry.clock.sleep(30)
        assert set(registry.states()) == {"b:1"}


async def test_a_load_that_cannot_be_told_costs_no_lease(
    registry: FakeRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Load:
        raise ZeroDivisionError("slots")

    registrar = _registrar(registry, load=broken)
    async with _running(registrar) as task:
        await registry.clock.sleep(12)
        assert not task.done()
        assert len(registry.asked("renew")) == 3
    assert "the load of a cannot be told" in caplog.text


@pytest.mark.parametrize("ttl", [0.0, 0.001])
async def test_a_ttl_of_nothing_does_not_make_it_spin(registry: FakeRegistry, ttl: float) -> None:
    registry.ttl = ttl
    async with _running(_registrar(registry)):
        await registry.clock.sleep(10)
        assert len(registry.asked("renew")) <= 102


async def test_a_lease_that_vanished_is_noticed_when_a_drain_names_it(registry: FakeRegistry) -> None:
    registrar = _registrar(registry)
    async with _running(registrar):
        await registry.clock.sleep(1)
        registry.shown.clear()
        assert await registrar.drain() is True, "not known is not shown: nobody needs to hear it"
        await registry.clock.sleep(20)
        assert registry.states() == {}


async def test_a_lease_that_was_taken_is_noticed_when_a_drain_names_it(registry: FakeRegistry) -> None:
    registrar = _registrar(registry)
    async with _running(registrar):
        await registry.clock.sleep(1)
        await registry.register(Endpoint("a", "a:1", instance_id="instance-2"), CONTRACT)
        await registrar.drain()
        assert registrar.superseded.is_set()


@pytest.mark.parametrize("seed", range(25))
async def test_in_a_random_world_it_ends_as_it_should(registry: FakeRegistry, seed: int) -> None:
    rng = random.Random(seed)
    registry.latency = rng.choice([0.0, 0.01, 1.0])
    registrar = _registrar(registry, "a", "b", "c")
    happens: list[Callable[[], Awaitable[Any] | None]] = [
        lambda: setattr(registry, "down", not registry.down),
        lambda: setattr(registry, "lost", set(rng.sample(["register", "renew", "update"], rng.randrange(3)))),
        lambda: registry.shown.clear(),
        lambda: registrar.drain({"a"}),
        lambda: registrar.leave({"b"}),
    ]
    async with _running(registrar) as task:
        gone: set[int] = set()
        for _ in range(30):
            await registry.clock.sleep(rng.uniform(0, 8))
            choice = rng.randrange(len(happens))
            gone.add(choice)
            if (waiting := happens[choice]()) is not None:
                await waiting
        registry.down, registry.lost = False, set()
        await registry.clock.sleep(60)
        assert not task.done()
        states = registry.states()
        assert states["c:1"] is State.SERVING
        if 3 in gone:
            assert states.get("a:1", State.DRAINING) is State.DRAINING
        await registrar.leave()
        left = {address for address in registry.states() if address != "b:1"}
        assert not left, "b may have left while the registry was away; its ttl tells it"
