"""Pages of metrics summed up, and shown."""

from __future__ import annotations

import json
import random

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from atomesh.agents.admission import Admission
from atomesh.agents.metrics import AgentMetrics, Outcome
from atomesh.cli._settings import load
from atomesh.cli._stats_asked import Heard, Unasked
from atomesh.cli._stats_sums import (
    AgentSums,
    Scrape,
    agent_data,
    agent_sums,
    folded,
    in_all,
    registry_data,
    registry_sums,
)
from atomesh.cli._stats_view import stats_lines
from atomesh.cli.stats import StatsFlags
from atomesh.core.endpoint import ProbeResult
from atomesh.core.errors import NoFreeSlot
from atomesh.registry.metrics import RegistryMetrics


def agents_page(*names: str, took: float = 0.5) -> Scrape:
    """What a process of these agents shows after three executions of each, one of them failed, and a refusal."""
    collectors = CollectorRegistry()
    families = AgentMetrics(collectors)
    for name in names:
        admission = Admission(name, 4, rng=random.Random(1))
        admission.in_flight = 2
        series = families.bind(admission)
        for outcome in (Outcome.OK, Outcome.OK, Outcome.FAILED):
            series.ended(outcome, took)
        series.refused(NoFreeSlot("full"))
    return Scrape(generate_latest(collectors).decode())


def registry_page() -> Scrape:
    collectors = CollectorRegistry()
    metrics = RegistryMetrics(collectors)
    metrics.registered.inc(5)
    metrics.removals.inc(2)
    metrics.expirations.inc()
    metrics.revision.set(8)
    metrics.warm.set(1)
    metrics.committed.inc(7)
    metrics.commit_seconds.observe(0.002)
    metrics.probed(ProbeResult.SERVING, 0.002)
    metrics.probed(ProbeResult.SERVING, 0.004)
    metrics.probed(ProbeResult.TIMEOUT, 5.0)
    return Scrape(generate_latest(collectors).decode())


def shown(heard: Heard, width: int | None) -> list[str]:
    return [line.plain.rstrip() for line in stats_lines(heard, "127.0.0.1:7401", width)]


def test_what_processes_of_an_agent_counted_is_added_up() -> None:
    agents = folded([agent_sums(agents_page("text", "llm")), agent_sums(agents_page("text", took=1.5))])
    assert list(agents) == ["llm", "text"]
    text = agents["text"]
    assert (text.processes, text.executions, text.errors) == (2, 6, 2)
    assert (text.in_flight, text.slots) == (4, 8)
    assert text.time.mean == pytest.approx(1.0), "of all executions, not of the processes' means"
    assert text.refusals["NO_FREE_SLOT"] == 2
    assert (in_all(agents).executions, in_all(agents).processes) == (9, 3)
    assert agents["llm"].executions == 3, "adding up changes none of the parts"


def test_a_registry_is_summed_up_with_probes_by_result_and_their_times() -> None:
    data = registry_data(registry_sums(registry_page()))
    assert data["registrations"] == {"registered": 5, "incompatible": 0, "failed": 0}
    assert (data["deregistrations"], data["expirations"], data["suspicions"]) == (2, 1, 0)
    assert data["probes"]["serving"] == {"count": 2, "mean_seconds": pytest.approx(0.003)}
    assert data["probes"]["forbidden"] == {"count": 0, "mean_seconds": None}
    assert data["commits"]["committed"] == 7
    assert data["commits"]["mean_seconds"] == pytest.approx(0.002)
    assert (data["revision"], data["warm"], data["self_preservation"]) == (8, True, False)


def test_another_programs_page_is_no_registrys() -> None:
    with pytest.raises(ValueError, match="atomesh_registry_revision"):
        registry_sums(Scrape("node_load1 1.5\n"))


