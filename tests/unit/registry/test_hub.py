"""Who is told of a change, and how often it is looked at and encoded for that."""

from __future__ import annotations

from typing import Any

import pytest

from atomesh.core.endpoint import ALL_STATES
from atomesh.core.selector import Selector
from atomesh.core.updates import ResetReason
from atomesh.registry import hub, wire
from atomesh.registry.watch import seen
from atomesh.registry.wire import PART_BYTES, Encoder, Messages
from atomesh.v1 import registry_pb2


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Selector]:
    """The selectors by which a revision was looked at."""
    found: list[Selector] = []
    real = seen

    def noted(selector: Selector, number: int, transitions: Any) -> Any:
        found.append(selector)
        return real(selector, number, transitions)

    monkeypatch.setattr(hub, "seen", noted)
    return found


def test_a_change_is_looked_at_once_for_all_who_watch_by_equal_selectors(
    world: Any, folded: Any, looks: list[Selector]
) -> None:
    watches = [folded(world.ledger, Selector(agent="text", labels={"tier": "gold"})) for _ in range(50)]
    for watch in watches:
        watch.follow()
    world.register(labels={"tier": "gold"})
    assert len(looks) == 1
    steps = [watch.follow()[0] for watch in watches]
    assert all(step is steps[0] for step in steps), "one object for all, so that it is encoded once"


def test_who_asks_for_something_else_costs_a_change_nothing(world: Any, folded: Any, looks: list[Selector]) -> None:
    for number in range(50):
        folded(world.ledger, Selector(agent=f"other-{number}")).follow()
        folded(world.ledger, Selector(capabilities=(f"other-{number}",))).follow()
    mine = [
        folded(world.ledger, Selector()),
        folded(world.ledger, Selector(agent="text")),
        folded(world.ledger, Selector(capabilities=("a",))),
        folded(world.ledger, Selector(capabilities=("b", "a"))),
    ]
    for watch in mine:
        watch.follow()
    world.register(capabilities=("a", "b"))
    assert len(looks) == 4
    assert all(len(watch.follow()) == 1 for watch in mine)


def test_who_loses_a_capability_is_gone_for_who_watches_by_it(world: Any, folded: Any) -> None:
    watch = folded(world.ledger, Selector(capabilities=("a",)))
    watch.follow()
    world.register(instance="instance-1", capabilities=("a",))
    assert len(watch.follow()) == 1
    world.register(instance="instance-2", capabilities=("b",))
    watch.follow()
    assert watch.table == {}


def test_who_left_is_forgotten_with_its_group(world: Any) -> None:
    ledger = world.ledger
    watchers = [ledger.watch(Selector(agent="text"), None) for _ in range(3)]
    for watcher in watchers:
        ledger.hub.leave(watcher)
        ledger.hub.leave(watcher)
    assert len(ledger.hub) == 0
    assert ledger.hub._groups == {}


def test_a_snapshot_is_made_once_for_all_who_begin_at_once(world: Any) -> None:
    ledger = world.ledger
    lease = world.register()
    first, second = (ledger.next_step(ledger.watch(Selector(), None)) for _ in range(2))
    assert first is second
    ledger.renew(lease, None, world.now, 77.0)
    world.wait(1)
    later = ledger.next_step(ledger.watch(Selector(), None))
    assert later.reset.endpoints[0].last_renewed_at == 77.0, "what endpoints tell of themselves must not age in it"
    world.update(lease, slots=3)
    assert ledger.next_step(ledger.watch(Selector(), None)).reset.endpoints[0].slots == 3


