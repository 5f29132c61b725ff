"""Calls that cannot make their deadline are told so at once; nobody is shed while there is room."""

from __future__ import annotations

import random

import pytest

from atomesh.balancer.balancer import Balancer
from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.picks import Pick
from atomesh.balancer.quantiles import LatencyQuantiles
from atomesh.balancer.shedding import MIN_TURNS, Shedding
from atomesh.balancer.waiting import Call
from atomesh.core import Endpoint, Position, Reset, WatchEvent, errors


def known(seconds: float, samples: int = 50) -> LatencyQuantiles:
    latencies = LatencyQuantiles()
    for _ in range(samples):
        latencies.record(seconds, 0.0)
    return latencies


def busy(shedding: Shedding, interval: float, turns: int = 64) -> float:
    now = 0.0
    for _ in range(turns):
        now += interval
        shedding.turn(now, waiting=10)
    return now


def test_a_call_is_shed_whose_turn_would_come_too_late() -> None:
    shedding = Shedding(known(0.05))
    now = busy(shedding, interval=0.1)
    assert shedding.too_late(now + 2.0, ahead=30, now=now) == pytest.approx(3.0, rel=0.1), "30 turns of 0.1 s are 3 s"
    assert shedding.too_late(now + 4.0, ahead=30, now=now) is None


def test_what_the_agent_takes_is_part_of_it() -> None:
    shedding = Shedding(known(1.0))
    now = busy(shedding, interval=0.1)
    assert shedding.too_late(now + 3.5, ahead=30, now=now) is not None, "its turn comes in time, its answer does not"


def test_nothing_is_known_of_the_pace_before_some_turns() -> None:
    shedding = Shedding(known(0.05))
    now = busy(shedding, interval=10.0, turns=MIN_TURNS)
    assert shedding.too_late(now + 0.1, ahead=1000, now=now) is None


def test_an_agent_whose_p95_is_longer_than_any_call_is_given_is_called_all_the_same() -> None:
    shedding = Shedding(known(30.0))
    now = busy(shedding, interval=0.01)
    assert not shedding.hopeless(now + 1.5, given=2.0, now=now), (
        "no more is asked for than half of what a call was given"
    )
    assert shedding.hopeless(now + 0.5, given=2.0, now=now)


def test_while_nobody_else_waits_a_free_slot_is_tried_however_late_it_is() -> None:
    balancer = Balancer("a", rng=random.Random(0))
    balancer.apply(
        WatchEvent((Reset((Endpoint("a", "127.0.0.1:1", instance_id="i", slots=1),)),), Position("s", 1)), 0.0
    )
    balancer.connected("127.0.0.1:1", SubchannelState.READY, 0.0)
    for _ in range(50):
        balancer.latencies.record(1.0, 0.0)
    held = balancer.submit(Call(100.0), 0.0)
    assert held is not None
    late, later = Call(2.0), Call(50.0)
    assert balancer.submit(late, 0.0) is None
    held.done(1.9)
    (assigned,) = balancer.step(1.9)
    assert isinstance(assigned.result, Pick), "0.1 s is too little for most, but nobody else wants the slot"
    assigned.result.done(2.0)
    held = balancer.submit(Call(100.0), 2.0)
    assert held is not None
    late = Call(4.0)
    assert balancer.submit(late, 2.0) is None
    assert balancer.submit(later, 2.0) is None
    held.done(3.9)
    shed, served = balancer.step(3.9)
    assert shed.call is late
    assert isinstance(shed.result, errors.Shed)
    assert "less than it takes" in str(shed.result)
    assert served.call is later
    assert isinstance(served.result, Pick)
    served.result.done(4.0)
