"""Watches: ordered, each once, resumable, and honest where they cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from atomesh.core.endpoint import State
from atomesh.core.selector import Selector
from atomesh.core.updates import Added, Changed, Position, Removed, RemovedReason, ResetReason
from atomesh.registry.ledger import Snapshot
from atomesh.registry.watch import Changes


def only(steps: list[Any]) -> Any:
    assert len(steps) == 1
    return steps[0]


def test_a_watch_begins_with_all_there_is(world: Any, folded: Any) -> None:
    world.register(port=2)
    world.register(port=1)
    step = only(folded(world.ledger, Selector()).follow())
    assert isinstance(step, Snapshot)
    assert [endpoint.address for endpoint in step.reset.endpoints] == ["10.0.0.1:1", "10.0.0.1:2"]
    assert step.reset.reason is ResetReason.FIRST
    assert step.position == Position("store-1", 2)


def test_entering_a_selector_is_added_and_leaving_it_is_removed(world: Any, folded: Any) -> None:
    watch = folded(world.ledger, Selector(labels={"tier": "gold"}))
    watch.follow()
    lease = world.register()
    assert watch.follow() == [], "what never matched must not be told"
    world.update(lease, labels={"tier": "gold"})
    assert isinstance(only(watch.follow()).changes[0], Added)
    world.update(lease, slots=4)
    assert isinstance(only(watch.follow()).changes[0], Changed)
    world.update(lease, labels={})
    removed = only(watch.follow()).changes[0]
    assert removed == Removed("text", "10.0.0.1:1", "instance-1", RemovedReason.NO_LONGER_MATCHES)


def test_draining_leaves_a_watch_of_those_that_serve(world: Any, folded: Any) -> None:
    lease = world.register()
    watch = folded(world.ledger, Selector())
    watch.follow()
    world.update(lease, state=State.DRAINING)
    assert only(watch.follow()).changes[0].reason is RemovedReason.NO_LONGER_MATCHES
    world.deregister(lease)
    assert watch.follow() == []


def test_a_newer_instance_is_seen_as_one_going_and_one_coming_at_once(world: Any, folded: Any) -> None:
    world.register(instance="instance-1")
    watch = folded(world.ledger, Selector())
    watch.follow()
    world.register(instance="instance-2")
    gone, came = only(watch.follow()).changes
    assert gone == Removed("text", "10.0.0.1:1", "instance-1", RemovedReason.SUPERSEDED)
    assert isinstance(came, Added)


@pytest.mark.parametrize(("act", "reason"), [("deregister", 1), ("expire", 2)])
def test_why_an_endpoint_went_is_said(world: Any, folded: Any, act: str, reason: int) -> None:
    lease = world.register()
    watch = folded(world.ledger, Selector())
    watch.follow()
    if act == "expire":
        world.wait(20)
    else:
        world.deregister(lease)
    assert only(watch.follow()).changes[0].reason == reason


def test_all_changes_of_one_revision_come_in_one_step(world: Any, folded: Any) -> None:
    for port in range(1, 6):
        world.register(port=port)
    watch = folded(world.ledger, Selector())
    watch.follow()
    world.wait(20)
    step = only(watch.follow())
    assert isinstance(step, Changes)
    assert len(step.changes) == 5, "leases that run out at once must be seen to go at once"


def test_a_watch_resumes_after_a_position_and_misses_nothing(world: Any, folded: Any) -> None:
    lease = world.register(port=1)
    position = world.ledger.store.position
    world.register(port=2)
    world.update(lease, slots=9)
    watch = folded(world.ledger, Selector(states=(State.SERVING,)), position)
    watch.table = {("text", "10.0.0.1:1"): None}
    watch.follow()
    assert watch.resets == []
    assert watch.seen == [2, 3]


def test_resuming_at_the_last_revision_has_nothing_to_tell(world: Any, folded: Any) -> None:
    world.register()
    assert folded(world.ledger, Selector(), world.ledger.store.position).follow() == []


@pytest.mark.parametrize("position", [Position("another", 1), Position("store-1", 2), Position()])
def test_a_foreign_or_future_position_begins_anew(world: Any, folded: Any, position: Position) -> None:
    world.register()
    watch = folded(world.ledger, Selector(), position)
    watch.follow()
    assert watch.resets == [ResetReason.FOREIGN_POSITION]


def test_a_position_older_than_the_history_is_said_to_be_compacted(new_world: Any, folded: Any) -> None:
    world = new_world(history_changes=3)
    for port in range(1, 7):
        world.register(port=port)
    assert world.ledger.history.oldest == 3
    for revision, resets in ((2, [ResetReason.COMPACTED]), (3, [])):
        watch = folded(world.ledger, Selector(), Position("store-1", revision))
        watch.follow()
        assert watch.resets == resets


def test_a_watcher_that_is_too_slow_gets_the_state_of_when_it_reads(new_world: Any, folded: Any) -> None:
    world = new_world(history_changes=4, watch_queue=4)
    slow, quick = folded(world.ledger, Selector()), folded(world.ledger, Selector())
    slow.follow()
    for port in range(1, 8):
        world.register(port=port)
        quick.follow()
    step = only(slow.follow())
    assert step.reset.reason is ResetReason.SLOW_WATCHER
    assert len(step.reset.endpoints) == 7
    assert quick.resets == [ResetReason.FIRST], "one slow watcher must not cost the others anything"
    world.register(port=8)
    assert isinstance(only(slow.follow()).changes[0], Added), "after its Reset it is a watcher as any"


def test_a_watcher_that_left_is_offered_nothing(world: Any, folded: Any) -> None:
    watch = folded(world.ledger, Selector(agent="text"))
    watch.follow()
    world.ledger.hub.leave(watch.watcher)
    world.ledger.hub.leave(watch.watcher)
    world.register()
    assert watch.follow() == []
    assert len(world.ledger.hub) == 0


def test_bookmarks_move_an_idle_watcher_along_so_that_it_can_resume(new_world: Any, folded: Any) -> None:
    world = new_world(history_changes=3)
    idle = folded(world.ledger, Selector(agent="quiet"))
    idle.follow()
    for port in range(1, 7):
        world.register(port=port)
    assert idle.follow() == []
    idle.bookmark()
    again = folded(world.ledger, Selector(agent="quiet"), idle.position)
    again.follow()
    assert again.resets == [], "an idle watcher with a bookmark must be able to resume"
