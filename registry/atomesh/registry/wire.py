"""The registry's words to its messages."""

from __future__ import annotations

from google.protobuf import duration_pb2

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


def step_message(step: Step, store_id: str) -> registry_pb2.WatchResponse:
    """One step of a watch."""
    if isinstance(step, Snapshot):
        reset = registry_pb2.Reset(
            endpoints=[endpoint.to_proto() for endpoint in step.reset.endpoints],
            reason=registry_pb2.Reset.Reason.ValueType(step.reset.reason),
        )
        return registry_pb2.WatchResponse(reset=reset, position=position_message(step.position))
    if isinstance(step, Bookmark):
        return registry_pb2.WatchResponse(bookmark=registry_pb2.Bookmark(), position=position_message(step.position))
    return registry_pb2.WatchResponse(
        changes=registry_pb2.Changes(changes=[_change_message(change) for change in step.changes]),
        position=registry_pb2.Position(store_id=store_id, revision=step.revision),
    )


def _change_message(change: Change) -> registry_pb2.Change:
    if isinstance(change, Added):
        return registry_pb2.Change(added=change.endpoint.to_proto())
    if isinstance(change, Changed):
        return registry_pb2.Change(changed=change.endpoint.to_proto())
    return registry_pb2.Change(
        removed=registry_pb2.Removed(
            agent=change.agent,
            address=change.address,
            instance_id=change.instance_id,
            reason=registry_pb2.Removed.Reason.ValueType(change.reason),
        )
    )
