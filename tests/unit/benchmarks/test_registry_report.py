"""What bench_registry says of its figures, and what its fleet is made of."""

from __future__ import annotations

from typing import Any

import pytest

from atomesh.core.contract import ContractDescriptor
from atomesh.registry import RegistrySettings, requests
from atomesh.registry.operations import Stored
from atomesh.registry.staging import stage
from atomesh.registry.store import Store
from atomesh.v1 import registry_pb2
from benchmarks import _registry_messages as messages
from benchmarks import _registry_report as report
from benchmarks._harness import Figures
from benchmarks._registry_cells import Calls, Cell, Memory, Watch


def _growth(few: float, most: float) -> dict[str, Any]:
    kinds = ("update", "by name")
    return {
        shape: {
            size: {kind: [{"server_cpu_us": cost}] for kind in kinds}
            for size, cost in (("1000", few), ("100000", most))
        }
        for shape in ("many", "one")
    }


def test_a_cost_that_grows_with_the_endpoints_is_missed_and_one_that_does_not_is_met() -> None:
    assert all("met" in row[-1] for row in report.flat(_growth(300.0, 330.0)))
    assert all("missed" in row[-1] for row in report.flat(_growth(300.0, 3000.0)))
    assert len(report.flat(_growth(300.0, 330.0))) == 4, "both shapes of fleet are judged"


def test_each_target_is_judged_by_its_own_figure() -> None:
    found: dict[Cell, dict[str, Figures]] = {
        Calls("register", 32): {
            "raw": {"rate": [1000.0, 4000.0], "server_cpu_us": [100.0, 100.0]},
            "sqlite": {"rate": [600.0, 2400.0], "server_cpu_us": [250.0, 250.0]},
        },
        Watch(100): {"raw": {"last_p99_ms": [9.0]}, "equal": {"last_p99_ms": [26.0]}},
        Watch(1000): {"raw": {"last_p99_ms": [90.0]}, "equal": {"last_p99_ms": [240.0]}},
        Memory(own=True): {"raw": {"server": [1.0]}, "equal": {"server": [59_000.0]}},
    }
    verdicts = ["met" in row[-1] for row in report.targets(found)]
    assert verdicts == [True, False, False, True, True], "ratios are pair by pair, milliseconds and kB as they are"


def test_one_registration_at_a_time_is_not_judged() -> None:
    worlds = {"raw": {"rate": [1000.0]}, "sqlite": {"rate": [100.0]}}
    assert report.targets({Calls("register", 1): worlds}) == [], "there is nothing to share a commit with"


@pytest.mark.parametrize("size", messages.CONTRACT_SIZES)
def test_a_registration_joined_of_parts_is_one_that_the_registry_takes(size: str) -> None:
    settings, store = RegistrySettings(), Store(Stored("0" * 32), superseded_kept=0)
    raw = messages.registration(7, size)
    operation = requests.registration(
        registry_pb2.RegisterRequest.FromString(raw), messages.lease_id(7), settings, wall=0.0
    )
    assert (operation.ttl, operation.endpoint.agent) == (messages.TTL, messages.agent_of(7))
    assert isinstance(stage(store, [operation]).results[0], int), "it must be accepted"
    assert 900 < len(raw) - len(messages.head(7)) < 100_000


def test_contracts_of_a_fleet_are_different_ones() -> None:
    hashes = {ContractDescriptor.from_proto(messages.contract(n, "lean")).hash for n in range(messages.CONTRACTS)}
    assert len(hashes) == messages.CONTRACTS, "else one that is parsed once would stand for all"


def test_the_same_capabilities_are_found_whatever_the_number_of_endpoints() -> None:
    have = [{capability.name for capability in messages.spec(number).capabilities} for number in range(3000)]
    assert sum(messages.FIND["capability_10"] in names for names in have) == 10
    assert sum(messages.FIND["capability_1000"] in names for names in have) == 1000
