"""What operations do to the state: one revision each, whole or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from atomesh.core.endpoint import ALL_STATES, State
from atomesh.core.errors import AtomeshError, IncompatibleContract, Superseded, UnknownLease
from atomesh.core.selector import Selector
from atomesh.registry.operations import Deregister, Register, Update

INT64 = 3  # descriptor_pb2.FieldDescriptorProto.TYPE_INT64


def test_each_operation_is_a_revision_of_its_own(world: Any) -> None:
    first, second = world.register(port=1), world.register(port=2)
    assert world.ledger.store.revision == 2
    assert world.update(first, slots=7) == 3
    assert world.deregister(second) == 4


def test_an_update_that_changes_nothing_makes_no_revision_and_nothing_to_commit(world: Any) -> None:
    lease = world.register(slots=3)
    assert world.update(lease, slots=3, state=State.SERVING, labels={}) == 1
    assert world.ledger.stage([Update(lease, slots=3)], world.now).batch.empty


def test_nothing_is_visible_before_it_is_applied(world: Any, endpoint: Any, contract: Any, folded: Any) -> None:
    watch = folded(world.ledger, Selector())
    watch.follow()
    staged = world.ledger.stage([Register(endpoint(), contract(), "lease-9", 15, 0)], world.now)
    assert world.addresses() == []
    assert watch.follow() == []
    assert world.ledger.store.revision == 0
    world.ledger.apply(staged, world.now)
    assert world.addresses() == ["10.0.0.1:1"]


def test_operations_of_one_batch_see_each_other(world: Any, endpoint: Any, contract: Any) -> None:
    results = world.commit(
        Register(endpoint(), contract(), "lease-1", 15, 0),
        Update("lease-1", slots=5),
        Deregister("lease-1"),
        Update("lease-1", slots=6),
    )
    assert results[:3] == [1, 2, 3]
    assert isinstance(results[3], UnknownLease)
    assert world.ledger.store.revision == 3
    assert world.ledger.store.contracts == {}, "a contract that nobody speaks any more must not stay"


def test_a_batch_shows_every_step_as_it_was(world: Any, endpoint: Any, contract: Any, folded: Any) -> None:
    watch = folded(world.ledger, Selector())
    watch.follow()
    world.commit(
        Register(endpoint(slots=1), contract(), "lease-1", 15, 0),
        Update("lease-1", slots=2),
        Update("lease-1", slots=3),
    )
    told = [
        (step.revision, step.changes[0].endpoint.revision, step.changes[0].endpoint.slots) for step in watch.follow()
    ]
    assert told == [(1, 1, 1), (2, 2, 2), (3, 3, 3)], "what came later in a batch must not show in an earlier revision"


def test_a_contract_is_checked_against_who_is_left_earlier_in_the_batch(
    world: Any, endpoint: Any, contract: Any
) -> None:
    lease = world.register(port=1, contract=contract(count=INT64))
    results = world.commit(
        Deregister(lease),
        Register(endpoint(port=2), contract(count=9), "lease-8", 15, 0),
        Register(endpoint(port=3), contract(count=INT64), "lease-9", 15, 0),
    )
    assert results[:2] == [2, 3], "who has left in the batch must not be in the way"
    assert isinstance(results[2], IncompatibleContract), "who has come in the batch must be heeded"


def test_a_refused_operation_leaves_no_trace_in_its_batch(world: Any, endpoint: Any, contract: Any) -> None:
    world.register()
    results = world.commit(
        Register(endpoint(port=2), contract("other.v1"), "lease-8", 15, 0),
        Register(endpoint(port=3), contract(), "lease-9", 15, 0),
    )
    assert isinstance(results[0], IncompatibleContract)
    assert results[1] == 2, "a refused operation must not use up a revision"
    assert len(world.ledger.store.contracts) == 1


def test_the_newest_instance_at_an_address_wins_and_the_old_lease_is_superseded(world: Any) -> None:
    old = world.register(instance="instance-1")
    new = world.register(instance="instance-2")
    assert world.addresses() == ["10.0.0.1:1"]
    assert world.ledger.renew(old, None, world.now, 0).name == "SUPERSEDED"
    assert world.ledger.renew(new, None, world.now, 0).name == "RENEWED"
    with pytest.raises(Superseded):
        world.update(old, slots=2)


def test_the_same_instance_may_register_again_with_a_lease_that_it_knows(world: Any) -> None:
    lost = world.register()
    known = world.register()
    assert world.ledger.renew(known, None, world.now, 0).name == "RENEWED"
    assert world.ledger.renew(lost, None, world.now, 0).name == "UNKNOWN", "the same instance was not replaced"
    assert len(world.ledger.store) == 1


def test_an_instance_that_drains_still_drains_when_it_registers_again(world: Any) -> None:
    world.update(world.register(), state=State.DRAINING)
    world.register()
    assert world.addresses() == [], "whoever drains must not be picked because an answer was lost"


def test_two_agents_may_share_an_address(world: Any) -> None:
    world.register(agent="a")
    world.register(agent="b", instance="instance-2")
    assert len(world.addresses()) == 2


def test_a_contract_that_breaks_a_live_endpoint_is_refused_with_the_field(world: Any, contract: Any) -> None:
    world.register(contract=contract(count=INT64))
    with pytest.raises(IncompatibleContract, match=r"field test\.v1\.In\.count is string, was int64"):
        world.register(port=2, contract=contract(count=9))


def test_additive_change_is_fine_and_each_contract_stays_as_long_as_it_is_spoken(world: Any, contract: Any) -> None:
    old = world.register(contract=contract())
    world.register(port=2, contract=contract(count=INT64))
    assert len(world.ledger.store.contracts) == 2
    world.deregister(old)
    assert len(world.ledger.store.contracts) == 1


def test_the_only_instance_may_come_back_with_another_contract(world: Any, contract: Any) -> None:
    world.register(contract=contract(count=INT64))
    world.register(instance="instance-2", contract=contract(count=9))
    assert len(world.ledger.store.contracts) == 1


def test_the_only_instance_may_not_when_others_live(world: Any, contract: Any) -> None:
    world.register(port=1, contract=contract(count=INT64))
    world.register(port=2, contract=contract(count=INT64))
    with pytest.raises(IncompatibleContract):
        world.register(port=1, instance="instance-2", contract=contract(count=9))


LAX, NARROW = "string {max_len: 20}", "string {max_len: 10}"


def test_a_registry_that_is_not_strict_leaves_rules_alone(world: Any, ruled: Any) -> None:
    world.register(contract=ruled(text=LAX))
    world.register(port=2, contract=ruled(text=NARROW))
    assert len(world.addresses()) == 2


def test_a_strict_registry_refuses_a_rule_that_breaks_callers_or_readers(new_world: Any, ruled: Any) -> None:
    for live, changed, said in (
        ({"text": LAX}, {"text": NARROW}, r"input test\.v1\.In\.text: at most 10 characters"),
        ({"result": NARROW}, {"result": LAX}, r"output test\.v1\.Out\.result: at most 10 characters"),
    ):
        world = new_world(strict_contracts=True)
        world.register(contract=ruled(**live))
        with pytest.raises(IncompatibleContract, match=said):
            world.register(port=2, contract=ruled(**changed))
        assert world.addresses() == ["10.0.0.1:1"]


def test_a_strict_registry_lets_rules_widen_for_inputs_and_narrow_for_outputs(new_world: Any, ruled: Any) -> None:
    world = new_world(strict_contracts=True)
    world.register(contract=ruled(text=NARROW, result=LAX))
    world.register(port=2, contract=ruled(text=LAX, result=NARROW))
    assert len(world.addresses()) == 2


def test_the_endpoints_of_a_live_contract_may_restart_in_a_strict_registry(new_world: Any, ruled: Any) -> None:
    world = new_world(strict_contracts=True)
    for port in (1, 2):
        world.register(port=port, contract=ruled(text=NARROW))
    world.register(port=3, contract=ruled(text=LAX))
    world.register(port=2, instance="instance-2", contract=ruled(text=NARROW))
    assert len(world.addresses()) == 3, "half a rollout must not keep the other half out"


def test_the_only_instance_may_come_back_with_other_rules_to_a_strict_registry(new_world: Any, ruled: Any) -> None:
    world = new_world(strict_contracts=True)
    world.register(contract=ruled(text=LAX))
    world.register(instance="instance-2", contract=ruled(text=NARROW))
    assert world.addresses() == ["10.0.0.1:1"]


def test_labels_are_replaced_as_a_whole(world: Any) -> None:
    lease = world.register(labels={"a": "1", "b": "2"})
    world.update(lease, labels={"b": "3"})
    assert world.addresses(labels={"b": "3"}) == ["10.0.0.1:1"]
    assert world.addresses(labels={"a": "1"}) == []


def test_superseded_leases_are_remembered_up_to_a_number(new_world: Any) -> None:
    world = new_world(superseded_kept=3)
    leases = [world.register(instance=f"instance-{number}") for number in range(6)]
    assert world.ledger.store.superseded_count == 3
    statuses = [world.ledger.renew(lease, None, world.now, 0).name for lease in leases]
    assert statuses == ["UNKNOWN", "UNKNOWN", "SUPERSEDED", "SUPERSEDED", "SUPERSEDED", "RENEWED"]


def test_selection_by_every_word_of_a_selector(world: Any, contract: Any) -> None:
    world.register(port=1, version="1.2.0", zone="a", capabilities=["reporting", "validation"], labels={"x": "1"})
    world.register(agent="other", port=2, version="2.0.0", zone="b", contract=contract("other.v1"))
    for selector in (
        {"agent": "text"},
        {"version": ">=1.0.0,<2.0.0"},
        {"zone": "a"},
        {"capabilities": ("validation", "reporting")},
        {"labels": {"x": "1"}},
        {"input_type": "test.v1.In"},
        {"output_type": "test.v1.Out"},
    ):
        assert world.addresses(**selector) == ["10.0.0.1:1"], selector
    assert world.addresses(capabilities=("reporting", "unheard-of")) == []
    assert world.addresses() == ["10.0.0.1:2", "10.0.0.1:1"], "by agent, then address"


def test_states_are_serving_only_unless_asked_otherwise(world: Any) -> None:
    world.update(world.register(), state=State.NOT_SERVING)
    assert world.addresses() == []
    assert world.addresses(states=(State.NOT_SERVING,)) == ["10.0.0.1:1"]


def test_random_operations_leave_every_index_and_every_count_right(world: Any, contract: Any) -> None:
    import random

    rng = random.Random(3)
    contracts = [contract(), contract(count=INT64)]
    leases: list[str] = []
    for _ in range(1500):
        if not leases or rng.random() < 0.5:
            capabilities = rng.sample(["reporting", "validation", "communication"], rng.randint(0, 3))
            at = {"agent": rng.choice("abc"), "port": rng.randint(1, 9), "instance": f"instance-{rng.randint(1, 3)}"}
            leases.append(world.register(contract=rng.choice(contracts), capabilities=capabilities, **at))
        else:
            lease = rng.choice(leases)
            operation = Deregister(lease) if rng.random() < 0.5 else Update(lease, slots=rng.randint(1, 9))
            (result,) = world.commit(operation)
            assert isinstance(result, int | AtomeshError)
    store = world.ledger.store
    everything = list(store.all())
    assert store.uses.total() == len(everything)
    assert set(store.contracts) == {entry.endpoint.contract_hash for entry in everything}
    assert all(store.by_lease(entry.lease) is entry for entry in everything)
    for agent in "abc":
        selector = Selector(agent=agent, states=ALL_STATES)
        assert store.select(selector) == sorted((e for e in everything if e.key[0] == agent), key=lambda e: e.key)
    for name in ("reporting", "validation", "communication"):
        selector = Selector(capabilities=(name,))
        assert {e.key for e in store.select(selector)} == {e.key for e in everything if selector.matches(e.endpoint)}
