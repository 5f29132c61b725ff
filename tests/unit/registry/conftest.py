"""Endpoints, contracts and a registry's pure state, made in one line each."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, text_format

from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import Capability, Endpoint
from atomesh.core.errors import AtomeshError
from atomesh.core.selector import Selector
from atomesh.core.updates import Added, Changed, Position, Removed, Reset
from atomesh.registry.ledger import Bookmark, Ledger, Snapshot
from atomesh.registry.operations import Deregister, Operation, Register, Stored, Update
from atomesh.registry.settings import RegistrySettings
from atomesh.registry.watch import Watcher
from atomesh.v1 import agent_pb2

STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64


def make_contract(package: str = "test.v1", **fields: int) -> ContractDescriptor:
    """A contract `<package>.In -> <package>.Out`; In has a field `text`, and these (name=type)."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}.proto", package=package, syntax="proto3"
    )
    message = file.message_type.add(name="In")
    for number, (name, kind) in enumerate({"text": STRING, **fields}.items(), start=1):
        message.field.add(name=name, number=number, type=kind, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL)
    file.message_type.add(name="Out")
    files = descriptor_pb2.FileDescriptorSet(file=[file])
    return ContractDescriptor.from_proto(
        agent_pb2.Contract(
            input_type=f"{package}.In", output_type=f"{package}.Out", descriptor_set=files.SerializeToString()
        )
    )


def make_ruled_contract(text: str = "", result: str = "") -> ContractDescriptor:
    """`test.v1.In` -> `test.v1.Out` with rules of protovalidate's on `In.text` and `Out.result`."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def collect(file: Any) -> None:
        for dependency in file.dependencies:
            collect(dependency)
        files.setdefault(file.name, descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb))

    collect(validate_pb2.DESCRIPTOR)
    own = descriptor_pb2.FileDescriptorProto(name="test.proto", package="test.v1", syntax="proto3", dependency=files)
    for message, field, rules in (("In", "text", text), ("Out", "result", result)):
        made = own.message_type.add(name=message).field.add(name=field, number=1, type=STRING, label=1)
        if rules:
            text_format.Parse(rules, made.options.Extensions[validate_pb2.field])
    descriptors = descriptor_pb2.FileDescriptorSet(file=[*files.values(), own]).SerializeToString()
    proto = agent_pb2.Contract(input_type="test.v1.In", output_type="test.v1.Out", descriptor_set=descriptors)
    return ContractDescriptor.from_proto(proto)


CONTRACT = make_contract()


def make_endpoint(agent: str = "text", port: int = 1, instance: str = "instance-1", **more: Any) -> Endpoint:
    more["capabilities"] = tuple(Capability(name) for name in more.pop("capabilities", ()))
    return Endpoint(agent, f"10.0.0.1:{port}", instance, **more)


class World:
    """A ledger whose storage always commits at once, and whose time the test moves."""

    def __init__(self, stored: Stored | None = None, **settings: Any) -> None:
        self.now = 1000.0
        self.settings = RegistrySettings(**settings)
        self.ids = (f"{number:032x}" for number in itertools.count(1))
        self.ledger = Ledger(stored or Stored("store-1"), self.settings, self.now, new_lease_id=lambda: next(self.ids))
        self.leases = itertools.count(1)

    def commit(self, *operations: Operation) -> list[int | AtomeshError]:
        staged = self.ledger.stage(list(operations), self.now)
        self.ledger.apply(staged, self.now)
        return list(staged.results)

    def run(self, operation: Operation) -> int:
        (result,) = self.commit(operation)
        if isinstance(result, AtomeshError):
            raise result
        return result

    def register(self, *, contract: ContractDescriptor = CONTRACT, ttl: float = 15.0, **endpoint: Any) -> str:
        lease = f"lease-{next(self.leases)}"
        self.run(Register(make_endpoint(**endpoint), contract, lease, ttl, self.now))
        return lease

    def update(self, lease: str, **what: Any) -> int:
        return self.run(Update(lease, **what))

    def deregister(self, lease: str) -> int:
        return self.run(Deregister(lease))

    def wait(self, seconds: float, *renewing: str) -> None:
        """Ticks on, renewing these leases every third of the shortest ttl."""
        end, pulse = self.now + seconds, 0.0
        while self.now < end:
            self.now += self.settings.tick
            pulse += self.settings.tick
            if pulse >= self.settings.min_ttl / 3:
                pulse = 0.0
                for lease in renewing:
                    self.ledger.renew(lease, None, self.now, self.now)
            if self.ledger.tick(self.now):
                self.commit()

    def addresses(self, **selector: Any) -> list[str]:
        return [endpoint.address for endpoint in self.ledger.discover(Selector(**selector))]


class Folded:
    """What a client knows from a watch: it folds every step into a table, as the balancer does."""

    def __init__(self, ledger: Ledger, selector: Selector, resume_after: Position | None = None) -> None:
        self.ledger, self.selector = ledger, selector
        self.watcher: Watcher = ledger.watch(selector, resume_after)
        self.table: dict[tuple[str, str], Endpoint] = {}
        self.position = resume_after or Position()
        self.resets: list[Any] = []
        self.seen: list[int] = []

    def follow(self) -> list[Any]:
        """Takes every step that waits; the steps."""
        steps = []
        while (step := self.ledger.next_step(self.watcher)) is not None:
            steps.append(step)
            self._fold(step)
        return steps

    def bookmark(self) -> None:
        self._fold(self.ledger.bookmark())

    def _fold(self, step: Any) -> None:
        if isinstance(step, Bookmark):
            self.position = step.position
        elif isinstance(step, Snapshot):
            self.position = step.position
            self.resets.append(step.reset.reason)
            self._reset(step.reset)
        else:
            assert step.revision > self.position.revision, "revisions must come in order, each once"
            self.position = Position(self.ledger.store.store_id, step.revision)
            self.seen.append(step.revision)
            for change in step.changes:
                self._change(change)

    def _reset(self, reset: Reset) -> None:
        self.table = {endpoint.key: endpoint for endpoint in reset.endpoints}

    def _change(self, change: Any) -> None:
        if isinstance(change, Added):
            assert change.endpoint.key not in self.table, "what is known already must not be Added"
            self.table[change.endpoint.key] = change.endpoint
        elif isinstance(change, Changed):
            assert change.endpoint.key in self.table, "what is not known must not be Changed"
            self.table[change.endpoint.key] = change.endpoint
        else:
            assert isinstance(change, Removed)
            gone = self.table.pop((change.agent, change.address))
            assert gone.instance_id == change.instance_id, "Removed must name the instance that was known"


@pytest.fixture
def contract() -> Callable[..., ContractDescriptor]:
    return make_contract


@pytest.fixture
def ruled() -> Callable[..., ContractDescriptor]:
    return make_ruled_contract


@pytest.fixture
def endpoint() -> Callable[..., Endpoint]:
    return make_endpoint


@pytest.fixture
def new_world() -> type[World]:
    return World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def folded() -> type[Folded]:
    return Folded
