"""One reachable copy of an agent, as everybody in the mesh speaks of it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

from atomesh.core.times import from_duration, from_timestamp, to_duration, to_timestamp
from atomesh.v1 import agent_pb2, registry_pb2

WELL_KNOWN_CAPABILITIES = (
    "task_processing",
    "content_analysis",
    "data_transformation",
    "communication",
    "validation",
    "reporting",
)
"""Capabilities with an agreed meaning; any other word will do too."""

_NOTHING: Mapping[str, str] = MappingProxyType({})


class State(IntEnum):
    """Whether an endpoint takes calls. The numbers are those of ServingState."""

    UNSPECIFIED = 0
    SERVING = 1
    DRAINING = 2
    NOT_SERVING = 3
    SUSPECT = 4


ALL_STATES = (State.SERVING, State.DRAINING, State.NOT_SERVING, State.SUSPECT)


@dataclass(frozen=True, slots=True)
class Capability:
    """Something an agent can do, and how well (0 to 1; None where it does not say)."""

    name: str
    score: float | None = None

    def to_proto(self) -> agent_pb2.Capability:
        """The message that carries it."""
        return agent_pb2.Capability(name=self.name, score=self.score)


_capability = functools.lru_cache(maxsize=4096)(Capability)
"""The same one for all who can do the same: of 100,000 endpoints most are copies of others."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an endpoint is, now and since it started. `agent.proto` says what each field is."""

    slots: int = 1
    in_flight: int = 0
    queued: int = 0
    executions: int = 0
    failures: int = 0
    refusals: int = 0
    busy: float = 0.0
    """Seconds in ended executions, together."""

    @classmethod
    def from_proto(cls, proto: agent_pb2.Load) -> Load:
        """The load that a message carries."""
        return cls(
            slots=proto.slots,
            in_flight=proto.in_flight,
            queued=proto.queued,
            executions=proto.executions,
            failures=proto.failures,
            refusals=proto.refusals,
            busy=from_duration(proto.busy),
        )

    def to_proto(self) -> agent_pb2.Load:
        """The message that carries it."""
        return agent_pb2.Load(
            slots=self.slots,
            in_flight=self.in_flight,
            queued=self.queued,
            executions=self.executions,
            failures=self.failures,
            refusals=self.refusals,
            busy=to_duration(self.busy),
        )


@dataclass(frozen=True, slots=True)
class Recent:
    """What an endpoint did in the last minute or so. `registry.proto` says what each field is."""

    execution: float | None = None
    """Seconds; None where too few executions ended."""
    error_rate: float = 0.0
    executions_per_second: float = 0.0

    @classmethod
    def from_proto(cls, proto: registry_pb2.Recent) -> Recent:
        """What a message carries; what is no share or no rate is 0."""
        return cls(
            execution=max(0.0, from_duration(proto.execution)) if proto.HasField("execution") else None,
            error_rate=proto.error_rate if 0 <= proto.error_rate <= 1 else 0.0,
            executions_per_second=proto.executions_per_second if 0 <= proto.executions_per_second < math.inf else 0.0,
        )

    def to_proto(self) -> registry_pb2.Recent:
        """The message that carries it."""
        return registry_pb2.Recent(
            execution=None if self.execution is None else to_duration(self.execution),
            error_rate=self.error_rate,
            executions_per_second=self.executions_per_second,
        )


class ProbeResult(IntEnum):
    """What a registry heard when it asked. The numbers are those of the wire's ProbeResult."""

    UNSPECIFIED = 0
    SERVING = 1
    NOT_SERVING = 2
    UNREACHABLE = 3
    TIMEOUT = 4
    UNIMPLEMENTED = 5
    FORBIDDEN = 6


