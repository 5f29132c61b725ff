"""How many calls are outstanding, and who is served next."""

from __future__ import annotations

from atomesh.balancer.capacity import Capacity
from atomesh.pipelines.batch.window import LOOK_SECONDS, Want, Window, shares


def looked(capacity: Capacity, outstanding: int = 0, window: Window | None = None) -> Window:
    window = window or Window()
    window.look(capacity, outstanding, 0.0)
    return window


def test_a_fleet_that_is_not_known_yet_gets_one_call() -> None:
    assert Window().limit == 1
    assert looked(Capacity()).limit == 1, "it waits for an endpoint, and fails as it must where none comes"


def test_the_window_is_the_slots_and_a_small_reserve() -> None:
    assert looked(Capacity(4, 64, free=64)).limit == 64 + 8
    assert looked(Capacity(1, 1, free=1)).limit == 1 + 2, "one call at least waits for the slot that comes free"


def test_the_window_follows_endpoints_that_join_and_leave() -> None:
    window = looked(Capacity(4, 64, free=64))
    assert looked(Capacity(8, 128, free=64), 72, window).limit == 128 + 16
    assert looked(Capacity(1, 16, free=0, waiting=2), 72, window).limit == 16 + 2


def test_where_others_have_half_of_the_slots_no_more_waits_here_than_the_reserve() -> None:
    window = looked(Capacity(4, 64, free=0, in_flight=32, waiting=40), outstanding=72)
    assert window.limit == 32 + 8, "72 outstanding, 40 of them waiting: 32 are served"
    assert window.throttled, "it may grow again when the others leave"
    grown = looked(Capacity(4, 64, free=32, in_flight=32, waiting=8), 40, window)
    assert grown.limit == 64 + 8
    assert not grown.throttled


def test_work_that_is_short_beside_its_way_has_more_calls_under_way() -> None:
    window = looked(Capacity(1, 16, free=16))
    before = window.reserve
    for _ in range(64):
        window.took(execution=0.001, around=0.0005)
    assert before == 2
    assert window.reserve == 16, "as many as end in two round trips, and never more than slots"
    for _ in range(640):
        window.took(execution=1.0, around=0.0005)
    assert window.reserve == 2


def test_the_capacity_is_looked_at_once_in_a_while() -> None:
    window = looked(Capacity(1, 4, free=4))
    assert not window.due(LOOK_SECONDS / 2)
    assert window.due(LOOK_SECONDS)


def test_where_there_is_room_for_all_everybody_begins_what_it_can() -> None:
    assert shares([Want(4, 1, 100), Want(8, 8, 100), Want(8, 0, 2)], 100) == [3, 0, 2]


def test_a_cap_is_shared_out_by_the_sizes_of_the_windows() -> None:
    assert shares([Want(10, 0, 100), Want(30, 0, 100)], 8) == [2, 6]
    assert shares([Want(10, 10, 100), Want(30, 0, 100)], 8) == [0, 8], "who has its share already waits"
    assert shares([Want(10, 0, 1), Want(10, 0, 100)], 8) == [1, 7], "what one cannot use another gets"
    assert shares([Want(10, 0, 5)], 0) == [0]
