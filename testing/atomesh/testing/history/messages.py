"""The registry's messages as facts, read from the messages themselves: none of the library's own words in between."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from atomesh.testing.history.facts import (
    Change,
)
from atomesh.testing.history.values import (
    Pairs,
    Place,
    Shown,
    Wanted,
)
from atomesh.v1 import agent_pb2, registry_pb2

_STATE = "SERVING_STATE_"
_REMOVED = "REASON_"


def pairs(mapping: Mapping[str, str]) -> Pairs:
    """Sorted by key."""
    return tuple(sorted(mapping.items()))


def state_name(state: int) -> str:
    """SERVING and so on; a number that means nothing as it is."""
    try:
        return agent_pb2.ServingState.Name(agent_pb2.ServingState.ValueType(state)).removeprefix(_STATE)
    except ValueError:
        return str(state)


def state_number(name: str) -> agent_pb2.ServingState.ValueType:
    """Of SERVING and so on."""
    return agent_pb2.ServingState.Value(_STATE + name)


def place(position: registry_pb2.Position) -> Place:
    """Store and revision."""
    return Place(position.store_id, position.revision)


def content(contract: agent_pb2.Contract) -> str:
    """A digest of all that a contract says."""
    return hashlib.sha256(contract.SerializeToString(deterministic=True)).hexdigest()


def by_revision(answer: registry_pb2.WatchResponse) -> list[registry_pb2.WatchResponse]:
    """A backlog as the messages that it stands for, each of one revision; anything else as it is."""
    if answer.WhichOneof("event") != "backlog":
        return [answer]
    store = answer.position.store_id
    told = [
        registry_pb2.WatchResponse(
            changes=registry_pb2.Changes(changes=each.changes),
            position=registry_pb2.Position(store_id=store, revision=each.revision),
        )
        for each in answer.backlog.revisions
    ]
    # Whoever resumes after a backlog does so at the message's own position: it has to be that of the last.
    told[-1].position.CopyFrom(answer.position)
    return told


def spec(message: registry_pb2.EndpointSpec, contract: agent_pb2.Contract, contract_hash: str) -> Shown:
    """What a registration asks for, as it should be shown: SERVING, at a revision still to come."""
    return _shown(message, "SERVING", 0, (contract.input_type, contract.output_type, contract_hash))


def shown(message: registry_pb2.Endpoint) -> Shown:
    """An endpoint in an answer."""
    contract = (message.input_type, message.output_type, message.contract_hash)
    registered_at = message.registered_at.ToNanoseconds() / 1e9
    executions = message.load.executions if message.HasField("load") else None
    return _shown(message.spec, state_name(message.state), message.revision, contract, registered_at, executions)


def _shown(
    said: registry_pb2.EndpointSpec,
    state: str,
    revision: int,
    contract: tuple[str, str, str],
    registered_at: float = 0.0,
    executions: int | None = None,
) -> Shown:
    return Shown(
        agent=said.agent,
        address=said.address,
        instance=said.instance_id,
        state=state,
        revision=revision,
        version=said.version or "1.0.0",
        slots=said.slots or 1,
        idempotent=said.idempotent,
        labels=pairs(said.labels),
        capabilities=tuple(each.name for each in said.capabilities),
        zone=said.zone,
        metadata=pairs(said.metadata),
        input_type=contract[0],
        output_type=contract[1],
        contract=contract[2],
        registered_at=registered_at,
        executions=executions,
    )


def change(message: registry_pb2.Change) -> Change:
    """One change of a watch."""
    kind = message.WhichOneof("kind")
    if kind == "removed":
        gone = message.removed
        reason = registry_pb2.Removed.Reason.Name(gone.reason).removeprefix(_REMOVED)
        return Change(kind="removed", key=(gone.agent, gone.address), instance=gone.instance_id, reason=reason)
    seen = shown(message.added if kind == "added" else message.changed)
    return Change(kind="added" if kind == "added" else "changed", key=seen.key, instance=seen.instance, shown=seen)


def selector(wanted: Wanted) -> registry_pb2.Selector:
    """The message that asks for it."""
    return registry_pb2.Selector(
        agent=wanted.agent,
        capabilities=wanted.capabilities,
        labels=dict(wanted.labels),
        version=wanted.version,
        zone=wanted.zone,
        input_type=wanted.input_type,
        output_type=wanted.output_type,
        states=[state_number(name) for name in wanted.states],
    )


def reset_reason(message: registry_pb2.Reset) -> str:
    """FIRST, COMPACTED, FOREIGN_POSITION or SLOW_WATCHER."""
    name = registry_pb2.Reset.Reason.Name(message.reason).removeprefix(_REMOVED)
    return "FIRST" if name == "UNSPECIFIED" else name
