"""The balancer's core, in its own time: who gets what, who waits, who is left alone."""

import random

import pytest

from atomesh.balancer.balancer import CARRY_SECONDS, DOUBT_SECONDS, PATIENCE_SECONDS, Balancer
from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.picks import Assignment, Pick
from atomesh.balancer.waiting import Call
from atomesh.core import errors
from atomesh.core.endpoint import Endpoint, State
from atomesh.core.updates import Added, Changed, Position, Removed, Reset, ResetReason, WatchEvent

READY, LOST = SubchannelState.READY, SubchannelState.TRANSIENT_FAILURE
LATER = 1e6


def endpoint(n: int, *, slots: int = 1, state: State = State.SERVING, instance: str = "") -> Endpoint:
    return Endpoint("a", f"127.0.0.1:{n}", instance_id=instance or f"i{n}", slots=slots, state=state)


def event(*updates: Reset | Added | Changed | Removed, store: str = "s", revision: int = 1) -> WatchEvent:
    return WatchEvent(updates, Position(store, revision))


def balancer(*endpoints: Endpoint, connect: bool = True, max_waiting: int = 100) -> Balancer:
    made = Balancer("a", rng=random.Random(0), max_waiting=max_waiting)
    made.apply(event(Reset(endpoints)), 0.0)
    if connect:
        for each in endpoints:
            made.connected(each.address, READY, 0.0)
    return made


def pick(of: Balancer, now: float = 0.0, deadline: float = LATER) -> Pick:
    picked = of.submit(Call(deadline), now)
    assert picked is not None, "an endpoint with a free slot must be picked at once"
    return picked


def waits(of: Balancer, now: float = 0.0, deadline: float = LATER) -> Call:
    call = Call(deadline)
    assert of.submit(call, now) is None, "without a free slot a call must wait"
    return call


def only(assignments: list[Assignment]) -> Assignment:
    assert len(assignments) == 1
    return assignments[0]


def test_a_call_waits_for_the_first_slot_that_is_free() -> None:
    b = balancer(endpoint(1), endpoint(2))
    first, _second = pick(b), pick(b)
    waiting = waits(b, now=1.0)
    first.done(3.0)
    assert b.dirty
    assigned = only(b.step(3.0))
    assert assigned.call is waiting
    assert isinstance(assigned.result, Pick)
    assert assigned.result.endpoint == first.candidate.endpoint
    assert waiting.queue_wait == pytest.approx(2.0)


def test_the_earliest_deadline_goes_first() -> None:
    b = balancer(endpoint(1))
    running = pick(b)
    late, early = waits(b, deadline=100.0), waits(b, deadline=50.0)
    running.done(1.0)
    first = only(b.step(1.0))
    assert first.call is early
    assert isinstance(first.result, Pick)
    first.result.done(2.0)
    assert only(b.step(2.0)).call is late


def test_nobody_overtakes_those_who_wait() -> None:
    b = balancer(endpoint(1))
    running = pick(b)
    first = waits(b)
    running.done(1.0)
    waits(b, now=1.0)
    assert b.step(1.0)[0].call is first


def test_a_waiting_call_fails_at_its_deadline_and_was_not_executed() -> None:
    b = balancer(endpoint(1))
    pick(b)
    call = waits(b, deadline=5.0)
    assert b.next_event(0.0) == 5.0
    assert b.step(4.9) == []
    failed = only(b.step(5.0))
    assert failed.call is call
    assert isinstance(failed.result, errors.DeadlineExceeded)
    assert failed.result.executed is False


def test_a_call_that_is_late_already_is_refused_at_once() -> None:
    with pytest.raises(errors.DeadlineExceeded):
        balancer(endpoint(1)).submit(Call(1.0), 1.0)


def test_the_queue_is_bounded() -> None:
    b = balancer(endpoint(1), max_waiting=2)
    pick(b)
    waits(b)
    waits(b)
    with pytest.raises(errors.QueueFull, match="2 calls already wait"):
        b.submit(Call(LATER), 0.0)


def test_a_withdrawn_call_gets_nothing_and_holds_no_place() -> None:
    b = balancer(endpoint(1), max_waiting=1)
    running = pick(b)
    b.withdraw(waits(b))
    kept = waits(b)
    running.done(1.0)
    assert only(b.step(1.0)).call is kept


