"""The registry's state as a whole, in virtual time: leases, watches and state tell one story."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from atomesh.core.endpoint import ALL_STATES, Endpoint, Load, State
from atomesh.core.errors import NotFound, UnknownAgent
from atomesh.core.selector import Selector
from atomesh.core.updates import RemovedReason, ResetReason
from atomesh.registry.operations import Stored

EVERY = Selector(states=ALL_STATES)


def as_watched(endpoint: Endpoint) -> Endpoint:
    """Without what a watch does not carry."""
    return replace(endpoint, last_renewed_at=0.0, load=None, recent=None)


def reopened(world: Any, new_world: Any, **settings: Any) -> Any:
    """The registry after a restart: what was committed, and nothing else."""
    store = world.ledger.store
    superseded = tuple(store._superseded)
    stored = Stored(store.store_id, store.revision, tuple(store.all()), tuple(store.contracts.values()), superseded)
    return new_world(stored, **settings)


def test_a_renewal_makes_no_revision_but_is_seen_by_who_asks(world: Any, folded: Any) -> None:
    lease = world.register()
    watch = folded(world.ledger, Selector())
    watch.follow()
    world.ledger.renew(lease, Load(slots=1, in_flight=1), world.now, 5000.0)
    assert watch.follow() == []
    assert world.ledger.store.revision == 1
    (endpoint,) = world.ledger.discover(Selector())
    assert endpoint.last_renewed_at == 5000.0
    assert endpoint.load == Load(slots=1, in_flight=1)
    world.ledger.renew(lease, None, world.now, 5001.0)
    assert world.ledger.discover(Selector())[0].load is not None, "a renewal that does not say must not unsay"


def test_a_change_carries_what_was_last_heard(world: Any, folded: Any) -> None:
    lease = world.register()
    watch = folded(world.ledger, Selector())
    watch.follow()
    world.ledger.renew(lease, Load(slots=1, in_flight=1), world.now, 5000.0)
    world.update(lease, slots=2)
    watch.follow()
    assert watch.table[("text", "10.0.0.1:1")].load == Load(slots=1, in_flight=1)


def test_a_mass_lapse_is_suspect_at_once_and_serves_again_when_heard_of(world: Any, folded: Any) -> None:
    leases = [world.register(port=port) for port in range(1, 31)]
    watch = folded(world.ledger, EVERY)
    watch.follow()
    world.wait(20)
    (step,) = watch.follow()
    assert {change.endpoint.state for change in step.changes} == {State.SUSPECT}
    assert world.ledger.store.self_preservation
    for lease in leases:
        assert world.ledger.renew(lease, None, world.now, 0).name == "RENEWED"
    assert world.ledger.recovering()
    world.wait(2)
    assert len(world.addresses()) == 30
    assert not world.ledger.store.self_preservation


def test_who_stays_suspect_is_gone_after_ten_ttls(world: Any) -> None:
    leases = [world.register(port=port) for port in range(1, 31)]
    world.wait(20, *leases[:20])
    assert world.ledger.counts()[State.SUSPECT] == 10
    world.wait(150, *leases[:20])
    assert world.ledger.counts() == {State.SERVING: 20}
    assert not world.ledger.store.self_preservation


def test_whoever_drains_is_not_shown_as_merely_suspect(world: Any) -> None:
    leases = [world.register(port=port) for port in range(1, 31)]
    world.update(leases[0], state=State.DRAINING)
    world.wait(20)
    assert world.ledger.counts() == {State.SUSPECT: 29, State.DRAINING: 1}
    world.update(leases[0], state=State.SERVING)
    assert world.ledger.counts() == {State.SUSPECT: 30}, "saying SERVING is no renewal"


def test_a_renewal_while_the_expiry_is_being_committed_is_unknown(world: Any) -> None:
    lease = world.register()
    world.wait(14)
    world.now += 1.5
    staged = world.ledger.stage([], world.now)
    assert staged.verdict.expired == (lease,)
    assert world.ledger.renew(lease, None, world.now, 0).name == "UNKNOWN", "it must hear that it has to register again"
    world.ledger.abandon()
    assert world.ledger.renew(lease, None, world.now, 0).name == "RENEWED", "an expiry that failed has not happened"
    assert world.ledger.stage([], world.now).batch.empty


def test_restored_leases_have_their_full_ttl_and_revisions_go_on(world: Any, new_world: Any, folded: Any) -> None:
    old, lease = world.register(port=1), world.register(port=2)
    successor = world.register(port=1, instance="instance-2")
    position = world.ledger.store.position
    world.wait(10)
    again = reopened(world, new_world)
    again.wait(14)
    assert again.addresses() == ["10.0.0.1:1", "10.0.0.1:2"]
    assert again.ledger.renew(lease, None, again.now, 0).name == "RENEWED", "lease ids must survive a restart"
    assert again.ledger.renew(old, None, again.now, 0).name == "SUPERSEDED", "so must the memory of who was replaced"
    resumed = folded(again.ledger, EVERY, position)
    assert resumed.follow() == [], "the last position before the restart can be resumed"
    again.deregister(successor)
    assert again.ledger.next_steps(resumed.watcher)
    assert again.ledger.store.revision == position.revision + 1


def test_after_a_restart_older_positions_are_compacted(world: Any, new_world: Any, folded: Any) -> None:
    world.register(port=1)
    position = world.ledger.store.position
    world.register(port=2)
    again = folded(reopened(world, new_world).ledger, EVERY, position)
    again.follow()
    assert again.resets == [ResetReason.COMPACTED]


def test_suspicion_survives_a_restart_until_there_is_news(world: Any, new_world: Any) -> None:
    leases = [world.register(port=port) for port in range(1, 31)]
    world.wait(20)
    again = reopened(world, new_world)
    again.wait(2)
    assert again.ledger.counts() == {State.SUSPECT: 30}, "a restart is no sign of life"
    again.ledger.renew(leases[0], None, again.now, 0)
    again.wait(1)
    assert again.ledger.counts() == {State.SUSPECT: 29, State.SERVING: 1}


def test_a_contract_is_found_by_hash_and_by_an_agents_highest_version(world: Any, contract: Any) -> None:
    newer = contract(count=3)
    world.register(port=1, version="1.9.0")
    world.register(port=2, version="1.10.0", contract=newer)
    world.register(port=3, version="1.10.0-rc.1")
    assert world.ledger.contract_of("text") == newer, "1.10.0 is above 1.9.0 and above its own release candidate"
    assert world.ledger.contract(newer.hash) == newer
    with pytest.raises(UnknownAgent, match="nobody"):
        world.ledger.contract_of("nobody")
    with pytest.raises(NotFound):
        world.ledger.contract("0" * 64)


class Story:
    """Random operations by a random fleet, a lossy network, and watchers of every kind."""

    def __init__(self, seed: int, new_world: Any, folded: Any, contracts: list[Any]) -> None:
        self.rng = random.Random(seed)
        self.world = new_world(history_changes=60, watch_queue=60)
        self.folded, self.contracts = folded, contracts
        self.leases: list[str] = []
        self.watches: list[Any] = []

    def selector(self) -> Selector:
        rng = self.rng
        return Selector(
            agent=rng.choice(["", "a", "b"]),
            capabilities=rng.choice([(), ("reporting",)]),
            labels=rng.choice([{}, {"tier": "gold"}]),
            version=rng.choice(["", ">=1.1.0"]),
            states=rng.choice([(), ALL_STATES, (State.SUSPECT, State.DRAINING)]),
        )

    def act(self) -> None:
        rng, world = self.rng, self.world
        kind = rng.choices(
            ["register", "update", "deregister", "renew", "wait", "watch", "read"], [6, 4, 2, 8, 3, 1, 6]
        )[0]
        if kind == "register":
            lease = world.register(
                agent=rng.choice("abc"),
                port=rng.randint(1, 40),
                instance=f"instance-{rng.randint(1, 3)}",
                version=rng.choice(["1.0.0", "1.1.0"]),
                capabilities=rng.choice([[], ["reporting"]]),
                labels=rng.choice([{}, {"tier": "gold"}]),
                contract=rng.choice(self.contracts),
            )
            self.leases.append(lease)
        elif kind == "wait":
            world.wait(rng.choice([1, 3, 8]), *self.leases[:: rng.choice([1, 1, 2, 50])])
        elif kind == "watch":
            self.watches.append(self.folded(world.ledger, self.selector()))
        elif kind == "read":
            for watch in rng.sample(self.watches, min(2, len(self.watches))):
                self.read(watch)
        elif self.leases:
            self.change(kind, rng.choice(self.leases))

    def change(self, kind: str, lease: str) -> None:
        rng, world = self.rng, self.world
        if world.ledger.store.by_lease(lease) is None:
            self.leases.remove(lease)
        elif kind == "renew":
            world.ledger.renew(lease, Load(in_flight=rng.randint(0, 5)), world.now, world.now)
        elif kind == "deregister":
            world.deregister(lease)
        else:
            state = rng.choice([None, State.SERVING, State.DRAINING, State.NOT_SERVING])
            world.update(lease, state=state, labels=rng.choice([None, {}, {"tier": "gold"}]))

    def read(self, watch: Any) -> None:
        """Sometimes through a broken connection: it resumes where it was."""
        if self.rng.random() < 0.3:
            table, position = watch.table, watch.position
            self.world.ledger.hub.leave(watch.watcher)
            self.watches.remove(watch)
            watch = self.folded(self.world.ledger, watch.selector, position)
            watch.table = table
            self.watches.append(watch)
        watch.follow()
        self.check(watch)

    def check(self, watch: Any) -> None:
        truth = {e.key: as_watched(e) for e in self.world.ledger.discover(watch.selector)}
        told = {key: as_watched(endpoint) for key, endpoint in watch.table.items()}
        assert told == truth, f"a watch of {watch.selector} must fold to what Discover answers"


@pytest.mark.parametrize("seed", range(25))
def test_every_watch_folds_to_what_discover_answers(seed: int, new_world: Any, folded: Any, contract: Any) -> None:
    story = Story(seed, new_world, folded, [contract(), contract(count=3)])
    for _ in range(400):
        story.act()
    for watch in list(story.watches):
        story.read(watch)
    resumed = [watch for watch in story.watches if not watch.resets]
    assert story.world.ledger.store.revision > 100
    assert resumed or len(story.watches) < 3, "some watch must have resumed, or the story proves little"


def test_two_worlds_with_one_seed_are_the_same_world(new_world: Any, folded: Any, contract: Any) -> None:
    histories = []
    for _ in range(2):
        story = Story(1, new_world, folded, [contract()])
        everything = folded(story.world.ledger, EVERY)
        changes: list[str] = []
        for _ in range(300):
            story.act()
            changes += map(repr, everything.follow())
        histories.append(changes)
    assert histories[0] == histories[1]


def test_removed_reasons_have_the_numbers_of_the_wire() -> None:
    from atomesh.v1 import registry_pb2

    for reason in RemovedReason:
        assert int(reason) in set(map(int, registry_pb2.Removed.Reason.values()))


def test_leases_are_judged_at_ticks_and_not_at_every_commit(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    leases = [world.register(port=port) for port in range(1, 4)]
    world.ledger.tick(world.now)
    world.commit()
    looks: list[float] = []
    real = world.ledger._lessor.judge

    def noted(now: float) -> Any:
        looks.append(now)
        return real(now)

    monkeypatch.setattr(world.ledger._lessor, "judge", noted)
    world.now += 2
    for lease in leases:
        world.ledger.renew(lease, None, world.now, 0)
    for slots in range(2, 50):
        world.update(leases[0], slots=slots)
    assert looks == [], "with many leases a look takes long, and commits come by the thousand"
    for _ in range(16):
        world.now += 1
        world.ledger.renew(leases[0], None, world.now, 0)
    world.update(leases[0], slots=1)
    assert len(world.addresses()) == 3
    assert world.ledger.tick(world.now)
    world.update(leases[0], slots=2)
    assert world.addresses() == ["10.0.0.1:1"], "what a tick found is part of the next commit"
