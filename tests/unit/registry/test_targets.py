"""What Prometheus is told to scrape."""

from __future__ import annotations

from typing import Any

from atomesh.core.endpoint import State
from atomesh.registry.targets import target_groups


def test_the_registry_itself_is_always_a_target() -> None:
    own = {"targets": ["r:7401"], "labels": {"__meta_atomesh_role": "registry"}}
    assert target_groups([], "r:7401") == [own]


def test_an_agent_is_a_target_with_what_is_known_of_it(endpoint: Any) -> None:
    served = endpoint(metrics_address="10.0.0.1:9", zone="a", version="1.2.3", labels={"team/x": "core"})
    group = target_groups([served], "r:7401")[1]
    assert group["targets"] == ["10.0.0.1:9"]
    assert group["labels"] == {
        "__meta_atomesh_role": "agent",
        "__meta_atomesh_agent": "text",
        "__meta_atomesh_version": "1.2.3",
        "__meta_atomesh_zone": "a",
        "__meta_atomesh_address": "10.0.0.1:1",
        "__meta_atomesh_instance_id": "instance-1",
        "__meta_atomesh_state": "serving",
        "__meta_atomesh_label_team_x": "core",
    }


def test_several_agents_of_one_process_are_one_target(endpoint: Any) -> None:
    served = [
        endpoint("b", metrics_address="10.0.0.1:9", state=State.DRAINING),
        endpoint("a", metrics_address="10.0.0.1:9"),
        endpoint("c"),
    ]
    groups = target_groups(served, "r:7401")
    assert len(groups) == 2, "a process without metrics must not be scraped, one with them only once"
    assert groups[1]["labels"]["__meta_atomesh_agent"] == "a,b"
    assert groups[1]["labels"]["__meta_atomesh_state"] == "draining,serving"
