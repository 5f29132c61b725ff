"""The dashboard: what Grafana needs to import it, and queries on metrics that there are."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

DASHBOARD = Path(__file__).resolve().parents[3] / "deploy" / "grafana" / "atomesh.json"
WIDTH = 24


def dashboard() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return data


def panels() -> Iterator[dict[str, Any]]:
    """Those that show something."""
    yield from (panel for panel in dashboard()["panels"] if panel["type"] != "row")


def queries() -> Iterator[tuple[str, str]]:
    """Each query with its panel's title, its variables filled in."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$agent", ".*")


def test_it_is_a_dashboard_as_grafana_imports_them() -> None:
    data = dashboard()
    assert data["id"] is None, "an id is Grafana's to give"
    assert data["uid"] == "atomesh"
    assert {"title", "schemaVersion", "templating", "time", "panels", "__requires"} <= data.keys()
    kinds = {panel["type"] for panel in panels()}
    assert kinds == {each["id"] for each in data["__requires"] if each["type"] == "panel"}
    ids = [panel["id"] for panel in data["panels"]]
    assert len(set(ids)) == len(ids)


def test_every_panel_asks_the_prometheus_that_is_chosen() -> None:
    variables = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    for panel in panels():
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]) or panel["type"] == "stat"
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)


def test_no_two_panels_lie_on_each_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= WIDTH, panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, (panel["title"], taken.get((x, y)))
                taken[x, y] = panel["title"]


@pytest.mark.needs_tool("promtool")
async def test_every_query_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(queries())]
    with (tmp_path / "queries.yml").open("w") as file:
        YAML().dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
    command = ["promtool", "check", "rules", str(tmp_path / "queries.yml")]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


async def test_every_query_is_on_metrics_that_there_are(exposed: Callable[..., Any]) -> None:
    shown = await exposed()
    named = {name for _, query in queries() for name in re.findall(r"\b(?:atomesh|grpc_server)_[a-z_]+\b", query)}
    named |= {"atomesh_agent_slots"}  # of the variable
    assert sorted(named - shown.keys()) == []
    families = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in shown if name.startswith("atomesh_")}
    drawn = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in named}
    hidden = {"atomesh_event_loop_last_lag_seconds", "atomesh_client_in_flight", "atomesh_client_slots"}
    hidden |= {"atomesh_client_muxed"}  # of single endpoints, for who looks into one
    assert sorted(families - drawn - hidden) == [], "what is counted is drawn, or said here not to be"


def test_legends_have_labels_that_the_query_leaves() -> None:
    for panel in panels():
        for target in panel["targets"]:
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = {each.strip() for by in re.findall(r"\bby \(([^)]*)\)", target["expr"]) for each in by.split(",")}
            assert wanted <= kept, (panel["title"], target["expr"])
