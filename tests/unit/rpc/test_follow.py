"""A watch that never ends, over watches that do."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

from atomesh.core import Added, Endpoint, Position, Removed, Reset, Selector, WatchEvent
from atomesh.core.errors import RegistryUnavailable
from atomesh.core.updates import RemovedReason, ResetReason
from atomesh.rpc.registry_client import _events, _updates, follow
from atomesh.testing import VirtualClock
from atomesh.v1 import registry_pb2


class Watches:
    """A client whose watches are scripted: events, then how the watch ends."""

    address = "registry:1"

    def __init__(self, *scripts: list[int | Exception]) -> None:
        self._scripts = list(scripts)
        self.asked: list[Position | None] = []
        self.open = 0

    async def watch_once(self, selector: Selector, after: Position | None = None) -> AsyncIterator[WatchEvent]:
        self.asked.append(after)
        self.open += 1
        try:
            for step in self._scripts.pop(0) if self._scripts else [RegistryUnavailable("away")]:
                if isinstance(step, Exception):
                    raise step
                yield WatchEvent((Added(Endpoint("a", f"h:{step}")),), Position("store", step))
        finally:
            self.open -= 1


async def _take(client: Any, count: int, clock: VirtualClock) -> list[int]:
    revisions: list[int] = []
    async with contextlib.aclosing(follow(client, Selector(), clock=clock, rng=random.Random(1))) as events:
        async for event in events:
            revisions.append(event.position.revision)
            if len(revisions) == count:
                break
    return revisions


async def test_it_goes_on_after_the_last_position_however_a_watch_ends(virtual_clock: VirtualClock) -> None:
    away = RegistryUnavailable("away")
    client = Watches([1, 2, away], [away], [3], [], [4, 5])
    assert await _take(client, 5, virtual_clock) == [1, 2, 3, 4, 5]
    revisions = [position.revision if position else None for position in client.asked]
    assert revisions == [None, 2, 2, 3, 3], "it must resume where it broke, and from no earlier place"
    assert client.open == 0, "whoever stops to follow must leave no watch behind"


async def test_it_waits_between_tries_at_most_two_seconds_and_begins_fast_again(virtual_clock: VirtualClock) -> None:
    away = RegistryUnavailable("away")
    nothing: list[list[int | Exception]] = [[away]] * 20
    client = Watches([1, away], *nothing, [2, away], [3])
    await _take(client, 2, virtual_clock)
    assert 20 < virtual_clock.now() < 45, "twenty tries with delays that grow to 2 s"
    begun = virtual_clock.now()
    client = Watches([1, away], [2])
    await _take(client, 2, virtual_clock)
    assert virtual_clock.now() - begun <= 0.1, "the first try after a success comes at once"


def test_what_a_newer_registry_says_beyond_our_words_is_left_out() -> None:
    response = registry_pb2.WatchResponse(
        changes=registry_pb2.Changes(
            changes=[
                registry_pb2.Change(),  # a kind that is not known here
                registry_pb2.Change(removed=registry_pb2.Removed(agent="a", address="h:1", instance_id="i", reason=77)),  # type: ignore[arg-type] # protobuf keeps it
            ]
        )
    )
    assert _updates(response, ()) == (Removed("a", "h:1", "i", RemovedReason.NO_LONGER_MATCHES),)
    reset = registry_pb2.WatchResponse(reset=registry_pb2.Reset(reason=77))  # type: ignore[arg-type] # protobuf keeps it
    assert _updates(reset, ()) == (Reset((), ResetReason.FIRST),)
    assert _updates(registry_pb2.WatchResponse(bookmark=registry_pb2.Bookmark()), ()) == ()
    assert _updates(registry_pb2.WatchResponse(), ()) == ()


def test_a_backlog_is_an_event_for_each_revision_so_that_each_can_be_resumed_after() -> None:
    revisions = [
        registry_pb2.RevisionChanges(
            revision=number,
            changes=[
                registry_pb2.Change(removed=registry_pb2.Removed(agent="a", address=f"h:{number}", instance_id="i"))
            ],
        )
        for number in (4, 7)
    ]
    response = registry_pb2.WatchResponse(
        backlog=registry_pb2.Backlog(revisions=revisions), position=registry_pb2.Position(store_id="s", revision=7)
    )
    assert list(_events(response, ())) == [
        WatchEvent((Removed("a", "h:4", "i"),), Position("s", 4)),
        WatchEvent((Removed("a", "h:7", "i"),), Position("s", 7)),
    ]
