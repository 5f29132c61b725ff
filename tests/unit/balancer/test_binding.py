"""Calls bind early where round trips are long beside the work, and late again where they are not."""

from __future__ import annotations

import random

import pytest

from atomesh.balancer.binding import MIN_SAMPLES, Binding
from atomesh.balancer.candidate import LOAD_NEWS_SECONDS, Candidate
from atomesh.balancer.policies import EarlyBinding
from atomesh.core import Endpoint


def after(execution: float, round_trip: float, *, crowded: bool, calls: int = 200) -> Binding:
    binding = Binding()
    for _ in range(calls):
        binding.took(execution, round_trip, crowded)
    return binding


@pytest.mark.parametrize(
    ("ratio", "crowded", "early"),
    [(0.02, True, False), (0.1, False, False), (0.1, True, True), (0.4, False, True), (4.0, True, True)],
)
def test_what_decides_is_the_round_trip_beside_the_work_and_whether_slots_are_short(
    ratio: float, crowded: bool, early: bool
) -> None:
    assert after(0.1, 0.1 * ratio, crowded=crowded).early is early


def test_a_few_calls_decide_nothing() -> None:
    assert not after(0.001, 1.0, crowded=True, calls=MIN_SAMPLES - 1).early


def test_it_binds_late_again_when_the_way_is_short_again_and_does_not_flip_between() -> None:
    binding = after(0.1, 0.03, crowded=False)
    assert binding.early
    for _ in range(500):
        binding.took(0.1, 0.022, False)
    assert binding.early, "just below where it began is not yet back"
    for _ in range(500):
        binding.took(0.1, 0.001, False)
    assert not binding.early


def test_as_many_calls_are_ahead_as_end_in_two_round_trips() -> None:
    assert after(0.1, 0.04, crowded=True).ahead(4) == 4
    assert after(0.1, 0.01, crowded=True).ahead(4) == 1
    assert after(0.1, 10.0, crowded=True).ahead(4) == 8, "never more than twice the slots"


def test_it_picks_the_least_loaded_up_to_its_slots_and_those_ahead() -> None:
    candidates = [Candidate(Endpoint("a", f"127.0.0.1:{n}", instance_id="i", slots=2)) for n in (1, 2)]
    picker = EarlyBinding(random.Random(1)).picker(candidates)
    for candidate in candidates:
        candidate.ahead = 1
    picks = []
    for _ in range(6):
        picked = picker.pick(1.0)
        assert picked is not None
        picked.in_flight += 1
        picks.append(picked)
    assert picks.count(candidates[0]) == picks.count(candidates[1]) == 3
    assert picker.pick(1.0) is None, "two run and one waits at each"
    candidates[0].in_flight = 0
    candidates[0].told(2, 1, 0, 1.0)
    assert picker.pick(1.0) is None, "others' calls wait there, as it has just said"
    assert picker.pick(1.0 + 2 * LOAD_NEWS_SECONDS) is candidates[0], "old news are not believed"
