"""Grants that lapse: once is forgiven, again and again is not, and one that is lost costs its own slot only."""

from __future__ import annotations

import random

import pytest

from atomesh.agents.admission import Admission
from atomesh.rpc.mux.slots import GRANT_SECONDS, MUTE_SECONDS, Claim


def admission(slots: int = 1) -> Admission:
    return Admission("agent", slots, rng=random.Random(1))


def lapse(slots: Admission, claim: Claim, now: float) -> float:
    """Has the mux demand a slot and not use it; when that has lapsed."""
    slots.heard(claim, now)
    slots.demand(claim, 1, now)
    assert slots.taken == 1, "who demands a free slot gets it"
    now += GRANT_SECONDS
    slots.tick(now)
    assert (slots.taken, claim.mute) == (0, True)
    return now


def test_a_mux_that_uses_no_grant_is_mute_for_longer_each_time_and_one_that_comes_back_forgives_it() -> None:
    slots, claim, now = admission(), Claim(), 0.0
    mute: list[float] = []
    for _ in range(9):
        now = lapsed = lapse(slots, claim, now)
        while claim.mute:
            slots.heard(claim, now)  # it sends frame after frame
            now += 0.125
        mute.append(now - 0.125 - lapsed)
    assert mute[0] == 0, "a client that hung once is heard at once"
    assert mute[1:5] == pytest.approx([0.5, 1, 2, 4])
    assert mute[5:] == pytest.approx([MUTE_SECONDS] * 4), "never for longer"
    slots.give_back(claim, 1, now)
    assert lapse(slots, claim, now) == pytest.approx(now + GRANT_SECONDS)
    slots.heard(claim, now + GRANT_SECONDS)
    assert not claim.mute, "late is better than never"


def test_a_grant_that_was_lost_on_its_way_does_not_make_every_later_one_lapse() -> None:
    slots, claim = admission(), Claim()
    now = lapse(slots, claim, 0.0)
    for _ in range(3):
        slots.heard(claim, now)
        slots.demand(claim, 1, now)
        assert slots.enter(claim, True, now), "a grant that is used in time has its slot"
        assert slots.taken == 1, "and no other"
        slots.leave(0.01, now)
        assert slots.taken == 0
