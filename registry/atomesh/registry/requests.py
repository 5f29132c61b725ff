"""Requests to operations: everything is checked here that the rules in the proto cannot say.

Pure, apart from parsing a contract's descriptors. Raises InvalidArgument, in
one line, for whatever is wrong in a request by itself.
"""

from __future__ import annotations

from collections import OrderedDict

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


class Contracts:
    """Contracts as they were sent, each checked and hashed once: that takes milliseconds.

    Whole messages are compared, which costs a tenth of a hash over their
    descriptors. For each pair of types the SAID latest are kept, for rollouts;
    of pairs, the PAIRS last asked for: 10 MiB for contracts of usual size, at
    most some 500 MiB for the largest that a message holds.
    """

    PAIRS = 128
    """Half parses anew whatever a mesh of more than 64 agents registers in turns."""
    SAID = 2
    """The old and the new one of a rollout."""

    def __init__(self) -> None:
        """None is known yet."""
        self._known: OrderedDict[tuple[str, str], list[tuple[agent_pb2.Contract, ContractDescriptor]]] = OrderedDict()

    def read(self, sent: agent_pb2.Contract) -> ContractDescriptor:
        """What a message says.

        Raises:
            InvalidArgument: it is no contract.
        """
        types = (sent.input_type, sent.output_type)
        known = self._known.setdefault(types, [])
        self._known.move_to_end(types)
        if len(self._known) > self.PAIRS:
            self._known.popitem(last=False)
        for said, contract in known:
            if said == sent:
                return contract
        contract = ContractDescriptor.from_proto(sent)
        kept = agent_pb2.Contract()
        kept.CopyFrom(sent)  # the message itself is part of a request, and would hold all of it
        known.append((kept, contract))
        del known[: -self.SAID]
        return contract


_CONTRACTS = Contracts()
"""A cache and nothing else: what it answers does not depend on what was asked before."""


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
    contract = _CONTRACTS.read(request.contract)
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
    if len(set(names)) == len(names):
        return
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidArgument(f"capability {twice[0]!r} is given twice; give each once, with one score")
