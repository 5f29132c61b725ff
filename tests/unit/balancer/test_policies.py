"""Each policy chooses as its name says, and only what has a slot free."""

import random
from collections import Counter

import pytest

from atomesh.balancer.candidate import LOAD_NEWS_SECONDS, Candidate
from atomesh.balancer.policies import DEFAULT_POLICY, POLICIES, check_policy
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import InvalidArgument

NOW = 100.0


def fleet(*slots: int) -> list[Candidate]:
    return [Candidate(Endpoint("a", f"127.0.0.1:{i + 1}", slots=n)) for i, n in enumerate(slots)]


@pytest.mark.parametrize("policy", POLICIES)
def test_no_endpoints_no_pick(policy: str) -> None:
    assert POLICIES[policy](random.Random(1)).picker([]).pick(NOW) is None


@pytest.mark.parametrize("policy", POLICIES)
def test_a_full_endpoint_is_passed_over(policy: str) -> None:
    full, free = fleet(1, 1)
    full.in_flight = 1
    picker = POLICIES[policy](random.Random(1)).picker([full, free])
    assert all(picker.pick(NOW) is free for _ in range(5))
    free.in_flight = 1
    assert picker.pick(NOW) is None


@pytest.mark.parametrize("policy", POLICIES)
def test_an_endpoint_that_said_it_is_full_is_left_alone_until_then(policy: str) -> None:
    (only,) = fleet(4)
    only.shut_until = NOW + 1
    picker = POLICIES[policy](random.Random(1)).picker([only])
    assert picker.pick(NOW) is None
    assert picker.pick(NOW + 1.001) is only


@pytest.mark.parametrize("policy", POLICIES)
def test_what_refused_a_call_is_not_asked_for_it_again(policy: str) -> None:
    a, b, c = fleet(4, 4, 4)
    picker = POLICIES[policy](random.Random(1)).picker([a, b, c])
    assert picker.pick(NOW, (a, b)) is c
    assert picker.pick(NOW, (a, b, c)) is None


@pytest.mark.parametrize("policy", POLICIES)
def test_a_half_open_endpoint_gets_one_call_at_a_time(policy: str) -> None:
    (only,) = fleet(4)
    only.ejection.eject(0.0)
    only.ejection.tick(1e9)
    picker = POLICIES[policy](random.Random(1)).picker([only])
    assert picker.pick(NOW) is only
    only.in_flight = 1
    assert picker.pick(NOW) is None, "one probe is enough"


@pytest.mark.parametrize("policy", POLICIES)
def test_idle_equals_share_the_calls(policy: str) -> None:
    candidates = fleet(4, 4, 4)
    picker = POLICIES[policy](random.Random(1)).picker(candidates)
    drawn = policy in ("random", "p2c", "peak_ewma")
    assert {id(picker.pick(NOW)) for _ in range(100 if drawn else 3)} == {id(c) for c in candidates}


@pytest.mark.parametrize("policy", POLICIES)
def test_clients_do_not_all_begin_with_the_same_endpoint(policy: str) -> None:
    candidates = fleet(4, 4, 4, 4)
    first = {id(POLICIES[policy](random.Random(seed)).picker(candidates).pick(NOW)) for seed in range(40)}
    assert len(first) == 4, "where clients begin must differ from client to client"


@pytest.mark.parametrize("policy", POLICIES)
def test_one_seed_makes_the_same_picks(policy: str) -> None:
    def picks() -> list[str]:
        rng = random.Random(7)
        picker = POLICIES[policy](rng).picker(fleet(1, 2, 3, 4))
        made = []
        for step in range(200):
            picked = picker.pick(NOW + step, key=str(step % 7))
            assert picked is not None
            picked.in_flight = (picked.in_flight + 1) % picked.slots
            made.append(picked.endpoint.address)
        return made

    assert picks() == picks()


