"""Power of two choices and peak EWMA: of two that were drawn, the cheaper."""

import math
import random
from collections import Counter

import pytest

from atomesh.balancer.balancer import Balancer
from atomesh.balancer.candidate import LOAD_NEWS_SECONDS, Candidate, SubchannelState
from atomesh.balancer.ejection import Outcome
from atomesh.balancer.ewma import PeakEwma
from atomesh.balancer.policies.p2c import PowerOfTwoChoices
from atomesh.balancer.policies.peak_ewma import PeakEwmaPolicy
from atomesh.balancer.policies.two_choices import TwoChoices
from atomesh.balancer.waiting import Call
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import AgentFailed
from atomesh.core.updates import Position, Reset, WatchEvent

NOW = 100.0
DECAY = 10.0


def fleet(*slots: int) -> list[Candidate]:
    return [Candidate(Endpoint("a", f"127.0.0.1:{i + 1}", slots=n)) for i, n in enumerate(slots)]


def flat(_: Candidate, __: float) -> float:
    return 0.0


def learnt(policy: PeakEwmaPolicy, candidate: Candidate, seconds: float, now: float = NOW) -> None:
    policy.done(candidate, Outcome.SUCCESS, seconds, now)


@pytest.mark.parametrize("seed", range(20))
def test_the_more_loaded_of_two_is_never_picked(seed: int) -> None:
    rng = random.Random(seed)
    one, other = fleet(10, 4)
    one.in_flight, other.in_flight = rng.randrange(10), rng.randrange(4)
    picked = PowerOfTwoChoices(rng).picker([one, other]).pick(NOW)
    assert picked is not None
    assert picked.load(NOW) == min(one.load(NOW), other.load(NOW))


@pytest.mark.parametrize("seed", range(20))
def test_the_most_loaded_of_many_is_never_picked_since_it_loses_to_any_other(seed: int) -> None:
    rng = random.Random(seed)
    candidates = fleet(*(rng.randint(2, 9) for _ in range(8)))
    candidates[5].in_flight = candidates[5].slots - 1
    picker = PowerOfTwoChoices(rng).picker(candidates)
    assert all(picker.pick(NOW) is not candidates[5] for _ in range(300))


def test_two_different_endpoints_are_drawn_in_proportion_to_their_slots() -> None:
    candidates = fleet(1, 3, 6)
    pairs = TwoChoices(candidates, flat, random.Random(5))
    drawn = [pairs._pair() for _ in range(10_000)]
    assert all(one is not other for one, other in drawn)
    first = Counter(one.slots for one, _ in drawn)
    for slots, share in ((1, 0.1), (3, 0.3), (6, 0.6)):
        assert first[slots] / 10_000 == pytest.approx(share, abs=0.02), "four standard deviations are 0.02"
    after_the_largest = Counter(other.slots for one, other in drawn if one.slots == 6)
    assert after_the_largest[3] / after_the_largest[1] == pytest.approx(3, rel=0.2)


def test_what_others_have_there_counts_while_the_news_is_fresh() -> None:
    busy, idle = fleet(4, 4)
    idle.in_flight = 1
    busy.heard(3, NOW)
    picker = PowerOfTwoChoices(random.Random(1)).picker([busy, idle])
    assert picker.pick(NOW + LOAD_NEWS_SECONDS / 2) is idle
    assert picker.pick(NOW + 2 * LOAD_NEWS_SECONDS) is busy


def test_two_choices_spread_calls_far_more_evenly_than_one() -> None:
    candidates = fleet(*(1_000 for _ in range(100)))
    picker = PowerOfTwoChoices(random.Random(9)).picker(candidates)
    for _ in range(1_000):
        picked = picker.pick(NOW)
        assert picked is not None
        picked.in_flight += 1
    # Mitzenmacher's bound over the mean of 10: log2(ln 100) = 2.2, plus a constant. One choice gives 10 + 10.
    assert max(c.in_flight for c in candidates) <= 10 + 4


def test_an_endpoint_that_has_become_slow_is_left_after_one_slow_answer() -> None:
    policy = PeakEwmaPolicy(random.Random(1))
    slow, fast = fleet(4, 4)
    for candidate in (slow, fast):
        learnt(policy, candidate, 0.1)
    learnt(policy, slow, 2.0, NOW + 1)
    assert policy.cost(slow, NOW + 1) == pytest.approx(2.0), "a peak counts at once and in full"
    picker = policy.picker([slow, fast])
    assert all(picker.pick(NOW + 1) is fast for _ in range(50))


