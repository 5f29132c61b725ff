"""The best agent for a capability: by declared score, by how it fares, by whether it has room."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeAlias

import pytest

from atomesh.core import Endpoint, State
from atomesh.core.endpoint import Recent
from atomesh.core.errors import NotFound
from atomesh.pipelines.assembly import Catalog, Choice, choose
from atomesh.pipelines.assembly.catalog import nearest
from atomesh.pipelines.assembly.choice import milliseconds, percent_ok, rank
from atomesh.pipelines.assembly.figures import BY_FIELDS, IN_PART, without_noise

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
    assert chosen.why == "12 ms, >99 % ok, 1 slot free, score 0.9; next best: a 80 ms"


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
    assert "next best: new unmeasured, 95 % ok" in chosen.why


def test_one_failure_of_one_does_not_count_as_always(listed: Listed) -> None:
    figures = best(listed("a", {"sum": 1}, ms=10, executions=1, failures=1)).agent.figures
    assert figures.error_rate < 0.1, "one execution says little"


def test_what_happened_of_late_counts_and_not_what_was_long_ago(listed: Listed) -> None:
    worse = listed("a", {"sum": 1}, ms=5, recent=Recent(execution=0.5, error_rate=0.2, executions_per_second=3))
    better = listed("b", {"sum": 1}, ms=900, recent=Recent(execution=0.1, error_rate=0.0, executions_per_second=3))
    chosen = best(worse, better)
    assert chosen.agent.name == "b"
    assert chosen.why == "100 ms, 100 % ok, 1 slot free, score 1; next best: a 500 ms, 80 % ok"


def test_where_too_little_happened_of_late_the_whole_life_counts(listed: Listed) -> None:
    quiet = listed("a", {"sum": 1}, ms=40, failures=980, recent=Recent(executions_per_second=0.01))
    figures = best(quiet).agent.figures
    assert (figures.latency, round(figures.error_rate, 2)) == (0.04, 0.96)


@pytest.mark.parametrize("state", [State.DRAINING, State.NOT_SERVING])
def test_who_takes_no_calls_is_not_chosen(listed: Listed, state: State) -> None:
    chosen = best(listed("a", {"sum": 1}, state=state, ms=1), listed("b", {"sum": 0.1}, ms=900))
    assert (chosen.agent.name, chosen.rivals) == ("b", ())
    assert chosen.why.endswith("; no other agent can")


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


@pytest.mark.parametrize(("ours", "theirs"), [(0.02, 0.03), (0.3, 0.9), (100, 108)])
def test_a_difference_of_time_that_is_noise_does_not_outweigh_a_declared_score(
    listed: Listed, ours: float, theirs: float
) -> None:
    faster, better = listed("a", {"sum": 0.8}, ms=ours), listed("b", {"sum": 0.8001}, ms=theirs)
    assert best(faster, better).agent.name == "b", "within a millisecond or a fifth the score decides"
    catalog = Catalog.build([listed("a", {"sum": 0.8}, ms=ours), listed("b", {"sum": 0.9}, ms=theirs)], {})
    assert rank(list(catalog.agents.values()))[0].name == "b", "so it does where no capability is asked for"
    catalog = Catalog.build([listed("b", {"sum": 0.8}, ms=ours), listed("a", {"sum": 0.8}, ms=theirs)], {})
    assert rank(list(catalog.agents.values()))[0].name == "b", "and between equal scores time does, however little"


def test_more_than_noise_decides_before_a_score_that_nobody_asked_for(listed: Listed) -> None:
    catalog = Catalog.build([listed("a", {"sum": 0.1}, ms=50), listed("b", {"sum": 0.9}, ms=90)], {})
    assert rank(list(catalog.agents.values()))[0].name == "a"


def test_steps_of_time_are_a_millisecond_wide_or_a_fifth() -> None:
    assert [without_noise(ms / 1000) for ms in (0.0, 0.01, 1.0)] == [0.001] * 3
    edges = sorted({without_noise(n / 10_000) for n in range(1, 100_000)})
    for one, other in itertools.pairwise(edges):
        assert other - one == pytest.approx(max(0.001, one / 5), rel=1e-6)


def test_sums_of_costs_compare_part_by_part(listed: Listed) -> None:
    slow, quick = (best(listed("a", {"sum": 1}, ms=ms)).agent for ms in (1e15, 1))
    assert 16 * slow.cost() < IN_PART, "no chain of agents costs as much as a field that is dropped"
    assert 16 * IN_PART < BY_FIELDS
    assert slow.cost() > 16 * quick.cost()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0000312, "0.03 ms"),
        (0.00421, "4.2 ms"),
        (0.00996, "10 ms"),
        (0.0524, "52 ms"),
        (1.26, "1.3 s"),
        (9.96, "10 s"),
        (75.2, "75 s"),
        (0, "0 ms"),
        (0.9996, "1 s"),
    ],
)
def test_times_have_no_more_digits_than_decide_anything(seconds: float, said: str) -> None:
    assert milliseconds(seconds) == said


def test_what_is_not_quite_all_is_not_called_all() -> None:
    assert [percent_ok(share) for share in (0.954, 0.9904, 0.9999, 1.0)] == [
        "95 % ok",
        "99 % ok",
        ">99 % ok",
        "100 % ok",
    ]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("tickets.v1.Letterr", "; did you mean tickets.v1.Letter?"),
        ("ticket.v1.Letter", "; did you mean tickets.v1.Letter?"),
        ("tickets.v2.Letter", "; did you mean tickets.v1.Letter?"),
        ("letters", "; did you mean tickets.v1.Letter?"),
        ("tickets.v1.Bok", "; did you mean tickets.v1.Book, book?"),
        ("tickets.v1.Nothing", "; did you mean tickets.v1.Book, tickets.v1.Letter?"),
        ("xyz", "; there are book, text.v1.Filter, tickets.v1.Book, tickets.v1.Letter"),
    ],
)
def test_the_nearest_names_are_those_whose_last_part_is_like_it(word: str, said: str) -> None:
    assert nearest(word, ["tickets.v1.Letter", "tickets.v1.Book", "text.v1.Filter", "book"]) == said
