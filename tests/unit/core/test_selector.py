"""Whom a selector means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atomesh.core import ALL_STATES, Capability, Endpoint, Selector, State
from atomesh.core.errors import InvalidArgument
from atomesh.v1 import registry_pb2

ENDPOINT = Endpoint(
    "text-processor",
    "127.0.0.1:5001",
    version="1.4.0",
    capabilities=(Capability("reporting"), Capability("validation", 0.5)),
    labels={"team": "x", "tier": "gold", "empty": ""},
    zone="a",
    input_type="t.In",
    output_type="t.Out",
)


def test_an_empty_selector_means_whoever_serves_and_no_one_else() -> None:
    states = {state: Selector().matches(replace(ENDPOINT, state=state)) for state in State}
    assert states == {state: state is State.SERVING for state in State}


@pytest.mark.parametrize(
    "fields",
    [
        {"agent": "text-processor"},
        {"capabilities": ("reporting",)},
        {"capabilities": ("validation", "reporting", "reporting")},
        {"labels": {"team": "x"}},
        {"labels": {"team": "x", "tier": "gold"}},
        {"labels": {"empty": ""}},
        {"version": ">=1.2,<2"},
        {"zone": "a"},
        {"input_type": "t.In"},
        {"output_type": "t.Out"},
        {"states": ALL_STATES},
    ],
)
def test_a_field_that_fits_lets_in(fields: dict[str, Any]) -> None:
    assert Selector(**fields).matches(ENDPOINT)


@pytest.mark.parametrize(
    "fields",
    [
        {"agent": "text-processo"},
        {"capabilities": ("reporting", "communication")},
        {"labels": {"team": "y"}},
        {"labels": {"team": "x", "other": "x"}},
        {"labels": {"missing": ""}},
        {"version": "<1.4"},
        {"zone": "b"},
        {"input_type": "t.Out"},
        {"output_type": "t.In"},
        {"states": (State.DRAINING, State.SUSPECT)},
    ],
)
def test_one_field_that_does_not_fit_keeps_out(fields: dict[str, Any]) -> None:
    assert not Selector(**fields).matches(ENDPOINT)
    everything_else = {"agent": "text-processor", "zone": "a", "input_type": "t.In", **fields}
    assert not Selector(**everything_else).matches(ENDPOINT), "all that is set must hold"


def test_a_label_that_is_missing_is_not_an_empty_one() -> None:
    assert not Selector(labels={"missing": ""}).matches(ENDPOINT)
    assert Selector(labels={"empty": ""}).matches(ENDPOINT)


def test_states_that_are_named_are_all_that_will_do() -> None:
    draining = Selector(states=(State.DRAINING,))
    assert draining.matches(replace(ENDPOINT, state=State.DRAINING))
    assert not draining.matches(ENDPOINT)


def test_a_bad_range_is_refused_when_the_selector_is_made() -> None:
    with pytest.raises(InvalidArgument, match="semver"):
        Selector(version="newest")


def test_it_survives_the_wire() -> None:
    full = Selector(
        agent="a",
        capabilities=("x", "y"),
        labels={"k": "v", "Zoë": "🦊"},
        version="<2",
        zone="z",
        input_type="t.In",
        output_type="t.Out",
        states=ALL_STATES,
    )
    for selector in (full, Selector()):
        sent = registry_pb2.Selector.FromString(selector.to_proto().SerializeToString())
        assert Selector.from_proto(sent) == selector


def test_a_state_that_nobody_knows_is_refused_by_its_number() -> None:
    with pytest.raises(InvalidArgument, match="77"):
        Selector.from_proto(registry_pb2.Selector(states=[77]))  # type: ignore[list-item] # protobuf keeps it
