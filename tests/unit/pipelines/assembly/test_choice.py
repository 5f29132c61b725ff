"""The best agent for a capability: by declared score, by how it fares, by whether it has room."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from atomesh.core import Endpoint, State
from atomesh.core.endpoint import Recent
from atomesh.core.errors import NotFound
from atomesh.pipelines.assembly import Catalog, Choice, choose

Listed: TypeAlias = Callable[..., Endpoint]


def best(*endpoints: Endpoint) -> Choice:
    return choose(Catalog.build(endpoints, {}), "sum")


def test_the_better_score_wins_over_a_faster_agent(listed: Listed) -> None:
    chosen = best(listed("quick", {"sum": 0.5}, ms=2), listed("good", {"sum": 0.9}, ms=80))
    assert chosen.agent.name == "good", "a declared score outweighs milliseconds"
    assert [rival.name for rival in chosen.rivals] == ["quick"]


def test_a_better_score_does_not_excuse_seconds(listed: Listed) -> None:
    chosen = best(listed("quick", {"sum": 0.8}, ms=20), listed("good", {"sum": 0.9}, ms=5000))
    assert chosen.agent.name == "quick", "a tenth of score is worth one second, not five"


def test_of_equal_score_the_faster_agent_is_chosen_and_the_line_says_so(listed: Listed) -> None:
    chosen = best(listed("a", {"sum": 0.9}, ms=80), listed("b", {"sum": 0.9}, ms=12), listed("c", {"sum": 0.9}, ms=300))
    assert chosen.agent.name == "b"
    assert chosen.why == "first of 3 that can: score 0.9, 12 ms against 80 ms (against a)"


def test_failures_count_like_the_time_that_they_cost(listed: Listed) -> None:
    chosen = best(listed("a", {"sum": 1}, ms=10, failures=300), listed("b", {"sum": 1}, ms=50))
    assert chosen.agent.name == "b", "three failures in ten cost more than 40 ms"


def test_of_equals_the_one_with_room_is_chosen(listed: Listed) -> None:
    chosen = best(
        listed("a", {"sum": 1}, ms=10, slots=4, in_flight=3), listed("b", {"sum": 1}, ms=10, slots=4, in_flight=1)
    )
    assert chosen.agent.name == "b", "more free slots decide between equals"


def test_a_full_agent_costs_the_wait_for_a_slot(listed: Listed) -> None:
    full = listed("a", {"sum": 1}, ms=10, slots=2, in_flight=2, queued=9)
    chosen = best(full, listed("b", {"sum": 1}, ms=40))
    assert chosen.agent.name == "b", "ten executions before ours at two slots are 50 ms"


def test_an_unmeasured_agent_is_neither_first_nor_hopeless(listed: Listed) -> None:
    chosen = best(listed("slow", {"sum": 1}, ms=8000), listed("new", {"sum": 1}), listed("quick", {"sum": 1}, ms=10))
    assert [chosen.agent.name, *(rival.name for rival in chosen.rivals)] == ["quick", "new", "slow"]
    assert "10 ms against not measured yet" in chosen.why


def test_one_failure_of_one_does_not_count_as_always(listed: Listed) -> None:
    figures = best(listed("a", {"sum": 1}, ms=10, executions=1, failures=1)).agent.figures
    assert figures.error_rate < 0.1, "one execution says little"


def test_what_happened_of_late_counts_and_not_what_was_long_ago(listed: Listed) -> None:
    worse = listed("a", {"sum": 1}, ms=5, recent=Recent(execution=0.5, error_rate=0.2, executions_per_second=3))
    better = listed("b", {"sum": 1}, ms=900, recent=Recent(execution=0.1, error_rate=0.0, executions_per_second=3))
    chosen = best(worse, better)
    assert chosen.agent.name == "b"
    assert chosen.why == "first of 2 that can: score 1, 100 ms against 500 ms, 100 % succeed against 80 % (against a)"


def test_where_too_little_happened_of_late_the_whole_life_counts(listed: Listed) -> None:
    quiet = listed("a", {"sum": 1}, ms=40, failures=980, recent=Recent(executions_per_second=0.01))
    figures = best(quiet).agent.figures
    assert (figures.latency, round(figures.error_rate, 2)) == (0.04, 0.96)


@pytest.mark.parametrize("state", [State.DRAINING, State.NOT_SERVING])
def test_who_takes_no_calls_is_not_chosen(listed: Listed, state: State) -> None:
    chosen = best(listed("a", {"sum": 1}, state=state, ms=1), listed("b", {"sum": 0.1}, ms=900))
    assert (chosen.agent.name, chosen.rivals) == ("b", ())
    assert chosen.why.startswith("the only agent that can: 900 ms")


def test_a_suspect_endpoint_counts_little(listed: Listed) -> None:
    suspect = listed("a", {"sum": 1}, ms=1000, state=State.SUSPECT, address="127.0.0.1:2", slots=4)
    figures = best(suspect, listed("a", {"sum": 1}, ms=10, slots=4)).agent.figures
    assert (figures.endpoints, figures.suspects, figures.slots, figures.free) == (2, 1, 4, 4)
    assert figures.latency == pytest.approx((10 + 1000 * 0.1) / 1.1 / 1000), "a tenth of its weight"


def test_the_types_asked_for_narrow_the_choice(listed: Listed) -> None:
    catalog = Catalog.build(
        [listed("a", {"sum": 1}, ms=1), listed("b", {"sum": 0.2}, ms=9, takes="t.Other", gives="t.Out")], {}
    )
    assert choose(catalog, "sum", input_type="t.Other").agent.name == "b"
    with pytest.raises(
        NotFound, match=r"no live agent with the capability sum is anything -> t.No: a is t.In -> t.Out"
    ):
        choose(catalog, "sum", output_type="t.No")


def test_a_capability_that_nobody_has_names_the_nearest(listed: Listed) -> None:
    with pytest.raises(NotFound, match="no live agent has the capability sums; did you mean sum"):
        choose(Catalog.build([listed("a", {"sum": 1})], {}), "sums")


def test_the_newest_versions_contract_counts_while_two_are_live(listed: Listed) -> None:
    old = listed("a", {"sum": 0.2}, ms=1, version="1.0.0", contract_hash="old", slots=9)
    new = listed("a", {"sum": 0.7}, ms=5, version="1.2.0", contract_hash="new", address="127.0.0.1:2")
    agent = best(old, new).agent
    assert (agent.contract_hash, agent.capabilities, agent.version) == ("new", {"sum": 0.7}, ">=1.2.0")
    assert agent.figures.slots == 1, "endpoints of the other contract are left out"


def test_the_order_of_endpoints_changes_nothing(listed: Listed) -> None:
    endpoints = [
        listed("a", {"sum": 0.9}, ms=ms, address=f"127.0.0.1:{ms}", slots=ms, failures=ms) for ms in (3, 7, 11, 13)
    ]
    assert best(*endpoints) == best(*reversed(endpoints))
