"""Deadlines: told once, in order, and what ended early costs nothing for long."""

import random

from atomesh.rpc.mux.deadlines import Deadlines


def test_each_is_told_once_in_order_and_not_before_its_time() -> None:
    alive = {1, 2, 3}
    deadlines = Deadlines(alive)
    for id, at in ((1, 3.0), (2, 1.0), (3, 2.0)):
        deadlines.add(at, id)
    assert deadlines.first() == 1.0
    assert deadlines.due(0.999) == []
    assert deadlines.due(2.0) == [2, 3], "a deadline has come when it is now"
    assert deadlines.due(2.0) == [], "once is enough"
    assert deadlines.due(9.0) == [1]
    assert deadlines.first() is None


def test_what_ended_early_is_not_told() -> None:
    alive = {1, 2}
    deadlines = Deadlines(alive)
    deadlines.add(1.0, 1)
    deadlines.add(2.0, 2)
    alive.discard(1)
    assert deadlines.first() == 2.0
    assert deadlines.due(5.0) == [2]


def test_calls_that_end_early_leave_no_memory_behind() -> None:
    alive: set[int] = set()
    deadlines = Deadlines(alive)
    alive.add(0)
    deadlines.add(1e9, 0)
    for id in range(1, 100_000):
        alive.add(id)
        deadlines.add(1e6 + id, id)
        alive.discard(id)
    assert len(deadlines._heap) < 1024, "the heap must forget who ended, though nobody's time has come"
    assert deadlines.due(2e9) == [0], "and nobody who lives"


def test_a_sweep_forgets_nobody_who_lives() -> None:
    rng = random.Random(1)
    alive: set[int] = set()
    deadlines = Deadlines(alive)
    times = {}
    for id in range(5000):
        times[id] = rng.random()
        alive.add(id)
        deadlines.add(times[id], id)
        if rng.random() < 0.7:
            alive.discard(rng.randint(0, id))
    assert deadlines.due(1.0) == sorted(alive, key=lambda id: (times[id], id))
