"""Requests to operations: everything is checked here that the rules in the proto cannot say.

Pure, apart from parsing a contract's descriptors. Raises InvalidArgument, in
one line, for whatever is wrong in a request by itself.
"""

from __future__ import annotations

import functools

from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import Endpoint, State
from atomesh.core.errors import InvalidArgument
from atomesh.core.names import check_agent_name, check_dialable
from atomesh.core.selector import Selector
from atomesh.core.updates import Position
from atomesh.core.versions import parse_version
from atomesh.registry.lessor import fingerprint
from atomesh.registry.operations import Deregister, Register, Update
from atomesh.registry.settings import RegistrySettings
from atomesh.v1 import agent_pb2, registry_pb2


def registration(
    request: registry_pb2.RegisterRequest, lease_id: str, settings: RegistrySettings, wall: float
) -> Register:
    """What a registration asks for, under a new lease."""
    ttl = _ttl(request, settings)
    spec = request.spec
    check_agent_name(spec.agent)
    check_dialable(spec.address)
    if spec.metrics_address:
        check_dialable(spec.metrics_address)
    _check_capabilities([capability.name for capability in spec.capabilities])
    endpoint = Endpoint.from_spec(spec)
    parse_version(endpoint.version)
    contract = _contract(*_parts(request.contract))
    return Register(endpoint, contract, fingerprint(lease_id), ttl, wall)


def update(request: registry_pb2.UpdateRequest) -> Update:
    """What an update asks for."""
    return Update(
        fingerprint(request.lease_id),
        State(request.state) if request.HasField("state") else None,
        request.slots if request.HasField("slots") else None,
        dict(request.labels.labels) if request.HasField("labels") else None,
    )


def deregistration(request: registry_pb2.DeregisterRequest) -> Deregister:
    """What a farewell asks for."""
    return Deregister(fingerprint(request.lease_id))


def selector(request: registry_pb2.DiscoverRequest | registry_pb2.WatchRequest) -> Selector:
    """Whom a request means."""
    if agent_pb2.SERVING_STATE_UNSPECIFIED in request.selector.states:
        raise InvalidArgument(
            "selector.states has SERVING_STATE_UNSPECIFIED, which no endpoint is in; leave states unset for SERVING only"
        )
    return Selector.from_proto(request.selector)


def resume_position(request: registry_pb2.WatchRequest) -> Position | None:
    """Where a watch would go on; None where it begins."""
    if not request.HasField("resume_after"):
        return None
    return Position(request.resume_after.store_id, request.resume_after.revision)


@functools.lru_cache(maxsize=128)
def _contract(input_type: str, output_type: str, descriptor_set: bytes, chunk_type: str) -> ContractDescriptor:
    """Checked and hashed once for a fleet that all says the same: it takes milliseconds.

    Some 10 MiB for as many contracts of usual size, 128 MiB for the largest that a message
    holds. Half parses anew, at 1 ms each, whatever a mesh of 64 agents registers in turns.
    """
    proto = agent_pb2.Contract(
        input_type=input_type, output_type=output_type, descriptor_set=descriptor_set, chunk_type=chunk_type
    )
    return ContractDescriptor.from_proto(proto)


def _parts(contract: agent_pb2.Contract) -> tuple[str, str, bytes, str]:
    return contract.input_type, contract.output_type, contract.descriptor_set, contract.chunk_type


def _ttl(request: registry_pb2.RegisterRequest, settings: RegistrySettings) -> float:
    if not request.HasField("ttl"):
        return settings.default_ttl
    ttl = request.ttl.seconds + request.ttl.nanos / 1e9
    if settings.min_ttl <= ttl <= settings.max_ttl:
        return ttl
    raise InvalidArgument(
        f"ttl {ttl:g} s is outside of what this registry allows, {settings.min_ttl:g} to {settings.max_ttl:g} s; "
        f"leave it unset for {settings.default_ttl:g} s"
    )


def _check_capabilities(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidArgument(f"capability {twice[0]!r} is given twice; give each once, with one score")
