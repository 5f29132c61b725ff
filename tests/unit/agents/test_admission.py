"""Slots are strict, the queue is short and fair, and nothing is ever lost: in virtual time, from seeds."""

import heapq
import itertools
import random
from dataclasses import dataclass, field
from functools import partial

import pytest

from atomesh.agents.admission import PATIENCE, QUEUE, Admission, Asking, Place, Waiter
from atomesh.core.context import MAX_HOPS
from atomesh.core.errors import AtomeshError, CallLoop, CallTooDeep, DeadlineExceeded, Draining, NoFreeSlot


def admission(slots: int = 2, seed: int = 1) -> Admission:
    return Admission("summer", slots, rng=random.Random(seed))


def asking(deadline: float = 100.0, *, via: tuple[str, ...] = (), no_wait: bool = False) -> Asking:
    return Asking(deadline, via, no_wait)


def full(slots: int = 2) -> Admission:
    taken = admission(slots)
    for _ in range(slots):
        assert taken.try_enter()
    return taken


def queued(taken: Admission, deadline: float = 100.0, now: float = 0.0) -> Waiter:
    waiter = taken.ask(asking(deadline), now)
    assert isinstance(waiter, Waiter)
    return waiter


def wakes(*waiters: Waiter, into: list[Waiter] | None = None) -> list[Waiter]:
    """Those of them that are woken, in order."""
    woken: list[Waiter] = [] if into is None else into
    for waiter in waiters:
        waiter.wake = partial(woken.append, waiter)
    return woken


def test_no_more_than_its_slots_run_at_once() -> None:
    taken = full(2)
    assert not taken.try_enter(), "a third call must not get one of two slots"
    assert taken.in_flight == 2


def test_a_caller_that_does_not_wait_is_refused_at_once_and_unexecuted() -> None:
    refusal = full().ask(asking(no_wait=True), 0.0)
    assert isinstance(refusal, NoFreeSlot)
    assert refusal.executed is False, "a refusal must say that nothing was executed"


def test_a_stock_caller_waits_for_a_slot_and_gets_the_first_that_comes_free() -> None:
    taken = full()
    waiter = queued(taken)
    woken = wakes(waiter)
    taken.leave(0.1, 0.1)
    assert woken == [waiter], "who is granted a slot must be woken"
    assert waiter.place is Place.GRANTED
    assert taken.in_flight == 2, "a slot that is handed on stays taken"


def test_the_earliest_deadline_goes_first_and_equal_ones_in_their_order() -> None:
    taken = full(3)
    late, early, same = queued(taken, 50), queued(taken, 10), queued(taken, 50)
    woken = wakes(late, early, same)
    for _ in range(3):
        taken.leave(0.1, 0.5)
    assert woken == [early, late, same]


def test_the_queue_is_bounded() -> None:
    taken = full(2)
    for _ in range(QUEUE):
        queued(taken)
    refusal = taken.ask(asking(), 0.0)
    assert isinstance(refusal, NoFreeSlot)
    assert f"{QUEUE} calls wait already" in refusal.message


def refused_at(load: float, queue: int, calls: int = 20_000) -> int:
    """How many of so many calls four slots refuse: Poisson arrivals, exponential work, 50 ms in the mean."""
    rng = random.Random(3)
    taken = Admission("summer", 4, rng=rng, queue=queue)
    running: list[float] = []
    woken: list[Waiter] = []
    now, refused = 0.0, 0

    def until(then: float) -> None:
        while running and running[0] <= then:
            end = heapq.heappop(running)
            woken.clear()
            taken.leave(0.05, end)
            for _ in woken:
                heapq.heappush(running, end + rng.expovariate(20))

    for _ in range(calls):
        now += rng.expovariate(load * 4 * 20)
        until(now)
        decision = taken.ask(asking(now + 30), now)
        if decision is None:
            heapq.heappush(running, now + rng.expovariate(20))
        elif isinstance(decision, Waiter):
            wakes(decision, into=woken)
        refused += isinstance(decision, AtomeshError)
    return refused


def test_at_0_7_load_over_four_slots_the_queue_refuses_nobody() -> None:
    assert refused_at(0.7, QUEUE) == 0
    assert 0.02 < refused_at(0.7, 4) / 20_000 < 0.05, "a queue as long as the slots would lose 3 %"
    assert 0.13 < refused_at(0.7, 0) / 20_000 < 0.22, "and none at all 18 % (Erlang B)"


def test_who_has_waited_a_second_is_refused() -> None:
    taken = full()
    waiter = queued(taken, now=5.0)
    assert waiter.until == 5.0 + PATIENCE
    assert isinstance(taken.give_up(waiter, waiter.until), NoFreeSlot)
    assert taken.queued == 0


