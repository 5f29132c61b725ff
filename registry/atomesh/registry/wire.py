"""The registry's words to its messages."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from weakref import WeakKeyDictionary

from google.protobuf import duration_pb2

from atomesh.core.endpoint import Endpoint
from atomesh.core.updates import Added, Change, Changed, Position
from atomesh.registry.ledger import Bookmark, Snapshot, Step
from atomesh.registry.watch import Changes
from atomesh.v1 import registry_pb2

PART_BYTES = 1024 * 1024
"""What the endpoints in one part of a Reset take, about. Half makes more parts for nothing; an
endpoint is at most some 150 kB by the limits of its spec, so even with four times as much a
part would come close to the 4 MiB that a receiver takes."""


def position_message(position: Position) -> registry_pb2.Position:
    """Store and revision."""
    return registry_pb2.Position(store_id=position.store_id, revision=position.revision)


def duration_message(seconds: float) -> duration_pb2.Duration:
    """Seconds as a Duration."""
    message = duration_pb2.Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


class Messages:
    """Endpoints as messages, each made once: a change goes to a thousand watchers.

    Making one takes 25 us, and copying it 1. Bounded: half of 4,096 would make
    a fleet of 3,000 anew for every question, twice is 10 MB more.
    """

    def __init__(self, limit: int = 4096) -> None:
        """None is made yet."""
        self._limit = limit
        # By identity; the endpoint is kept beside, so that its id stays its own.
        self._made: OrderedDict[int, tuple[Endpoint, registry_pb2.Endpoint]] = OrderedDict()

    def endpoint(self, endpoint: Endpoint) -> registry_pb2.Endpoint:
        """The endpoint's message, to be copied and never changed."""
        made = self._made.get(id(endpoint))
        if made is None:
            made = self._made[id(endpoint)] = (endpoint, endpoint.to_proto())
            if len(self._made) > self._limit:
                self._made.popitem(last=False)
        return made[1]

    def endpoints(self, endpoints: Iterable[Endpoint]) -> list[registry_pb2.Endpoint]:
        """One message for each."""
        return [self.endpoint(endpoint) for endpoint in endpoints]


class _Encoded:
    """Messages as bytes, each made when the first who reads gets there.

    All 100,000 endpoints in one go would take seconds of a loop that renews leases too.
    """

    def __init__(self, messages: Iterator[registry_pb2.WatchResponse]) -> None:
        self._messages = messages
        self._made: list[bytes] = []

    def __iter__(self) -> Iterator[bytes]:
        for number in itertools.count():
            if number == len(self._made):
                message = next(self._messages, None)
                if message is None:
                    return
                self._made.append(message.SerializeToString())
            yield self._made[number]


class Encoder:
    """Steps of watches as bytes, each made once for all whom it is sent to.

    A step's bytes live as long as the step does, which is until the last of its
    watchers has taken it. A Reset comes in parts of about PART_BYTES: what is
    there may be more than one message holds.
    """

    def __init__(self, store_id: str, messages: Messages) -> None:
        """Nothing is encoded yet."""
        self._store_id = store_id
        self._messages = messages
        self._encoded: WeakKeyDictionary[Snapshot | Changes, _Encoded] = WeakKeyDictionary()
        self._parts: WeakKeyDictionary[Changes, bytes] = WeakKeyDictionary()
        self._bookmark = (-1, b"")

    def encode(self, steps: list[Step]) -> Iterator[bytes]:
        """The messages of steps, in order; what several revisions changed goes together."""
        backlog: list[bytes] = []
        size = 0
        several = len(steps) > 1
        for step in steps:
            if isinstance(step, Bookmark):
                yield self._encode_bookmark(step)
            elif isinstance(step, Snapshot) or not several:
                yield from self._encode_once(step)
            else:
                part = self._encode_part(step)
                if backlog and size + len(part) > PART_BYTES:
                    yield b"".join(backlog)
                    backlog, size = [], 0
                backlog.append(part)
                size += len(part)
        if backlog:
            # Messages joined are one message: lists are appended, of single values the last stands.
            # https://protobuf.dev/programming-guides/encoding/#last-one-wins
            yield b"".join(backlog)

    def _encode_once(self, step: Snapshot | Changes) -> _Encoded:
        encoded = self._encoded.get(step)
        if encoded is None:
            made = self._reset(step) if isinstance(step, Snapshot) else iter((self._changes(step),))
            encoded = self._encoded[step] = _Encoded(made)
        return encoded

    def _encode_part(self, step: Changes) -> bytes:
        """The step as a message that can be joined with others."""
        part = self._parts.get(step)
        if part is None:
            part = self._parts[step] = self._part(step).SerializeToString()
        return part

    def _encode_bookmark(self, step: Bookmark) -> bytes:
        """All who are idle hear of the same position."""
        if self._bookmark[0] != step.position.revision:
            position = position_message(step.position)
            message = registry_pb2.WatchResponse(bookmark=registry_pb2.Bookmark(), position=position)
            self._bookmark = (step.position.revision, message.SerializeToString())
        return self._bookmark[1]

    def _changes(self, step: Changes) -> registry_pb2.WatchResponse:
        changes = [_change_message(change, self._messages) for change in step.changes]
        return registry_pb2.WatchResponse(
            changes=registry_pb2.Changes(changes=changes), position=self._position(step.revision)
        )

    def _part(self, step: Changes) -> registry_pb2.WatchResponse:
        changes = [_change_message(change, self._messages) for change in step.changes]
        revision = registry_pb2.RevisionChanges(revision=step.revision, changes=changes)
        backlog = registry_pb2.Backlog(revisions=[revision])
        return registry_pb2.WatchResponse(backlog=backlog, position=self._position(step.revision))

    def _position(self, revision: int) -> registry_pb2.Position:
        return registry_pb2.Position(store_id=self._store_id, revision=revision)

    def _reset(self, step: Snapshot) -> Iterator[registry_pb2.WatchResponse]:
        """In parts; the last one alone has the position: before it there is nothing to resume from."""
        reset = registry_pb2.Reset(reason=registry_pb2.Reset.Reason.ValueType(step.reset.reason))
        size = 0
        for endpoint in step.reset.endpoints:
            message = self._messages.endpoint(endpoint)
            if size and size + message.ByteSize() > PART_BYTES:
                reset.more = True
                yield registry_pb2.WatchResponse(reset=reset)
                reset, size = registry_pb2.Reset(reason=reset.reason), 0
            reset.endpoints.append(message)
            size += message.ByteSize()
        yield registry_pb2.WatchResponse(reset=reset, position=position_message(step.position))


def _change_message(change: Change, messages: Messages) -> registry_pb2.Change:
    if isinstance(change, Added):
        return registry_pb2.Change(added=messages.endpoint(change.endpoint))
    if isinstance(change, Changed):
        return registry_pb2.Change(changed=messages.endpoint(change.endpoint))
    return registry_pb2.Change(
        removed=registry_pb2.Removed(
            agent=change.agent,
            address=change.address,
            instance_id=change.instance_id,
            reason=registry_pb2.Removed.Reason.ValueType(change.reason),
        )
    )