def test_random_gives_each_the_same_chance_also_when_most_are_full() -> None:
    candidates = fleet(*(1 for _ in range(32)))
    for full in candidates[3:]:
        full.in_flight = 1
    picker = POLICIES["random"](random.Random(3)).picker(candidates)
    counts = Counter(id(picker.pick(NOW)) for _ in range(3_000))
    assert len(counts) == 3
    assert min(counts.values()) > 900, "three are free, a third each (sd 26)"


def test_weighted_least_outstanding_fills_in_proportion_to_slots() -> None:
    small, large = fleet(2, 8)
    picker = POLICIES["weighted_least_outstanding"](random.Random(1)).picker([small, large])
    for _ in range(5):
        picked = picker.pick(NOW)
        assert picked is not None
        picked.in_flight += 1
    assert (small.in_flight, large.in_flight) == (1, 4)


def test_weighted_least_outstanding_believes_fresh_news_of_others_and_forgets_old() -> None:
    busy, idle = fleet(4, 4)
    idle.in_flight = 1
    busy.heard(3, NOW)
    picker = POLICIES["weighted_least_outstanding"](random.Random(1)).picker([busy, idle])
    assert picker.pick(NOW + LOAD_NEWS_SECONDS / 2) is idle
    assert picker.pick(NOW + 2 * LOAD_NEWS_SECONDS) is busy


def test_least_connections_ignores_slots() -> None:
    small, large = fleet(2, 100)
    large.in_flight = 2
    small.in_flight = 1
    assert POLICIES["least_connections"](random.Random(1)).picker([small, large]).pick(NOW) is small


def test_round_robin_keeps_its_turn_over_a_new_snapshot() -> None:
    candidates = fleet(4, 4, 4)
    policy = POLICIES["round_robin"](random.Random(1))
    first = policy.picker(candidates).pick(NOW)
    assert policy.picker(candidates).pick(NOW) is not first


def test_an_unknown_policy_is_refused_by_name_with_the_nearest() -> None:
    with pytest.raises(InvalidArgument, match=r"no policy 'round_robbin'.*did you mean round_robin\?"):
        check_policy("round_robbin")
    assert check_policy(DEFAULT_POLICY) == DEFAULT_POLICY


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(5))
def test_no_policy_ever_overfills_an_endpoint(policy: str, seed: int) -> None:
    rng = random.Random(seed)
    candidates = fleet(*(rng.randint(1, 6) for _ in range(rng.randint(1, 8))))
    picker = POLICIES[policy](random.Random(1)).picker(candidates)
    for step in range(2_000):
        if rng.random() < 0.6:
            picked = picker.pick(NOW + step / 1000)
            if picked is None:
                assert all(c.in_flight >= c.slots for c in candidates), "None only where nobody has a slot free"
                continue
            picked.in_flight += 1
            assert picked.in_flight <= picked.slots
        elif busy := [c for c in candidates if c.in_flight]:
            rng.choice(busy).in_flight -= 1


@pytest.mark.parametrize("seed", range(30))
def test_late_binding_takes_the_heaviest_then_the_freest_of_those_that_take_a_call(seed: int) -> None:
    rng = random.Random(seed)
    candidates = fleet(*(rng.randint(1, 6) for _ in range(6)))
    for candidate in candidates:
        candidate.in_flight = rng.randint(0, candidate.slots)
        candidate.weight = rng.choice([1.0, 1.0, 2.0])
        candidate.shut_until = rng.choice([0.0, 0.0, NOW + 1])
        candidate.heard(rng.randint(0, 6), NOW - rng.choice([0.0, 1.0]))
    tried = rng.sample(candidates, rng.randint(0, 2))
    fresh = NOW - LOAD_NEWS_SECONDS
    open_ = [c for c in candidates if c.takes(NOW) and c.free(fresh) > 0 and c not in tried]
    picked = POLICIES["late_binding"](rng).picker(candidates).pick(NOW, tried)
    if picked is None:
        assert not open_
    else:
        assert picked in open_
        rank = max((c.weight, c.free(fresh) / c.slots) for c in open_)
        assert (picked.weight, picked.free(fresh) / picked.slots) == rank