def test_withdrawn_calls_do_not_pile_up_behind_one_that_waits() -> None:
    b = balancer(endpoint(1))
    pick(b)
    waits(b, deadline=1.0)
    for _ in range(1_000):
        b.withdraw(waits(b, deadline=2.0))
    assert len(b._waiting._by_deadline) + len(b._waiting._arrivals) < 500


def test_an_agent_that_nobody_registered_is_unknown_at_once() -> None:
    with pytest.raises(errors.UnknownAgent, match="no agent 'a' is registered"):
        balancer().submit(Call(LATER), 0.0)


def test_an_agent_that_is_away_for_a_moment_is_waited_for() -> None:
    b = balancer(endpoint(1))
    b.apply(event(Removed("a", "127.0.0.1:1", "i1")), 1.0)
    call = waits(b, now=1.0)
    b.apply(event(Added(endpoint(2))), 3.0)
    b.connected("127.0.0.1:2", READY, 3.1)
    assert only(b.step(3.1)).call is call


def test_patience_with_no_endpoint_at_all_ends() -> None:
    b = balancer(endpoint(1), connect=False)
    waits(b, now=10.0)
    assert b.next_event(10.0) == 10.0 + PATIENCE_SECONDS
    assert b.step(10.0 + PATIENCE_SECONDS - 0.1) == []
    failed = only(b.step(10.0 + PATIENCE_SECONDS)).result
    assert isinstance(failed, errors.NoEndpoint)
    assert "1 not connected" in failed.message


@pytest.mark.parametrize("state", [State.DRAINING, State.NOT_SERVING])
def test_an_endpoint_that_does_not_serve_is_never_picked(state: State) -> None:
    b = balancer(endpoint(1, state=state), endpoint(2, slots=5))
    assert {pick(b).endpoint.address for _ in range(5)} == {"127.0.0.1:2"}


def test_a_suspect_is_picked_last() -> None:
    b = balancer(endpoint(1, state=State.SUSPECT), endpoint(2))
    assert [pick(b).endpoint.address, pick(b).endpoint.address] == ["127.0.0.1:2", "127.0.0.1:1"]


def test_nothing_is_picked_after_its_removal_was_seen() -> None:
    b = balancer(endpoint(1, slots=9), endpoint(2, slots=9))
    b.apply(event(Removed("a", "127.0.0.1:1", "i1")), 1.0)
    assert {pick(b).endpoint.address for _ in range(9)} == {"127.0.0.1:2"}


def test_a_late_removal_of_an_old_instance_leaves_the_new_one_alone() -> None:
    b = balancer(endpoint(1))
    b.apply(event(Added(endpoint(1, instance="new"))), 1.0)
    b.apply(event(Removed("a", "127.0.0.1:1", "i1")), 2.0)
    assert "127.0.0.1:1" in b.candidates


def test_a_new_instance_begins_with_a_clean_record() -> None:
    b = balancer(endpoint(1))
    pick(b)
    b.apply(event(Added(endpoint(1, instance="new"))), 1.0)
    b.connected("127.0.0.1:1", READY, 1.0)
    assert pick(b, now=1.0).endpoint.instance_id == "new", "what the old instance had in flight is no load of the new"


def test_a_draining_refusal_ends_picks_before_the_watch_tells() -> None:
    b = balancer(endpoint(1, slots=5), endpoint(2, slots=5))
    refused = pick(b)
    refused.done(1.0, errors.Draining())
    assert {pick(b).endpoint.address for _ in range(5)}.isdisjoint({refused.endpoint.address})


def test_a_refusal_for_want_of_a_slot_closes_the_endpoint_for_as_long_as_it_says() -> None:
    b = balancer(endpoint(1, slots=5))
    pick(b).done(1.0, errors.NoFreeSlot(retry_after=0.2))
    call = waits(b, now=1.0)
    assert b.next_event(1.0) == pytest.approx(1.2)
    assert only(b.step(1.21)).call is call


def test_a_slot_of_ones_own_that_comes_free_opens_an_endpoint_that_said_it_is_full() -> None:
    b = balancer(endpoint(1, slots=2))
    mine, refused = pick(b), pick(b)
    refused.done(0.0, errors.NoFreeSlot(retry_after=5.0))
    waiting = waits(b)
    mine.done(0.1)
    assert only(b.step(0.1)).call is waiting, "a free slot must not idle while a call waits for it"