def test_counts_that_are_no_numbers_are_nobodys() -> None:
    page = Scrape(
        "\n".join(
            f'atomesh_agent_{name}{{agent="x",outcome="ok"}} {value}'
            for name, value in (
                ("slots", 4),
                ("in_flight", "NaN"),
                ("queued", -3),
                ("executions_total", "+Inf"),
                ("execution_seconds_sum", "NaN"),
            )
        )
        + "\n"
    )
    sums = agent_sums(page)["x"]
    assert (sums.slots, sums.in_flight, sums.queued, sums.executions) == (4, 0, 0, 0)
    assert "NaN" not in json.dumps(agent_data(sums)), "JSON has no NaN"


@pytest.mark.parametrize(
    "page", ["{", 'a{b="', 'a{b="c",', "a b c d", 'a{b="c", ="d"} 1', "# TYPE a counter\na{b=c} 1", "x 1_2_z"]
)
def test_what_is_no_page_of_metrics_is_a_value_error_and_nothing_else(page: str) -> None:
    with pytest.raises(ValueError, match="no page of metrics"):
        Scrape(page)


def test_a_process_that_has_done_nothing_yet_has_no_mean() -> None:
    collectors = CollectorRegistry()
    AgentMetrics(collectors).bind(Admission("idle", 2, rng=random.Random(1)))
    (sums,) = agent_sums(Scrape(generate_latest(collectors).decode())).values()
    assert agent_data(sums)["mean_seconds"] is None
    lines = shown(Heard(registry_sums(registry_page()), [{"idle": sums}]), 80)
    assert lines[-1].split() == ["idle", "1", "0", "0", "-", "0/2", "0", "0"]


def test_a_row_for_each_agent_and_one_for_all() -> None:
    heard = Heard(registry_sums(registry_page()), [agent_sums(agents_page("text", "llm"))])
    lines = shown(heard, 120)
    assert lines[0] == "registry 127.0.0.1:7401, revision 8, 0 watchers"
    assert "  gone           2 deregistered, 1 expired" in lines
    assert "  probes         2 serving (3.0 ms each), 1 timeout (5.00 s each)" in lines
    assert lines[-3:] == [
        "llm            1           3  1 (33.3%)  500.0 ms   2/4        0        1",
        "text           1           3  1 (33.3%)  500.0 ms   2/4        0        1",
        "all            2           6  2 (33.3%)  500.0 ms   4/8        0        2",
    ]


@pytest.mark.parametrize("width", [60, 80, 120, None])
def test_no_line_is_wider_than_the_terminal(width: int | None) -> None:
    agents = agent_sums(agents_page("an-agent-with-a-rather-long-name-of-its-own-that-goes-on"))
    silent = [Unasked(f"10.0.0.{n}:9100", "text-processor", "no answer within 5 s") for n in range(30)]
    lines = shown(Heard(registry_sums(registry_page()), [agents], silent), width)
    assert all(len(line) <= (width or 1000) for line in lines)
    assert any(line.startswith("30 of 31 targets told nothing") for line in lines)
    assert any("and 20 more; --json has all" in line for line in lines)


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, "127.0.0.1:7401"),
        ({"ATOMESH_REGISTRY": "10.0.0.5:7400"}, "10.0.0.5:7401"),
        ({"ATOMESH_REGISTRY": "[::1]:9000"}, "[::1]:7401"),
        ({"ATOMESH_REGISTRY": "10.0.0.5:7400", "ATOMESH_REGISTRY_HTTP": "10.0.0.6:80"}, "10.0.0.6:80"),
    ],
)
def test_the_registrys_pages_are_where_it_is_unless_somebody_says_otherwise(
    environment: dict[str, str], address: str
) -> None:
    assert load(StatsFlags(), environment=environment).mesh.http_address == address


def test_a_mesh_without_agents_says_so() -> None:
    assert shown(Heard(registry_sums(registry_page())), 80)[-1] == "no agent told its metrics"


def test_nothing_that_an_agent_is_called_reaches_the_terminal_raw() -> None:
    heard = Heard(registry_sums(registry_page()), [{"\x1b[2Jx": AgentSums(processes=1)}])
    heard.unasked.append(Unasked("10.0.0.1:1", "\x1b]0;owned\x07", "\x9b"))
    assert all(line.isprintable() for line in shown(heard, 100))
