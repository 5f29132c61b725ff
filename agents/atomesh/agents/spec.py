"""What an agent says of itself, resolved: the class's attributes, then whoever serves it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypedDict

from google.protobuf.message import Message

from atomesh.agents.agent import Agent, StreamingAgent, contract_of
from atomesh.agents.context import ContextProvider
from atomesh.core.contract import Contract, typed_service
from atomesh.core.endpoint import Capability, Endpoint
from atomesh.core.errors import InvalidArgument
from atomesh.core.names import check_agent_name
from atomesh.core.rules import WIRE_RULES
from atomesh.core.versions import parse_version
from atomesh.v1 import agent_pb2


class AgentOptions(TypedDict, total=False):
    """What may be said at serve time instead of on the class."""

    name: str
    version: str
    description: str
    capabilities: Sequence[str | Capability]
    slots: int
    weight: float
    idempotent: bool
    labels: Mapping[str, str]
    zone: str
    providers: Mapping[type, ContextProvider[Any]]
    """Replaces providers that the class declares, by their class."""


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """Everything about one agent as it is served, checked."""

    name: str
    contract: Contract[Message, Message]
    version: str
    description: str
    capabilities: tuple[Capability, ...]
    slots: int
    weight: float
    idempotent: bool
    labels: Mapping[str, str]
    zone: str
    providers: Mapping[type, ContextProvider[Any]]

    @property
    def typed_service(self) -> str:
        """The gRPC service that is the agent's typed door; empty where its contract declares none."""
        return typed_service(self.contract)

    def endpoint(self, address: str, instance_id: str, metadata: Mapping[str, str], metrics_address: str) -> Endpoint:
        """What the registry is told."""
        return Endpoint(
            agent=self.name,
            address=address,
            instance_id=instance_id,
            version=self.version,
            capabilities=self.capabilities,
            slots=self.slots,
            idempotent=self.idempotent,
            labels=self.labels,
            zone=self.zone,
            metadata=metadata,
            metrics_address=metrics_address,
        )

    def describe(self, instance_id: str) -> agent_pb2.AgentDescription:
        """What Describe answers."""
        return agent_pb2.AgentDescription(
            name=self.name,
            version=self.version,
            description=self.description,
            capabilities=[capability.to_proto() for capability in self.capabilities],
            slots=self.slots,
            idempotent=self.idempotent,
            labels=self.labels,
            zone=self.zone,
            contract=self.contract.descriptor.to_proto(),
            instance_id=instance_id,
            typed_service=self.typed_service,
        )


def resolve(agent: Agent[Any, Any], options: AgentOptions | None = None) -> AgentSpec:
    """The agent's attributes with `options` over them.

    Raises:
        InvalidArgument: one of them is wrong; it says which, and what is right.
    """
    options = options or {}
    cls = type(agent)
    said: dict[str, Any] = {key: options.get(key, getattr(agent, key)) for key in _PLAIN}
    if not said["name"]:
        raise InvalidArgument(f'{cls.__name__} has no name; give it one, such as name = "text-processor"')
    name = _text(cls, "name", said["name"])
    _check_execute(agent)
    spec = AgentSpec(
        name=check_agent_name(name),
        contract=contract_of(cls, name),
        version=str(parse_version(_text(cls, "version", said["version"]))),
        description=_text(cls, "description", said["description"]) or _first_line(cls),
        capabilities=_capabilities(cls, said["capabilities"]),
        slots=_slots(name, said["slots"]),
        weight=_weight(name, said["weight"]),
        idempotent=bool(said["idempotent"]),
        labels=_labels(cls, said["labels"]),
        zone=_text(cls, "zone", said["zone"]),
        providers=_providers(agent, options.get("providers", {})),
    )
    # The rest is what the wire allows, and the protos say that already.
    wire = spec.endpoint("127.0.0.1:1", "instance", {}, "").to_spec()
    if violations := WIRE_RULES.check(wire):
        raise InvalidArgument(f"agent {spec.name}: " + "; ".join(map(str, violations)))
    return spec


_PLAIN = ("name", "version", "description", "capabilities", "slots", "weight", "idempotent", "labels", "zone")


def _check_execute(agent: Agent[Any, Any]) -> None:
    """Refuses what would fail at every call."""
    streams = isinstance(agent, StreamingAgent)
    method = agent.stream if isinstance(agent, StreamingAgent) else agent.execute
    what = f"{type(agent).__name__}.{'stream' if streams else 'execute'}"
    signature = inspect.signature(method)
    try:
        signature.bind(None, None)
    except TypeError:
        raise InvalidArgument(f"{what} takes {signature}; it is called with an input and a context") from None
    if streams and (inspect.iscoroutinefunction(method) or inspect.isgeneratorfunction(method)):
        raise InvalidArgument(f"{what} is no async generator; write it as async def, and yield in it")


def _text(cls: type, what: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} of {cls.__name__} is {value!r:.80}; expected a string")
    return value


def _first_line(cls: type) -> str:
    return (inspect.cleandoc(cls.__doc__).split("\n")[0].strip() if cls.__doc__ else "")[:1000]


def _slots(name: str, value: object) -> int:
    # bool is an int to Python, and True slots are nobody's wish.
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100_000:
        raise InvalidArgument(f"agent {name}: slots is {value!r:.80}; expected a whole number from 1 to 100,000")
    return value


def _weight(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.001 <= value <= 1000:
        raise InvalidArgument(f"agent {name}: weight is {value!r:.80}; expected a number from 0.001 to 1,000")
    return float(value)


def _capabilities(cls: type, given: Sequence[str | Capability]) -> tuple[Capability, ...]:
    if isinstance(given, str):
        raise InvalidArgument(f"capabilities of {cls.__name__} is one string; expected a list, such as [{given!r:.80}]")
    found: dict[str, Capability] = {}
    for item in given:
        capability = Capability(item) if isinstance(item, str) else item
        if not isinstance(capability, Capability):
            raise InvalidArgument(f"capability {item!r:.80} of {cls.__name__} is no word and no Capability")
        if capability.name in found:
            raise InvalidArgument(f"capability {capability.name!r:.80} of {cls.__name__} is there twice; name it once")
        found[capability.name] = capability
    return tuple(found.values())


def _labels(cls: type, given: Mapping[str, str]) -> Mapping[str, str]:
    for key, value in given.items():
        _text(cls, f"label {key!r:.80}", value)
        _text(cls, "a label's key", key)
    return MappingProxyType(dict(given))


def _providers(
    agent: Agent[Any, Any], instead: Mapping[type, ContextProvider[Any]]
) -> Mapping[type, ContextProvider[Any]]:
    declared: dict[type, ContextProvider[Any]] = {}
    for provider in agent.providers:
        if isinstance(provider, type) or not isinstance(provider, ContextProvider):
            raise InvalidArgument(
                f"provider {provider!r:.80} of {type(agent).__name__} is no ContextProvider; give an instance of one"
            )
        if type(provider) in declared:
            raise InvalidArgument(f"provider {type(provider).__name__} of {type(agent).__name__} is there twice")
        declared[type(provider)] = provider
    for kind, provider in instead.items():
        if kind not in declared:
            raise InvalidArgument(
                f"{type(agent).__name__} has no provider {kind.__name__} to replace; "
                f"it has {', '.join(known.__name__ for known in declared) or 'none'}"
            )
        declared[kind] = provider
    return MappingProxyType(declared)