def test_calls_that_wait_are_not_sent_after_those_that_a_connection_cut() -> None:
    b = balancer(endpoint(1))
    cut = pick(b)
    waiting = waits(b)
    cut.done(1.0, errors.ConnectionLost())
    assert b.step(1.0) == [], "the connection's state has not told yet whether it stands"
    assert b.next_event(1.0) == 1.0 + DOUBT_SECONDS
    assert only(b.step(1.0 + DOUBT_SECONDS)).call is waiting


def test_a_new_connection_ends_the_doubt_about_the_last_one() -> None:
    b = balancer(endpoint(1))
    pick(b).done(1.0, errors.ConnectionLost())
    b.connected("127.0.0.1:1", LOST, 1.0)
    b.connected("127.0.0.1:1", READY, 1.01)
    assert pick(b, now=1.01)


def test_a_call_that_came_back_fails_where_it_would_wait_for_itself() -> None:
    b = balancer(endpoint(1), endpoint(2, slots=2))
    for _ in range(3):
        pick(b)
    back = Call(LATER)
    back.returns = True
    with pytest.raises(errors.CallLoop, match="2 endpoints, 3 slots"):
        b.submit(back, 0.0)
    assert b.waiting == 0


def test_a_call_that_came_back_overtakes_those_who_wait_for_what_it_holds() -> None:
    b = balancer(endpoint(1))
    running = pick(b)
    waits(b)
    back = Call(LATER)
    back.returns = True
    running.done(1.0)
    assert b.submit(back, 1.0) is not None


def test_a_call_that_came_back_waits_for_an_endpoint_as_any_other() -> None:
    b = balancer(endpoint(1), connect=False)
    back = Call(LATER)
    back.returns = True
    assert b.submit(back, 0.0) is None
    b.connected("127.0.0.1:1", READY, 1.0)
    assert only(b.step(1.0)).call is back


def test_an_ejected_endpoint_rests_then_gets_one_probe() -> None:
    b = balancer(endpoint(1, slots=9), endpoint(2, slots=9), endpoint(3, slots=9))
    bad = b.candidates["127.0.0.1:1"]
    for _ in range(5):
        Pick(b, bad).done(0.0, errors.ConnectionLost())
    assert bad.ejection.active
    assert "127.0.0.1:1" not in {pick(b).endpoint.address for _ in range(18)}
    call = waits(b, now=1.0)
    over = b.next_event(1.0)
    assert over == 10.0
    probe = only(b.step(over))
    assert probe.call is call
    assert isinstance(probe.result, Pick)
    assert probe.result.candidate is bad
    waits(b, now=over)
    probe.result.done(over + 1)
    assert len(b.step(over + 1)) == 1, "a probe that went well opens all its slots"


def test_never_more_than_half_of_the_fleet_is_ejected() -> None:
    b = balancer(*(endpoint(n, slots=9) for n in range(1, 5)))
    for candidate in b.candidates.values():
        for _ in range(20):
            Pick(b, candidate).done(0.0, errors.ConnectionLost())
    assert sum(c.ejection.active for c in b.candidates.values()) == 2


def test_in_panic_an_outlier_is_better_than_nobody() -> None:
    b = balancer(endpoint(1, slots=9), endpoint(2, slots=9))
    for _ in range(5):
        Pick(b, b.candidates["127.0.0.1:1"]).done(0.0, errors.ConnectionLost())
    b.connected("127.0.0.1:2", LOST, 1.0)
    assert pick(b, now=1.0).endpoint.address == "127.0.0.1:1"


def test_an_agent_whose_only_endpoint_is_ejected_is_an_open_circuit() -> None:
    b = balancer(endpoint(1, slots=9))
    for _ in range(5):
        Pick(b, b.candidates["127.0.0.1:1"]).done(0.0, errors.ConnectionLost())
    waits(b, now=1.0)
    failed = only(b.step(1.0 + PATIENCE_SECONDS)).result
    assert isinstance(failed, errors.NoEndpoint)
    assert "1 ejected" in failed.message


def test_a_new_empty_registry_does_not_empty_a_fleet_that_answers() -> None:
    b = balancer(endpoint(1, slots=9), endpoint(2, slots=9))
    b.connected("127.0.0.1:2", LOST, 1.0)
    b.apply(event(Reset((), ResetReason.FOREIGN_POSITION), store="other"), 10.0)
    assert set(b.candidates) == {"127.0.0.1:1"}, "what answers lives on, what does not is gone"
    assert pick(b, now=10.0).endpoint.address == "127.0.0.1:1"
    b.apply(event(Added(endpoint(1)), store="other", revision=2), 12.0)
    b.step(10.0 + CARRY_SECONDS + 1)
    assert set(b.candidates) == {"127.0.0.1:1"}, "it registered again in time"


