"""When a registry that was restarted can be asked."""

from __future__ import annotations

from typing import Any

from atomesh.registry.operations import Stored


def restarted(world: Any, new_world: Any) -> Any:
    store = world.ledger.store
    return new_world(Stored(store.store_id, store.revision, tuple(store.all()), tuple(store.contracts.values())))


def test_a_new_registry_is_warm_at_once(world: Any) -> None:
    assert world.ledger.warm(world.now)


def test_a_restarted_one_is_warm_when_everybody_was_heard_of(world: Any, new_world: Any) -> None:
    leases = [world.register(port=port) for port in (1, 2, 3)]
    again = restarted(world, new_world)
    assert not again.ledger.warm(again.now)
    again.ledger.renew(leases[0], None, again.now, 0.0)
    again.deregister(leases[1])
    assert not again.ledger.warm(again.now), "one of them may be gone"
    again.ledger.renew("of another", None, again.now, 0.0)
    assert not again.ledger.warm(again.now)
    again.register(port=3, instance="instance-2")
    assert again.ledger.warm(again.now), "who registers in another's place has been heard of too"


def test_it_waits_no_longer_than_owners_need_to_come_back(world: Any, new_world: Any) -> None:
    world.register()
    again = restarted(world, new_world)
    assert not again.ledger.warm(again.now + 2.9)
    assert again.ledger.warm(again.now + 3.0)
    assert again.ledger.warm(again.now), "once warm, always so"
