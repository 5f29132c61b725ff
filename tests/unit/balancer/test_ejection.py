"""When an endpoint is left alone, and when it may come back."""

import pytest

from atomesh.balancer.breaker import DEFAULT_BREAKER
from atomesh.balancer.ejection import Ejection, Outcome

CONSECUTIVE, MIN_VOLUME = DEFAULT_BREAKER.transport_failures, DEFAULT_BREAKER.min_volume
WINDOW_SECONDS = DEFAULT_BREAKER.window_seconds
BASE_SECONDS, MAX_SECONDS = DEFAULT_BREAKER.base_seconds, DEFAULT_BREAKER.max_seconds
GOOD, CUT, BAD, FULL = Outcome.SUCCESS, Outcome.TRANSPORT_FAILURE, Outcome.AGENT_FAILURE, Outcome.NEUTRAL


def record(ejection: Ejection, outcome: Outcome, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        ejection.record(outcome, now)


def test_five_connections_lost_in_a_row_eject() -> None:
    ejection = Ejection()
    record(ejection, CUT, CONSECUTIVE - 1)
    assert not ejection.suspicious(CUT, []), "four are not enough"
    record(ejection, CUT, 1)
    assert ejection.suspicious(CUT, [])


def test_one_success_ends_the_row() -> None:
    ejection = Ejection()
    record(ejection, CUT, CONSECUTIVE - 1)
    record(ejection, GOOD, 1)
    record(ejection, CUT, 1)
    assert not ejection.suspicious(CUT, [])


def test_half_of_a_window_with_enough_calls_ejects() -> None:
    ejection = Ejection()
    for _ in range(MIN_VOLUME // 2):
        record(ejection, CUT, 1)
        record(ejection, GOOD, 1)
    assert ejection.suspicious(CUT, [])


def test_an_old_window_is_forgotten() -> None:
    ejection = Ejection()
    for _ in range(MIN_VOLUME // 2):
        record(ejection, CUT, 1)
        record(ejection, GOOD, 1)
    ejection.record(CUT, WINDOW_SECONDS + 1)
    assert not ejection.suspicious(CUT, [])


def test_refusals_for_want_of_slots_are_load_not_failure() -> None:
    ejection = Ejection()
    record(ejection, FULL, 1000)
    assert not ejection.suspicious(FULL, [])


def test_a_poisonous_input_that_fails_everywhere_ejects_nobody() -> None:
    fleet = [Ejection() for _ in range(3)]
    for ejection in fleet:
        record(ejection, BAD, 100)
    assert not any(ejection.suspicious(BAD, fleet) for ejection in fleet)


def test_a_copy_whose_agent_fails_alone_is_ejected() -> None:
    broken, fine = Ejection(), Ejection()
    record(broken, BAD, MIN_VOLUME)
    record(fine, GOOD, MIN_VOLUME)
    assert broken.suspicious(BAD, [broken, fine])
    assert not broken.suspicious(BAD, [broken]), "without siblings there is nothing to stand out from"


def test_ejections_in_a_row_double_up_to_five_minutes() -> None:
    ejection, now, seen = Ejection(), 0.0, []
    for _ in range(8):
        seen.append(ejection.eject(now))
        now += seen[-1]
        assert ejection.tick(now), "over when its time is"
    assert seen[:3] == [BASE_SECONDS, 2 * BASE_SECONDS, 4 * BASE_SECONDS]
    assert seen[-1] == MAX_SECONDS


def test_after_an_ejection_one_success_clears_and_one_failure_ejects_again() -> None:
    ejection = Ejection()
    ejection.eject(0.0)
    assert not ejection.tick(BASE_SECONDS - 0.1)
    assert ejection.tick(BASE_SECONDS)
    assert ejection.probing
    ejection.record(CUT, BASE_SECONDS)
    assert ejection.suspicious(CUT, [])
    ejection.eject(BASE_SECONDS)
    ejection.tick(1e6)
    ejection.record(GOOD, 1e6)
    assert not ejection.probing
    assert ejection.times == 0


@pytest.mark.parametrize(("fleet", "most"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)])
def test_never_more_than_half_of_a_fleet_but_always_one(fleet: int, most: int) -> None:
    assert [DEFAULT_BREAKER.may_eject(already, fleet) for already in range(fleet)] == [n < most for n in range(fleet)]