def test_what_does_not_register_again_with_a_new_registry_goes() -> None:
    b = balancer(endpoint(1))
    b.apply(event(Reset((), ResetReason.FOREIGN_POSITION), store="other"), 10.0)
    assert b.next_event(10.0) == 10.0 + CARRY_SECONDS
    b.step(10.0 + CARRY_SECONDS)
    assert not b.candidates


def test_a_reset_of_the_same_store_is_believed_at_once() -> None:
    b = balancer(endpoint(1), endpoint(2))
    b.apply(event(Reset((endpoint(2),), ResetReason.COMPACTED)), 1.0)
    assert set(b.candidates) == {"127.0.0.1:2"}


def test_done_counts_once() -> None:
    b = balancer(endpoint(1))
    picked = pick(b)
    picked.done(1.0)
    picked.done(1.0)
    assert picked.candidate.in_flight == 0


def chaos_step(b: Balancer, rng: random.Random, now: float, held: list[Pick], queue: set[Call]) -> None:
    """One random thing happens."""
    what = rng.random()
    address = f"127.0.0.1:{rng.randint(1, 4)}"
    if what < 0.45:
        call = Call(now + rng.uniform(0.1, 20.0), rng.choice(["round_robin", "least_connections"]))
        try:
            picked = b.submit(call, now)
        except (errors.QueueFull, errors.Shed):
            return
        if picked is None:
            queue.add(call)
        else:
            held.append(picked)
    elif what < 0.8 and held:
        error = rng.choice([None, None, None, errors.ConnectionLost(), errors.NoFreeSlot(), errors.AgentCrashed()])
        held.pop(rng.randrange(len(held))).done(now, error)
    elif what < 0.85:
        b.connected(address, rng.choice([READY, READY, LOST]), now)
    elif what < 0.9:
        b.apply(event(Added(endpoint(int(address[-1]), slots=rng.randint(1, 4)))), now)
        b.connected(address, READY, now)
    elif what < 0.93:
        b.apply(event(Removed("a", address, f"i{address[-1]}")), now)
    elif queue and what < 0.96:
        b.withdraw(gone := rng.choice(sorted(queue, key=lambda c: c.deadline)))
        queue.discard(gone)


@pytest.mark.parametrize("seed", range(30))
def test_in_any_order_of_events_every_call_ends_once_and_no_slot_is_lost(seed: int) -> None:
    rng, now = random.Random(seed), 0.0
    b = balancer(endpoint(1, slots=2), endpoint(2, slots=3))
    held: list[Pick] = []
    queue: set[Call] = set()
    for _ in range(1_500):
        now += rng.expovariate(20)
        chaos_step(b, rng, now, held, queue)
        for assigned in b.step(now):
            assert assigned.call in queue, "a call must be assigned once, and only if it waits"
            queue.discard(assigned.call)
            if isinstance(assigned.result, Pick):
                held.append(assigned.result)
        assert b.waiting == len(queue)
        assert all(call.deadline > now for call in queue), "no call may wait past its deadline"
        due = b.next_event(now)
        assert due is None or due > now - 1e-9, "what is due must have happened"
    for picked in held:
        picked.done(now)
    assert all(c.in_flight == 0 for c in b.candidates.values())


def test_who_waits_longest_gives_up_first_whatever_its_deadline() -> None:
    b = balancer(endpoint(1), connect=False)
    late, early = waits(b, now=10.0, deadline=1000.0), waits(b, now=12.0, deadline=50.0)
    assert b.next_event(12.0) == 10.0 + PATIENCE_SECONDS
    assert only(b.step(10.0 + PATIENCE_SECONDS)).call is late
    assert only(b.step(12.0 + PATIENCE_SECONDS)).call is early


def test_ten_thousand_stranded_calls_cost_no_scan_each() -> None:
    b = balancer(endpoint(1), connect=False, max_waiting=10_000)
    looked = 0
    original = b._gives_up_at

    def counted(call: Call) -> float:
        nonlocal looked
        looked += 1
        return original(call)

    b._gives_up_at = counted  # type: ignore[method-assign] # counts looks, not seconds
    for n in range(10_000):
        waits(b, now=n / 1e6)
        b.next_event(n / 1e6)
    assert looked <= 20_000, "setting the timer must not look at every waiting call"
    assert len(b.step(PATIENCE_SECONDS + 1)) == 10_000