def test_a_peak_is_forgotten_with_its_half_life() -> None:
    pace = PeakEwma(DECAY)
    pace.observe(2.0, NOW)
    half_life = DECAY * math.log(2)
    for halves in range(1, 5):
        assert pace.value(NOW + halves * half_life) == pytest.approx(2.0 / 2**halves)


def test_good_news_is_believed_slowly() -> None:
    pace = PeakEwma(DECAY)
    pace.observe(2.0, NOW)
    pace.observe(0.1, NOW)
    assert pace.value(NOW) == pytest.approx(2.0), "in no time at all it cannot have become better"
    for second in range(1, 41):
        pace.observe(0.1, NOW + second)
    assert 0.1 < pace.value(NOW + 40) < 0.1 + 2.0 * math.exp(-3), "after four decays it has"


def test_a_clock_that_stands_still_or_goes_back_does_no_harm() -> None:
    pace = PeakEwma(DECAY)
    pace.observe(1.0, NOW)
    assert pace.value(NOW - 50) == 1.0


def test_latency_is_weighed_with_what_is_outstanding() -> None:
    policy = PeakEwmaPolicy(random.Random(1))
    near, far = fleet(8, 8)
    learnt(policy, near, 0.1)
    learnt(policy, far, 0.25)
    picker = policy.picker([near, far])
    assert picker.pick(NOW) is near
    near.in_flight = 3
    assert picker.pick(NOW) is far, "0.1 s * 4 is more than 0.25 s * 1"


def test_an_endpoint_nobody_knows_is_tried_with_one_call_first() -> None:
    policy = PeakEwmaPolicy(random.Random(1))
    known, new = fleet(8, 8)
    learnt(policy, known, 5.0)
    picker = policy.picker([known, new])
    assert picker.pick(NOW) is new
    new.in_flight = 1
    assert picker.pick(NOW) is known, "until it has answered, one call is enough"
    learnt(policy, new, 0.1)
    assert picker.pick(NOW) is new


@pytest.mark.parametrize("outcome", [Outcome.AGENT_FAILURE, Outcome.TRANSPORT_FAILURE, Outcome.NEUTRAL])
def test_failing_fast_is_no_speed(outcome: Outcome) -> None:
    policy = PeakEwmaPolicy(random.Random(1))
    broken, well = fleet(8, 8)
    learnt(policy, broken, 0.2)
    learnt(policy, well, 0.1)
    for later in range(300):
        policy.done(broken, outcome, 0.001, NOW + later / 10)
        learnt(policy, well, 0.1, NOW + later / 10)
    assert policy.cost(broken, NOW + 30) > policy.cost(well, NOW + 30), "nor does it earn what silence earns"


def test_an_attempt_given_up_after_long_tells_that_the_endpoint_is_slow() -> None:
    policy = PeakEwmaPolicy(random.Random(1))
    (hanging,) = fleet(8)
    learnt(policy, hanging, 0.1)
    policy.done(hanging, Outcome.NEUTRAL, 3.0, NOW)
    assert policy.cost(hanging, NOW) == pytest.approx(3.0)


def test_a_failure_alone_makes_nothing_known() -> None:
    policy = PeakEwmaPolicy(random.Random(1))
    (new,) = fleet(8)
    policy.done(new, Outcome.TRANSPORT_FAILURE, 0.001, NOW)
    assert new.pace is None


def test_through_the_balancer_a_pick_tells_its_policy_how_long_it_took_and_how_it_ended() -> None:
    balancer = Balancer("a", rng=random.Random(1))
    endpoints = (Endpoint("a", "127.0.0.1:1", slots=4), Endpoint("a", "127.0.0.1:2", slots=4))
    balancer.apply(WatchEvent((Reset(endpoints),), Position("s", 1)), 0.0)
    for each in endpoints:
        balancer.connected(each.address, SubchannelState.READY, 0.0)
    for _ in range(2):  # an endpoint each: one that nobody knows is tried before one that is known
        picked = balancer.submit(Call(1e6, "peak_ewma"), 10.0)
        assert picked is not None
        slow = picked.endpoint.address == "127.0.0.1:1"
        picked.done(12.0 if slow else 10.5)
        picked.done(99.0)
    paces = {a: c.pace.value(10.0) if c.pace else None for a, c in balancer.candidates.items()}
    assert paces == {"127.0.0.1:1": pytest.approx(2.0), "127.0.0.1:2": pytest.approx(0.5)}, "once each"
    failed = balancer.submit(Call(1e6, "peak_ewma"), 20.0)
    assert failed is not None
    assert failed.endpoint.address == "127.0.0.1:2"
    failed.done(20.001, AgentFailed("no"))
    pace = failed.candidate.pace
    assert pace is not None
    assert pace.value(20.001) == pytest.approx(0.5), "an error tells nothing new: what was last known holds"
