"""Slow endpoints are found by what executions take, whatever the costs of calls."""

from __future__ import annotations

import math
import random

import pytest

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.speeds import learn, reweigh
from atomesh.core import Endpoint


def fleet(*declared: float) -> list[Candidate]:
    made = [Candidate(Endpoint("a", f"127.0.0.1:{n + 1}", instance_id=f"i{n}", slots=4)) for n in range(len(declared))]
    for candidate, weight in zip(made, declared, strict=True):
        candidate.declared = candidate.weight = weight
    return made


def run(candidates: list[Candidate], speeds: list[float], calls: int, rng: random.Random) -> None:
    """Each endpoint executes so many calls whose costs differ a thousandfold."""
    for _ in range(calls):
        for candidate, speed in zip(candidates, speeds, strict=True):
            learn(candidate, math.exp(rng.uniform(math.log(0.001), 0.0)) / speed)
    reweigh(candidates)


@pytest.mark.parametrize("seed", range(20))
def test_a_copy_sixteen_times_slower_is_found_after_twenty_calls_each(seed: int) -> None:
    candidates = fleet(1, 1, 1, 1)
    run(candidates, [1, 1, 1, 1 / 16], 20, random.Random(seed))
    assert candidates[3].weight < min(c.weight for c in candidates[:3]) / 2, "the slow one is filled last"


def test_equals_are_mostly_left_equal() -> None:
    wrong = 0
    for seed in range(200):
        candidates = fleet(1, 1, 1, 1)
        run(candidates, [1, 1, 1, 1], 30, random.Random(seed))
        wrong += sum(candidate.weight != 1 for candidate in candidates)
    assert wrong <= 0.03 * 800, "2.5 standard errors are exceeded by one in eighty"


@pytest.mark.parametrize("seed", range(5))
def test_weights_that_operators_declared_truly_are_left_as_they_are(seed: int) -> None:
    candidates = fleet(4, 4, 1, 1)
    run(candidates, [4, 4, 1, 1], 60, random.Random(seed))
    assert [candidate.weight for candidate in candidates] == pytest.approx([4, 4, 1, 1], rel=0.5)


@pytest.mark.parametrize("seed", range(5))
def test_weights_that_were_declared_wrongly_are_corrected(seed: int) -> None:
    candidates = fleet(8, 1, 1)
    run(candidates, [1, 1, 1], 128, random.Random(seed))
    assert candidates[0].weight < 4, "an endpoint that claims to be eight times faster and is not is found out"


def test_one_that_recovers_gets_its_weight_back() -> None:
    rng = random.Random(3)
    candidates = fleet(1, 1, 1)
    run(candidates, [1, 1, 1 / 16], 30, rng)
    assert candidates[2].weight < 0.5
    run(candidates, [1, 1, 1], 1000, rng)
    assert candidates[2].weight > 0.5


def test_nobody_is_judged_before_there_are_samples_of_it_and_of_others() -> None:
    candidates = fleet(1, 1)
    for _ in range(3):
        learn(candidates[0], 10.0)
    assert not reweigh(candidates)
    lone = fleet(1)
    for _ in range(100):
        learn(lone[0], 10.0)
    assert not reweigh(lone), "there is nothing to compare a lone endpoint with"
