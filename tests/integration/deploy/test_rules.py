"""The alert rules: each is tested both ways, on metrics that there are, with words on what to do."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from atomesh.registry.targets import target_groups

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "deploy" / "prometheus"

_NAME = re.compile(r"\b(?:up|(?:atomesh|grpc)_[a-z_]+)\b")
_SELECTOR = re.compile(r"\b((?:atomesh|grpc)_[a-z_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)")


def yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml(RULES / "alerts.yml")["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


async def promtool(*arguments: str | Path) -> tuple[int, str]:
    command = ["promtool", *map(str, arguments)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def what_is_wrong(expression: str, exposed: dict[str, list[dict[str, str]]], ours: set[str]) -> list[str]:
    """Names, labels and values of labels in PromQL that no process shows; `ours` are labels of targets."""
    wrong = [f"no metric {name}" for name in _NAME.findall(expression) if name != "up" and name not in exposed]
    for name, matchers in _SELECTOR.findall(expression):
        series = exposed.get(name, [])
        for label, _, value in _MATCHER.findall(matchers):
            values = {labels[label] for labels in series if label in labels}
            if series and not values and label not in ours:
                wrong.append(f"{name} has no label {label}")
            if values and not value.startswith("$"):
                wrong += [f"{name} has no {label}={each}" for each in value.split("|") if each not in values]
    known = {label for name in _NAME.findall(expression) for labels in exposed.get(name, []) for label in labels} | ours
    bare = any(not exposed.get(name) for name in _NAME.findall(expression))  # nothing has happened that makes a series
    for grouping in _GROUPING.findall(expression):
        labels = {label.strip() for label in grouping.split(",")}
        wrong += [f"nothing has a label {label}" for label in sorted(labels - known) if not bare]
    return wrong


def labels_of_targets() -> set[str]:
    """Those that the example gives to what is found, and those that Prometheus gives to all."""
    jobs = yaml(RULES / "prometheus.yml")["scrape_configs"]
    return {"instance", "job"} | {rule["target_label"] for job in jobs for rule in job.get("relabel_configs", ())}


@pytest.mark.needs_tool("promtool")
async def test_the_configuration_is_valid_with_its_rules() -> None:
    code, said = await promtool("check", "config", RULES / "prometheus.yml")
    assert code == 0, said
    assert f"SUCCESS: {len(alerts())} rules found" in said


@pytest.mark.needs_tool("promtool")
async def test_every_rule_fires_when_it_should_and_not_when_it_should_not() -> None:
    code, said = await promtool("test", "rules", RULES / "alerts_test.yml")
    assert code == 0, said


def test_every_rule_is_tested_both_ways() -> None:
    fires: set[str] = set()
    keeps_still: set[str] = set()
    for test in yaml(RULES / "alerts_test.yml")["tests"]:
        for case in test["alert_rule_test"]:
            (fires if case["exp_alerts"] else keeps_still).add(case["alertname"])
    assert fires == keeps_still == set(alerts())


@pytest.mark.needs_tool("promtool")
@pytest.mark.parametrize("becomes", ["vector(0) > 1", "vector(1)"], ids=["never", "always"])
async def test_a_rule_that_says_anything_fails_its_tests(becomes: str, tmp_path: Path) -> None:
    shutil.copy(RULES / "alerts_test.yml", tmp_path)
    rules = yaml(RULES / "alerts.yml")
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = becomes
    with (tmp_path / "alerts.yml").open("w") as file:
        YAML().dump(rules, file)
    code, said = await promtool("test", "rules", tmp_path / "alerts_test.yml")
    assert code != 0
    assert {name for name in alerts() if name not in said} == set(), "their tests cannot fail"


async def test_rules_use_metrics_that_there_are(exposed: Callable[..., Any]) -> None:
    shown = await exposed()
    wrong = {name: what_is_wrong(rule["expr"], shown, labels_of_targets()) for name, rule in alerts().items()}
    assert {name: each for name, each in wrong.items() if each} == {}


async def test_a_name_a_label_and_a_value_that_are_not_there_are_found(exposed: Callable[..., Any]) -> None:
    shown, ours = await exposed(), labels_of_targets()
    for expression, said in (
        ("atomesh_registry_lease > 1", "no metric atomesh_registry_lease"),
        ('atomesh_registry_leases{status="serving"}', "atomesh_registry_leases has no label status"),
        ('atomesh_registry_leases{state="asleep"}', "atomesh_registry_leases has no state=asleep"),
        ('rate(atomesh_agent_executions_total{outcome=~"ok|lost"}[5m])', "has no outcome=lost"),
        ("sum by (agent) (atomesh_registry_leases)", ""),
        ("sum by (stage) (atomesh_agent_slots)", "nothing has a label stage"),
    ):
        assert said in " ".join(what_is_wrong(expression, shown, ours)), expression


def test_what_discovery_says_is_what_the_example_relabels() -> None:
    (own,) = target_groups([], "127.0.0.1:7401")
    relabelled = yaml(RULES / "prometheus.yml")["scrape_configs"][0]["relabel_configs"]
    (source,) = [rule["source_labels"] for rule in relabelled if rule["target_label"] == "role"]
    assert own["labels"][source[0]] == "registry", 'up{role="registry"} is what the rules ask for'


def test_every_alert_has_its_runbook() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    told = re.findall(r"^#### (\w+)$", page, re.MULTILINE)
    assert told == list(alerts()), "one section for each, in the order of the rules"
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
        assert rule["annotations"]["summary"].endswith("."), name
        assert rule["labels"]["severity"] in ("warning", "critical"), name