def test_whose_deadline_passes_while_waiting_is_told_so_and_was_not_executed() -> None:
    taken = full()
    waiter = queued(taken, deadline=0.3)
    refusal = taken.give_up(waiter, 0.3)
    assert isinstance(refusal, DeadlineExceeded)
    assert refusal.executed is False


def test_a_slot_is_not_given_to_a_call_whose_deadline_has_passed() -> None:
    taken = full()
    waiter = queued(taken, deadline=0.3)
    taken.leave(0.4, 0.4)
    assert waiter.place is Place.QUEUED
    assert taken.in_flight == 1
    assert isinstance(taken.give_up(waiter, 0.4), DeadlineExceeded), "it must still be told"


def test_a_call_that_arrives_after_its_deadline_is_refused_even_where_a_slot_is_free() -> None:
    refusal = admission().ask(asking(deadline=1.0), 1.0)
    assert isinstance(refusal, DeadlineExceeded)
    assert refusal.executed is False


def test_a_grant_in_the_last_moment_counts() -> None:
    taken = full()
    waiter = queued(taken)
    taken.leave(0.1, PATIENCE)
    assert taken.give_up(waiter, PATIENCE) is None, "who was granted a slot is not refused"


def test_a_caller_that_leaves_the_queue_frees_its_place() -> None:
    taken = full(1)
    waiter = queued(taken)
    taken.withdraw(waiter, 0.1)
    assert taken.queued == 0
    taken.leave(0.2, 0.2)
    assert waiter.place is Place.GONE
    assert taken.in_flight == 0


def test_a_slot_granted_to_a_caller_that_just_left_goes_to_the_next() -> None:
    taken = full(2)
    first, second = queued(taken, 10), queued(taken, 20)
    woken = wakes(first, second)
    taken.leave(0.1, 0.1)
    assert woken == [first]
    taken.withdraw(first, 0.1)
    assert woken == [first, second]
    assert second.place is Place.GRANTED
    assert taken.in_flight == 2


def test_a_call_that_came_back_to_a_full_agent_is_refused_and_not_left_to_wait_for_itself() -> None:
    refusal = full().ask(asking(via=("summer", "other")), 0.0)
    assert isinstance(refusal, CallLoop)
    assert refusal.executed is False


def test_a_call_that_came_back_runs_while_a_slot_is_free() -> None:
    assert admission().ask(asking(via=("summer", "other")), 0.0) is None


def test_a_call_through_too_many_agents_is_refused_even_where_a_slot_is_free() -> None:
    assert admission().ask(asking(via=("a",) * MAX_HOPS), 0.0) is None
    assert isinstance(admission().ask(asking(via=("a",) * (MAX_HOPS + 1)), 0.0), CallTooDeep)


def test_a_draining_agent_takes_nothing_new_but_lets_who_waits_in() -> None:
    taken = full(1)
    waiter = queued(taken)
    taken.draining = True
    assert not taken.try_enter()
    assert isinstance(taken.ask(asking(), 0.0), Draining)
    taken.leave(0.1, 0.1)
    assert waiter.place is Place.GRANTED, "a call that was let in to wait is work of ours: a drain finishes it"


def test_the_hint_when_to_come_again_follows_the_observed_executions_and_never_is_in_step() -> None:
    taken = admission(2)
    for _ in range(100):
        taken.try_enter()
        taken.leave(3.0, 1.0)
    taken.try_enter(), taken.try_enter()
    hints = []
    for _ in range(50):
        refusal = taken.ask(asking(no_wait=True), 0.0)
        assert isinstance(refusal, NoFreeSlot)
        assert refusal.retry_after is not None
        hints.append(refusal.retry_after)
    assert all(0.75 <= hint <= 2.25 for hint in hints), "3 s over 2 slots, half jittered either way"
    assert len(set(hints)) > 40, "those refused together must not come back together"


def test_load_counts_what_ended_what_failed_and_what_was_refused() -> None:
    taken = full(2)
    taken.ask(asking(no_wait=True), 0.0)
    taken.leave(1.5, 1.5)
    taken.leave(0.5, 2.0, failed=True)
    load = taken.load()
    assert (load.slots, load.in_flight, load.executions, load.failures, load.refusals) == (2, 0, 2, 1, 1)
    assert load.busy == 2.0


def test_a_call_that_came_to_no_execution_gives_its_slot_back_uncounted() -> None:
    taken = admission(1)
    taken.try_enter()
    taken.leave(None, 0.0)
    assert taken.load().executions == 0
    assert taken.in_flight == 0