def test_steps_are_encoded_once_and_forgotten_with_the_last_who_held_them(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    real = wire._change_message

    def noted(change: Any, messages: Any) -> Any:
        made.append(change)
        return real(change, messages)

    monkeypatch.setattr(wire, "_change_message", noted)
    ledger, encoder = world.ledger, Encoder("store-1", Messages())
    watchers = [ledger.watch(Selector(), None) for _ in range(10)]
    for watcher in watchers:
        ledger.next_step(watcher)
    world.register()
    sent = [list(encoder.encode(ledger.next_steps(watcher))) for watcher in watchers]
    assert len(made) == 1
    assert len({id(each[0]) for each in sent}) == 1
    message = registry_pb2.WatchResponse.FromString(sent[0][0])
    assert message.changes.changes[0].added.spec.agent == "text"
    assert message.position == registry_pb2.Position(store_id="store-1", revision=1)
    assert len(encoder._encoded) == 0, "nobody holds the step any more"


def test_revisions_that_wait_go_in_one_message_each_whole_and_in_order(world: Any) -> None:
    ledger, encoder = world.ledger, Encoder("store-1", Messages())
    watchers = [ledger.watch(Selector(), None) for _ in range(2)]
    for watcher in watchers:
        ledger.next_steps(watcher)
    for port in (1, 2, 1):
        world.register(port=port, instance=f"instance-{world.ledger.store.revision}")
    sent = [list(encoder.encode(ledger.next_steps(watcher))) for watcher in watchers]
    assert sent[0] == sent[1]
    (raw,) = sent[0]
    message = registry_pb2.WatchResponse.FromString(raw)
    assert message.WhichOneof("event") == "backlog"
    assert message.position == registry_pb2.Position(store_id="store-1", revision=3)
    told = [
        (each.revision, [change.WhichOneof("kind") for change in each.changes]) for each in message.backlog.revisions
    ]
    assert told == [(1, ["added"]), (2, ["added"]), (3, ["removed", "added"])]
    assert ledger.next_steps(watchers[0]) == []


def test_a_backlog_is_as_many_messages_as_receivers_take(world: Any) -> None:
    ledger, encoder = world.ledger, Encoder("store-1", Messages())
    watcher = ledger.watch(Selector(), None)
    ledger.next_steps(watcher)
    for port in range(1, 61):
        world.register(port=port, metadata={f"{number}": "x" * 1000 for number in range(40)})
    messages = [registry_pb2.WatchResponse.FromString(raw) for raw in encoder.encode(ledger.next_steps(watcher))]
    assert len(messages) == 3
    assert all(message.ByteSize() < 1.1 * PART_BYTES for message in messages)
    revisions = [each.revision for message in messages for each in message.backlog.revisions]
    assert revisions == list(range(1, 61))
    assert [message.position.revision for message in messages] == [
        message.backlog.revisions[-1].revision for message in messages
    ]


def test_a_reset_is_told_by_itself(world: Any, new_world: Any) -> None:
    small = new_world(history_changes=5, watch_queue=5)
    watcher = small.ledger.watch(Selector(), None)
    small.ledger.next_steps(watcher)
    for port in range(1, 9):
        small.register(port=port)
    (step,) = small.ledger.next_steps(watcher)
    assert step.reset.reason is ResetReason.SLOW_WATCHER
    small.register(port=9)
    small.register(port=10)
    assert [step.revision for step in small.ledger.next_steps(watcher)] == [9, 10]


def test_a_reset_is_encoded_as_it_is_read_and_once_whoever_reads_how_fast(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for port in range(1, 101):
        world.register(port=port, metadata={f"{number}": "x" * 1000 for number in range(40)})
    made: list[Any] = []
    messages = Messages()
    real = messages.endpoint

    def noted(endpoint: Any) -> Any:
        made.append(endpoint)
        return real(endpoint)

    monkeypatch.setattr(messages, "endpoint", noted)
    encoder = Encoder("store-1", messages)
    steps = [world.ledger.next_steps(world.ledger.watch(Selector(), None)) for _ in range(2)]
    slow, fast = (encoder.encode(each) for each in steps)
    first = next(slow)
    assert len(made) < 50, "the rest can wait until this part is written"
    assert [first, *slow] == list(fast)
    assert len(made) == 100


def test_bookmarks_tell_the_position_of_their_moment(world: Any) -> None:
    encoder = Encoder("store-1", Messages())
    for revision in (1, 1, 2):
        world.register(port=revision)
        (raw,) = encoder.encode([world.ledger.bookmark()])
        message = registry_pb2.WatchResponse.FromString(raw)
        assert message.WhichOneof("event") == "bookmark"
        assert message.position.revision == world.ledger.store.revision


@pytest.mark.parametrize(("count", "parts"), [(0, 1), (1, 1), (30, 2), (100, 4)])
def test_a_reset_comes_in_parts_and_the_last_one_has_the_position(world: Any, count: int, parts: int) -> None:
    notes = {f"{number}": "x" * 1000 for number in range(40)}  # 40 kB
    for port in range(1, count + 1):
        world.register(port=port, metadata=notes)
    encoder = Encoder("store-1", Messages())
    step = world.ledger.next_step(world.ledger.watch(Selector(states=ALL_STATES), None))
    messages = [registry_pb2.WatchResponse.FromString(raw) for raw in encoder.encode([step])]
    assert len(messages) == parts
    assert [message.reset.more for message in messages] == [True] * (parts - 1) + [False]
    assert [message.HasField("position") for message in messages] == [False] * (parts - 1) + [True]
    assert {message.reset.reason for message in messages} == {int(ResetReason.FIRST)}
    assert sum(len(message.reset.endpoints) for message in messages) == count
    assert all(message.ByteSize() < 1.1 * PART_BYTES for message in messages)