@dataclass(frozen=True, slots=True)
class Probe:
    """One question of the registry to an endpoint. `registry.proto` says what each field is."""

    result: ProbeResult
    at: float
    """Unix seconds."""
    duration: float = 0.0
    """Seconds."""
    detail: str = ""

    @classmethod
    def from_proto(cls, proto: registry_pb2.Probe) -> Probe:
        """What a message carries."""
        known = proto.result in ProbeResult._value2member_map_
        return cls(
            ProbeResult(proto.result) if known else ProbeResult.UNSPECIFIED,
            from_timestamp(proto.at),
            max(0.0, from_duration(proto.duration)),
            proto.detail,
        )

    def to_proto(self) -> registry_pb2.Probe:
        """The message that carries it."""
        return registry_pb2.Probe(
            result=registry_pb2.ProbeResult.ValueType(self.result),
            at=to_timestamp(self.at),
            duration=to_duration(self.duration),
            detail=self.detail,
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One reachable copy of an agent. `registry.proto` says what each field is."""

    agent: str
    address: str
    instance_id: str = ""
    version: str = "1.0.0"
    capabilities: tuple[Capability, ...] = ()
    slots: int = 1
    idempotent: bool = False
    labels: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    zone: str = ""
    metadata: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    metrics_address: str = ""
    state: State = State.SERVING
    input_type: str = ""
    output_type: str = ""
    contract_hash: str = ""
    registered_at: float = 0.0
    last_renewed_at: float = 0.0
    revision: int = 0
    load: Load | None = None
    recent: Recent | None = None
    last_probe: Probe | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What only one live instance can hold: the agent at the address."""
        return (self.agent, self.address)

    @classmethod
    def from_spec(cls, spec: registry_pb2.EndpointSpec) -> Endpoint:
        """The endpoint that a registration describes; what the registry knows of it is unset."""
        return cls(
            agent=spec.agent,
            address=spec.address,
            instance_id=spec.instance_id,
            version=spec.version or "1.0.0",
            capabilities=tuple(
                _capability(c.name, c.score if c.HasField("score") else None) for c in spec.capabilities
            ),
            slots=spec.slots or 1,
            idempotent=spec.idempotent,
            labels=dict(spec.labels),
            zone=spec.zone,
            metadata=dict(spec.metadata),
            metrics_address=spec.metrics_address,
        )

    def to_spec(self) -> registry_pb2.EndpointSpec:
        """What the agent says of itself."""
        return registry_pb2.EndpointSpec(
            agent=self.agent,
            address=self.address,
            instance_id=self.instance_id,
            version=self.version,
            capabilities=[capability.to_proto() for capability in self.capabilities],
            slots=self.slots,
            idempotent=self.idempotent,
            labels=self.labels,
            zone=self.zone,
            metadata=self.metadata,
            metrics_address=self.metrics_address,
        )

    @classmethod
    def from_proto(cls, proto: registry_pb2.Endpoint) -> Endpoint:
        """The endpoint that a registry's answer shows."""
        known = cls.from_spec(proto.spec)
        return cls(
            **{name: getattr(known, name) for name in _SPEC_FIELDS},
            state=State(proto.state) if proto.state in State._value2member_map_ else State.NOT_SERVING,
            input_type=proto.input_type,
            output_type=proto.output_type,
            contract_hash=proto.contract_hash,
            registered_at=from_timestamp(proto.registered_at),
            last_renewed_at=from_timestamp(proto.last_renewed_at),
            revision=proto.revision,
            load=Load.from_proto(proto.load) if proto.HasField("load") else None,
            recent=Recent.from_proto(proto.recent) if proto.HasField("recent") else None,
            last_probe=Probe.from_proto(proto.last_probe) if proto.HasField("last_probe") else None,
        )

    def to_proto(self) -> registry_pb2.Endpoint:
        """The message that shows it."""
        return registry_pb2.Endpoint(
            spec=self.to_spec(),
            state=agent_pb2.ServingState.ValueType(self.state),
            input_type=self.input_type,
            output_type=self.output_type,
            contract_hash=self.contract_hash,
            revision=self.revision,
            registered_at=to_timestamp(self.registered_at),
            last_renewed_at=to_timestamp(self.last_renewed_at),
            load=self.load.to_proto() if self.load else None,
            recent=self.recent.to_proto() if self.recent else None,
            last_probe=self.last_probe.to_proto() if self.last_probe else None,
        )


_SPEC_FIELDS = (
    "agent",
    "address",
    "instance_id",
    "version",
    "capabilities",
    "slots",
    "idempotent",
    "labels",
    "zone",
    "metadata",
    "metrics_address",
)
