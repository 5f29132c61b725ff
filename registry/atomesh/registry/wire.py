"""The registry's words to its messages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from google.protobuf import duration_pb2

from atomesh.core.endpoint import Endpoint
from atomesh.core.updates import Added, Change, Changed, Position
from atomesh.registry.ledger import Bookmark, Snapshot, Step
from atomesh.v1 import registry_pb2


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


def step_message(step: Step, store_id: str, messages: Messages) -> registry_pb2.WatchResponse:
    """One step of a watch."""
    if isinstance(step, Snapshot):
        reset = registry_pb2.Reset(
            endpoints=messages.endpoints(step.reset.endpoints),
            reason=registry_pb2.Reset.Reason.ValueType(step.reset.reason),
        )
        return registry_pb2.WatchResponse(reset=reset, position=position_message(step.position))
    if isinstance(step, Bookmark):
        return registry_pb2.WatchResponse(bookmark=registry_pb2.Bookmark(), position=position_message(step.position))
    return registry_pb2.WatchResponse(
        changes=registry_pb2.Changes(changes=[_change_message(change, messages) for change in step.changes]),
        position=registry_pb2.Position(store_id=store_id, revision=step.revision),
    )


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
