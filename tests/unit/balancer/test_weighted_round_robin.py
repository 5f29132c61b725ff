"""Weighted round robin: turns in proportion to slots, evenly spread."""

import random
from collections import Counter

import pytest

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.policies.weighted_round_robin import WeightedRoundRobin
from atomesh.core.endpoint import Endpoint

NOW = 100.0


def fleet(*slots: int) -> list[Candidate]:
    return [Candidate(Endpoint("a", f"127.0.0.1:{i + 1}", slots=n)) for i, n in enumerate(slots)]


def turns(candidates: list[Candidate], picks: int) -> list[int]:
    picker = WeightedRoundRobin(random.Random(1)).picker(candidates)
    made = [picker.pick(NOW) for _ in range(picks)]
    return [candidates.index(candidate) for candidate in made if candidate is not None]


def test_over_a_cycle_each_gets_exactly_its_slots() -> None:
    slots = (1, 4, 7, 2)
    assert Counter(turns(fleet(*slots), 3 * sum(slots))) == {n: 3 * share for n, share in enumerate(slots)}


def test_nobody_gets_all_its_turns_in_a_row() -> None:
    made = turns(fleet(5, 1, 1), 7)
    assert "".join("abc"[turn] for turn in made) in ("aabacaa", "aacabaa"), "nginx's own example"


@pytest.mark.parametrize("seed", range(5))
def test_in_any_stretch_nobody_is_more_than_one_cycle_of_turns_from_its_share(seed: int) -> None:
    rng = random.Random(seed)
    slots = [rng.randint(1, 9) for _ in range(6)]
    made = turns(fleet(*slots), 500)
    for place, share in enumerate(slots):
        due = share / sum(slots)
        for stretch in range(1, 500, 7):
            assert abs(made[:stretch].count(place) - due * stretch) < 2, "smooth: less than two turns off, at any time"


def test_what_comes_and_goes_leaves_the_turns_of_the_others_as_they_are() -> None:
    candidates = fleet(3, 1, 1)
    policy = WeightedRoundRobin(random.Random(1))
    counts: Counter[int] = Counter()
    for step in range(1_000):
        picker = policy.picker(candidates if step % 2 else list(reversed(candidates)))  # a new snapshot each time
        picked = picker.pick(NOW)
        assert picked is not None
        counts[candidates.index(picked)] += 1
    assert counts == {0: 600, 1: 200, 2: 200}


def test_a_full_endpoint_saves_up_no_turns() -> None:
    full, free = fleet(4, 4)
    full.in_flight = 4
    picker = WeightedRoundRobin(random.Random(1)).picker([full, free])
    assert all(picker.pick(NOW) is free for _ in range(100))
    full.in_flight = 0
    made = [picker.pick(NOW) for _ in range(4)]
    assert made.count(full) == 2, "it takes its turns from now on, not those that it missed"
