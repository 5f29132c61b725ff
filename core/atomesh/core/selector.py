"""Which endpoints somebody means: everything that is set must hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from atomesh.core.endpoint import Endpoint, State
from atomesh.core.errors import InvalidArgument
from atomesh.core.versions import parse_range
from atomesh.v1 import agent_pb2, registry_pb2

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Selector:
    """`registry.proto` says what each field is; empty means any, states: SERVING only."""

    agent: str = ""
    capabilities: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    version: str = ""
    zone: str = ""
    input_type: str = ""
    output_type: str = ""
    states: tuple[State, ...] = ()

    def __post_init__(self) -> None:
        """Raises InvalidArgument for a version range that is none."""
        parse_range(self.version)

    def __hash__(self) -> int:
        """Equal selectors have equal hashes; the labels, which are a mapping, count as a set of pairs."""
        plain = (self.agent, self.capabilities, self.version, self.zone, self.input_type, self.output_type, self.states)
        return hash((plain, frozenset(self.labels.items())))

    def matches(self, endpoint: Endpoint) -> bool:
        """Whether the endpoint is meant."""
        return (
            endpoint.state in (self.states or (State.SERVING,))
            and (not self.agent or endpoint.agent == self.agent)
            and (not self.zone or endpoint.zone == self.zone)
            and (not self.input_type or endpoint.input_type == self.input_type)
            and (not self.output_type or endpoint.output_type == self.output_type)
            and all(endpoint.labels.get(key) == value for key, value in self.labels.items())
            and set(self.capabilities) <= {capability.name for capability in endpoint.capabilities}
            and (not self.version or endpoint.version in parse_range(self.version))
        )

    @classmethod
    def from_proto(cls, proto: registry_pb2.Selector) -> Selector:
        """The selector that a request carries.

        Raises:
            InvalidArgument: a version range that is none, or a state that this version does not know.
        """
        if unknown := [state for state in proto.states if state not in State._value2member_map_]:
            raise InvalidArgument(f"selector.states has {unknown[0]}, which is no ServingState")
        return cls(
            agent=proto.agent,
            capabilities=tuple(proto.capabilities),
            labels=dict(proto.labels),
            version=proto.version,
            zone=proto.zone,
            input_type=proto.input_type,
            output_type=proto.output_type,
            states=tuple(State(state) for state in proto.states),
        )

    def to_proto(self) -> registry_pb2.Selector:
        """The message that carries it."""
        return registry_pb2.Selector(
            agent=self.agent,
            capabilities=self.capabilities,
            labels=self.labels,
            version=self.version,
            zone=self.zone,
            input_type=self.input_type,
            output_type=self.output_type,
            states=[agent_pb2.ServingState.ValueType(state) for state in self.states],
        )
