"""Workers in virtual time: started, started again, given up, never for ever and never for nothing."""

from __future__ import annotations

import random
import signal

import pytest

from atomesh.cli._supervision import BACKOFF, STARTS, UP_FOR_LONG, Exit, GiveUp, Start, Supervision

CRASH = Exit(-9, "ended by SIGKILL")
WRONG = Exit(2, "there is no module x")
DRAINED = Exit(0, "ended with exit code 0")


class World:
    """Time, and a supervision of so many workers that are all ready unless said otherwise."""

    def __init__(self, workers: int, *, ready: bool = True) -> None:
        self.now = 1_000.0
        self.supervision = Supervision(workers, random.Random(7))
        self.supervision.begin()
        if ready:
            for number in range(1, workers + 1):
                self.supervision.ready(number, self.now)

    def ended(self, worker: int, how: Exit, after: float = 0.0) -> Start | GiveUp | None:
        self.now += after
        return self.supervision.ended(worker, self.now, how)

    def restarted(self, worker: int, how: Exit, after: float = 0.0, *, ready: bool = True) -> Start:
        """It ends `after` so many seconds, is started again after the delay, and is ready."""
        action = self.ended(worker, how, after)
        assert isinstance(action, Start), f"a worker that ended so must be started again: {action}"
        self.now += action.delay
        if ready:
            self.supervision.ready(worker, self.now)
        return action


def test_all_are_started_at_once() -> None:
    assert Supervision(3, random.Random(1)).begin() == [Start(1), Start(2), Start(3)]


def test_the_delay_of_a_worker_that_crashes_again_and_again_doubles_up_to_its_cap() -> None:
    world = World(2)
    delays = [world.restarted(1, CRASH, after=0.1).delay for _ in range(20)]
    for failures, delay in enumerate(delays):
        full = min(BACKOFF.cap, BACKOFF.base * 2**failures)
        assert full / 2 <= delay <= full, "the delay is jittered over the upper half"
    assert delays[-1] >= BACKOFF.cap / 2, "a worker that does serve is never given up, only slow to come back"


def test_two_workers_that_crash_at_once_do_not_come_back_in_step() -> None:
    world = World(2)
    assert world.restarted(1, CRASH).delay != world.restarted(2, CRASH).delay


def test_the_failures_of_one_worker_do_not_slow_another() -> None:
    world = World(2)
    for _ in range(6):
        world.restarted(1, CRASH, after=0.1)
    assert world.restarted(2, CRASH).delay <= BACKOFF.base


@pytest.mark.parametrize(("seconds", "forgotten"), [(UP_FOR_LONG, True), (UP_FOR_LONG - 0.1, False)])
def test_a_worker_that_was_up_for_long_starts_its_story_anew(seconds: float, forgotten: bool) -> None:
    world = World(1)
    for _ in range(8):
        world.restarted(1, CRASH, after=0.1)
    delay = world.restarted(1, CRASH, after=seconds).delay
    assert (delay <= BACKOFF.base) is forgotten


def test_where_no_worker_can_start_the_first_round_tells() -> None:
    world = World(3, ready=False)
    assert isinstance(world.ended(1, WRONG), Start)
    assert isinstance(world.ended(2, WRONG), Start)
    assert world.ended(3, WRONG) == GiveUp(3, WRONG.reason, WRONG.code), "all failed: more of the same is no use"


def test_a_worker_that_fails_twice_before_the_others_have_tried_is_no_proof() -> None:
    world = World(2, ready=False)
    world.restarted(1, WRONG, ready=False)
    assert isinstance(world.ended(1, WRONG), Start)


def test_a_worker_that_never_was_ready_ends_the_command_after_some_starts() -> None:
    world = World(2, ready=False)
    world.supervision.ready(1, world.now)
    starts = [world.restarted(2, WRONG, ready=False) for _ in range(STARTS - 1)]
    assert [start.failed for start in starts] == [1, 2, 3, 4], "who starts it knows that it failed before"
    given_up = world.ended(2, WRONG)
    assert isinstance(given_up, GiveUp)
    assert given_up.code == WRONG.code
    assert "worker 2 of 2 did not start 5 times in a row: there is no module x" in given_up.reason


def test_a_worker_that_did_serve_is_tried_for_as_long_as_a_sibling_serves() -> None:
    world = World(2)
    world.restarted(1, CRASH, ready=False)
    for _ in range(4 * STARTS):
        world.restarted(1, WRONG, ready=False)
    world.supervision.ready(1, world.now)
    assert world.restarted(1, CRASH).failed == 0, "being ready forgives failed starts"


def test_where_nobody_serves_any_more_and_nobody_starts_it_is_given_up() -> None:
    world = World(2)
    for worker in (1, 2):
        world.restarted(worker, CRASH, ready=False)
    for _ in range(STARTS - 1):
        for worker in (1, 2):
            world.restarted(worker, WRONG, ready=False)
    assert isinstance(world.ended(1, WRONG), GiveUp), "who started this command can then see that it failed"


def test_a_worker_that_drained_on_purpose_stays_ended() -> None:
    world = World(2)
    assert world.ended(1, DRAINED) is None
    assert isinstance(world.ended(2, CRASH), Start), "the other is still kept"
    assert world.supervision.exit_code == 0


@pytest.mark.parametrize(
    ("how", "code"),
    [(DRAINED, 0), (CRASH, 1), (Exit(1, "ended with exit code 1"), 1), (Exit(-signal.SIGTERM, "ended by SIGTERM"), 0)],
)
def test_once_told_to_stop_nothing_is_started_and_only_what_drained_ends_well(how: Exit, code: int) -> None:
    world = World(2)
    world.supervision.stop()
    assert world.ended(1, how) is None
    assert world.ended(2, DRAINED) is None
    assert world.supervision.exit_code == code


def test_a_worker_that_is_told_to_stop_before_it_was_ready_has_lost_nothing() -> None:
    world = World(1, ready=False)
    world.supervision.stop()
    assert world.ended(1, WRONG) is None
    assert world.supervision.exit_code == 0


def test_the_same_seed_gives_the_same_delays() -> None:
    assert [World(1).restarted(1, CRASH).delay for _ in range(2)] == [World(1).restarted(1, CRASH).delay] * 2
