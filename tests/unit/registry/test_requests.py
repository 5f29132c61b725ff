"""What is wrong in a request by itself is said in one line, before anything is changed."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import duration_pb2

from atomesh.core.contract import ContractDescriptor
from atomesh.core.endpoint import State
from atomesh.core.errors import InvalidArgument
from atomesh.core.updates import Position
from atomesh.registry import requests
from atomesh.registry.lessor import fingerprint
from atomesh.registry.operations import Update
from atomesh.registry.requests import Contracts
from atomesh.registry.settings import RegistrySettings
from atomesh.v1 import agent_pb2, registry_pb2

SETTINGS = RegistrySettings()


@pytest.fixture
def register(contract: Any) -> Any:
    def make(ttl: float | None = None, **spec: Any) -> Any:
        spec = {"agent": "text", "address": "10.0.0.1:1", "instance_id": "instance-1", **spec}
        request = registry_pb2.RegisterRequest(spec=registry_pb2.EndpointSpec(**spec), contract=contract().to_proto())
        if ttl is not None:
            duration = duration_pb2.Duration()
            duration.FromNanoseconds(round(ttl * 1e9))
            request.ttl.CopyFrom(duration)
        return requests.registration(request, "a" * 32, SETTINGS, 7.0)

    return make


def test_a_registration_becomes_an_operation_that_does_not_hold_the_secret(register: Any) -> None:
    operation = register()
    assert operation.lease == fingerprint("a" * 32)
    assert "a" * 32 not in repr(operation)
    assert (operation.ttl, operation.at, operation.endpoint.version) == (15.0, 7.0, "1.0.0")


@pytest.mark.parametrize("ttl", [15, 15.5, 3600])
def test_a_ttl_that_the_registry_allows(register: Any, ttl: float) -> None:
    assert register(ttl=ttl).ttl == ttl


@pytest.mark.parametrize("ttl", [0, -5, 0.001, 14.999, 3600.001, 365 * 86400])
def test_a_ttl_outside_of_the_limits_is_refused_and_they_are_named(register: Any, ttl: float) -> None:
    with pytest.raises(InvalidArgument, match="15 to 3600 s"):
        register(ttl=ttl)


@pytest.mark.parametrize(
    "address",
    ["nowhere", "10.0.0.1", "0.0.0.0:80", "[::]:80", "10.0.0.1:0", "10.0.0.1:99999", "a b:1", "224.0.0.1:5", "::1:80"],
)
@pytest.mark.parametrize("field", ["address", "metrics_address"])
def test_an_address_that_nobody_can_dial_is_refused(register: Any, field: str, address: str) -> None:
    with pytest.raises(InvalidArgument):
        register(**{field: address})


@pytest.mark.parametrize("version", ["1", "1.2", "latest", "1.2.3.4", "v1.2.3"])
def test_a_version_that_is_no_semver_is_refused(register: Any, version: str) -> None:
    with pytest.raises(InvalidArgument, match="semver"):
        register(version=version)


def test_a_capability_given_twice_is_refused_by_name(register: Any) -> None:
    twice = [agent_pb2.Capability(name="reporting", score=score) for score in (0.1, 0.9)]
    with pytest.raises(InvalidArgument, match="'reporting' is given twice"):
        register(capabilities=twice)


def test_what_an_update_leaves_unset_stays() -> None:
    assert requests.update(registry_pb2.UpdateRequest(lease_id="a")) == Update(fingerprint("a"))
    full = registry_pb2.UpdateRequest(
        lease_id="a", state=agent_pb2.SERVING_STATE_DRAINING, slots=3, labels=registry_pb2.Labels()
    )
    assert requests.update(full) == Update(fingerprint("a"), State.DRAINING, 3, {})


def test_a_selector_for_no_state_at_all_is_refused() -> None:
    request = registry_pb2.DiscoverRequest(selector=registry_pb2.Selector(states=[agent_pb2.SERVING_STATE_UNSPECIFIED]))
    with pytest.raises(InvalidArgument, match="UNSPECIFIED"):
        requests.selector(request)


def test_a_watch_without_a_position_begins() -> None:
    assert requests.resume_position(registry_pb2.WatchRequest()) is None
    at = registry_pb2.WatchRequest(resume_after=registry_pb2.Position(store_id="s", revision=3))
    assert requests.resume_position(at) == Position("s", 3)


def test_a_contract_is_read_once_however_often_it_is_sent(contract: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, other = contract(), contract(count=3), contract("other.v1")
    reads: list[str] = []
    real = ContractDescriptor.from_proto

    def noted(sent: Any) -> ContractDescriptor:
        reads.append(sent.input_type)
        return real(sent)

    monkeypatch.setattr(ContractDescriptor, "from_proto", noted)
    contracts = Contracts()
    for _ in range(3):
        for each in (old, new, other):
            assert contracts.read(agent_pb2.Contract.FromString(each.to_proto().SerializeToString())) == each
    assert len(reads) == 3, "the old and the new one of a rollout, and another agent's"


def test_contracts_that_nobody_sends_any_more_are_forgotten(contract: Any) -> None:
    contracts = Contracts()
    for number in range(Contracts.PAIRS + 10):
        contracts.read(contract(f"many{number}.v1").to_proto())
    for kind in range(10):
        contracts.read(contract(**{f"field_{kind}": 3}).to_proto())
    assert len(contracts._known) == Contracts.PAIRS
    assert max(map(len, contracts._known.values())) == Contracts.SAID


def test_a_contract_that_is_none_is_refused_each_time(contract: Any) -> None:
    contracts, broken = Contracts(), contract().to_proto()
    broken.descriptor_set = b"nonsense"
    for _ in range(2):
        with pytest.raises(InvalidArgument):
            contracts.read(broken)