def test_callers_that_come_and_go_leave_nothing_in_the_queue() -> None:
    taken = full(1)
    for turn in range(1000):
        taken.withdraw(queued(taken, deadline=1e9), float(turn))
    assert len(taken._heap) <= 2 * QUEUE + 9, "what left must not be kept until a slot comes free"


@dataclass(order=True)
class Event:
    at: float
    order: int
    kind: str = field(compare=False)
    waiter: Waiter | None = field(compare=False, default=None)


class World:
    """An agent's slots under random calls, in virtual time; checks every decision as it is made."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.slots = self.rng.randint(1, 6)
        self.queue = self.rng.randint(0, 6)
        self.taken = Admission("summer", self.slots, rng=self.rng, queue=self.queue)
        self.events: list[Event] = []
        self.order = itertools.count()
        self.running = 0
        self.waiting: list[Waiter] = []
        self.woken: list[Waiter] = []
        self.counts = dict.fromkeys(("granted", "refused", "gone", "arrived"), 0)

    def at(self, when: float, kind: str, waiter: Waiter | None = None) -> None:
        heapq.heappush(self.events, Event(when, next(self.order), kind, waiter))

    def run(self, calls: int) -> None:
        now = 0.0
        for _ in range(calls):
            now += self.rng.expovariate(self.slots * 1.5)
            self.at(now, "arrive")
        while self.events:
            event = heapq.heappop(self.events)
            getattr(self, event.kind)(event.at, event.waiter)
            assert self.taken.in_flight == self.running, "every slot must be held by exactly one execution"
            assert self.running <= self.slots, "never more than slots at once"
            assert self.taken.queued == len(self.waiting) <= self.queue
        assert self.running == 0 == self.taken.in_flight
        assert self.counts["arrived"] == sum(self.counts[end] for end in ("granted", "refused", "gone"))

    def arrive(self, now: float, _: Waiter | None) -> None:
        self.counts["arrived"] += 1
        deadline = now + self.rng.choice((0.05, 0.5, 2.0, 30.0))
        decision = self.taken.ask(asking(deadline, no_wait=self.rng.random() < 0.2), now)
        if decision is None:
            self.begin(now)
        elif isinstance(decision, Waiter):
            self.waiting.append(decision)
            wakes(decision, into=self.woken)
            self.at(decision.until, "give_up", decision)
            if self.rng.random() < 0.3:
                self.at(now + self.rng.random(), "withdraw", decision)
        else:
            assert decision.executed is False
            self.counts["refused"] += 1

    def begin(self, now: float) -> None:
        self.running += 1
        self.counts["granted"] += 1
        self.at(now + self.rng.choice((0.001, 0.1, 1.0, 3.0)) * self.rng.random(), "end")

    def end(self, now: float, _: Waiter | None) -> None:
        self.running -= 1
        self.taken.leave(0.1, now)
        self.hand_on(now)

    def hand_on(self, now: float) -> None:
        woken = self.woken[:]
        self.woken.clear()
        assert len(woken) <= 1, "one slot is for one waiter"
        waiter = woken[0] if woken else None
        able = [w.deadline for w in self.waiting if w.deadline > now]
        if waiter is None:
            assert not able, "a slot must not go idle while somebody waits who can use it"
            return
        assert waiter.deadline == min(able), "the earliest deadline goes first"
        self.waiting.remove(waiter)
        self.begin(now)

    def give_up(self, now: float, waiter: Waiter | None) -> None:
        assert waiter is not None
        if waiter.place is not Place.QUEUED:
            assert self.taken.give_up(waiter, now) is None
            return
        assert isinstance(self.taken.give_up(waiter, now), AtomeshError)
        assert now - waiter.since <= PATIENCE + 1e-9, "nobody waits for longer than the patience"
        self.waiting.remove(waiter)
        self.counts["refused"] += 1

    def withdraw(self, now: float, waiter: Waiter | None) -> None:
        assert waiter is not None
        if waiter.place is Place.QUEUED:
            self.waiting.remove(waiter)
            self.counts["gone"] += 1
            self.taken.withdraw(waiter, now)
            assert not self.woken, "who only waited leaves no slot"


@pytest.mark.parametrize("seed", range(40))
def test_whatever_comes_slots_balance_queues_stay_short_and_deadlines_decide(seed: int) -> None:
    world = World(seed)
    world.run(400)
    assert world.counts["granted"] > 50


def test_one_seed_is_one_world() -> None:
    first, second = World(7), World(7)
    first.run(300)
    second.run(300)
    assert first.counts == second.counts
