"""Endpoints and loads over the wire: whatever the values, they come back as they went."""

from __future__ import annotations

import random
from dataclasses import fields, replace

import pytest

from atomesh.core import Capability, Endpoint, Load, Probe, ProbeResult, Recent, State
from atomesh.core.updates import RemovedReason, ResetReason
from atomesh.v1 import agent_pb2, registry_pb2

_WORDS = ["", "a", "Zoë", "🦊", "\u202ertl", "nul\x00", "two\nlines", "x" * 300, "\U0010ffff"]


def _text(rng: random.Random) -> str:
    return rng.choice(_WORDS) + rng.choice(_WORDS)


def _pairs(rng: random.Random) -> dict[str, str]:
    return {_text(rng): _text(rng) for _ in range(rng.randrange(4))}


def _load(rng: random.Random) -> Load:
    return Load(
        slots=rng.randrange(1, 2**32),
        in_flight=rng.randrange(2**32),
        queued=rng.randrange(2**32),
        executions=rng.randrange(2**64),
        failures=rng.randrange(2**64),
        refusals=rng.randrange(2**64),
        busy=rng.choice([0.0, 0.25, rng.uniform(1e7, 1e9)]),
    )


def _endpoint(rng: random.Random) -> Endpoint:
    scores = [None, 0.0, 1.0, rng.random()]
    return Endpoint(
        agent=_text(rng),
        address=_text(rng),
        instance_id=_text(rng),
        version=rng.choice(["1.0.0", "2.0.0-rc.1+x"]),
        capabilities=tuple(Capability(_text(rng), rng.choice(scores)) for _ in range(rng.randrange(4))),
        slots=rng.randrange(1, 100_001),
        idempotent=rng.random() < 0.5,
        labels=_pairs(rng),
        zone=_text(rng),
        metadata=_pairs(rng),
        metrics_address=_text(rng),
        state=rng.choice(list(State)),
        input_type=_text(rng),
        output_type=_text(rng),
        contract_hash=_text(rng),
        registered_at=rng.choice([0.0, rng.uniform(1e9, 4e9)]),
        last_renewed_at=rng.choice([0.0, rng.uniform(1e9, 4e9)]),
        revision=rng.randrange(2**64),
        load=rng.choice([None, _load(rng)]),
        last_probe=rng.choice(
            [None, Probe(rng.choice(list(ProbeResult)), rng.uniform(1e9, 4e9), round(rng.random(), 6), "why")]
        ),
        recent=rng.choice([None, Recent(rng.choice([None, 0.0, 0.25, 1e6]), rng.random(), rng.uniform(0, 1e6))]),
    )


@pytest.mark.parametrize("seed", range(50))
def test_an_endpoint_comes_back_from_the_wire_as_it_was(seed: int) -> None:
    endpoint = _endpoint(random.Random(seed))
    sent = registry_pb2.Endpoint.FromString(endpoint.to_proto().SerializeToString())
    assert Endpoint.from_proto(sent) == endpoint


def test_the_generator_varies_every_field() -> None:
    rng = random.Random(1)
    made = [_endpoint(rng) for _ in range(100)]
    for field in fields(Endpoint):
        values = {repr(getattr(endpoint, field.name)) for endpoint in made}
        assert len(values) > 1, f"{field.name} never changes, so nothing would notice its loss"


@pytest.mark.parametrize("seed", range(10))
def test_a_spec_carries_what_an_agent_says_of_itself_and_nothing_else(seed: int) -> None:
    endpoint = _endpoint(random.Random(seed))
    sent = registry_pb2.EndpointSpec.FromString(endpoint.to_spec().SerializeToString())
    known = Endpoint.from_spec(sent)
    own = {field.name for field in registry_pb2.EndpointSpec.DESCRIPTOR.fields}
    assert {field.name for field in fields(Endpoint)} >= own, "a new field of the spec must be carried"
    for field in fields(Endpoint):
        if field.name in own:
            assert getattr(known, field.name) == getattr(endpoint, field.name)
        else:
            assert getattr(known, field.name) == field.default, f"{field.name} is the registry's to say"


def test_what_a_spec_leaves_out_has_its_documented_default() -> None:
    endpoint = Endpoint.from_spec(registry_pb2.EndpointSpec(agent="a", address="h:1"))
    assert (endpoint.version, endpoint.slots, endpoint.idempotent) == ("1.0.0", 1, False)
    assert endpoint == Endpoint("a", "h:1")


def test_a_state_of_a_newer_registry_is_not_picked() -> None:
    proto = Endpoint("a", "h:1").to_proto()
    proto.state = 77  # type: ignore[assignment] # protobuf keeps what it does not know
    assert Endpoint.from_proto(proto).state is State.NOT_SERVING


def test_an_unset_score_stays_unset_and_zero_stays_zero() -> None:
    endpoint = replace(Endpoint("a", "h:1"), capabilities=(Capability("x"), Capability("y", 0.0)))
    assert Endpoint.from_proto(endpoint.to_proto()).capabilities == endpoint.capabilities


@pytest.mark.parametrize(("seconds", "nanos"), [(2**63 - 1, 0), (-(2**63), 0), (2**62, -(2**31)), (0, -1)])
def test_a_hostile_load_can_always_be_shown_to_others(seconds: int, nanos: int) -> None:
    proto = agent_pb2.Load()
    proto.busy.seconds, proto.busy.nanos = seconds, nanos
    load = Load.from_proto(proto)
    assert Load.from_proto(load.to_proto()) == load


def test_the_numbers_of_our_enums_are_those_of_the_protos() -> None:
    assert {state.name: int(state) for state in State} == {
        name.removeprefix("SERVING_STATE_"): number for name, number in agent_pb2.ServingState.items()
    }
    resets, removals = registry_pb2.Reset.Reason, registry_pb2.Removed.Reason
    ours = {reason.name: int(reason) for reason in ResetReason if reason is not ResetReason.FIRST}
    assert {f"REASON_{name}": number for name, number in ours.items()} | {"REASON_UNSPECIFIED": 0} == dict(
        resets.items()
    )
    gone = {reason.name: int(reason) for reason in RemovedReason if reason is not RemovedReason.NO_LONGER_MATCHES}
    assert {f"REASON_{name}": number for name, number in gone.items()} | {"REASON_UNSPECIFIED": 0} == dict(
        removals.items()
    )
