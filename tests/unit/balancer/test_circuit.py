"""Circuits: when every endpoint of an agent is left alone, and what calls that fail fast are told then."""

import random

import pytest

from atomesh.balancer.balancer import PATIENCE_SECONDS, Balancer
from atomesh.balancer.breaker import DEFAULT_BREAKER, Breaker
from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.circuit import Circuit
from atomesh.balancer.picks import Pick
from atomesh.balancer.waiting import Call
from atomesh.core import errors
from atomesh.core.endpoint import Endpoint, State
from atomesh.core.updates import Changed, Position, Reset, WatchEvent

READY, LOST = SubchannelState.READY, SubchannelState.TRANSIENT_FAILURE
ALL = Breaker(max_ejected=1)
LATER = 1e6


def balancer(endpoints: int, breaker: Breaker = DEFAULT_BREAKER, *, slots: int = 4) -> Balancer:
    made = Balancer("a", rng=random.Random(0), breaker=breaker)
    told = tuple(Endpoint("a", f"127.0.0.1:{n + 1}", instance_id=f"i{n}", slots=slots) for n in range(endpoints))
    made.apply(WatchEvent((Reset(told),), Position("s", 1)), 0.0)
    for endpoint in told:
        made.connected(endpoint.address, READY, 0.0)
    return made


def eject(of: Balancer, *numbers: int, now: float = 0.0) -> None:
    for n in numbers:
        candidate = of.candidates[f"127.0.0.1:{n}"]
        for _ in range(5):
            Pick(of, candidate).done(now, errors.ConnectionLost())


def circuit(of: Balancer) -> Circuit:
    return of.circuit


def hasty(deadline: float = LATER) -> Call:
    call = Call(deadline)
    call.fail_fast = True
    return call


def refused(of: Balancer, now: float) -> errors.CircuitOpen:
    with pytest.raises(errors.CircuitOpen) as caught:
        of.submit(hasty(), now)
    return caught.value


def probe(of: Balancer, now: float) -> Pick:
    of.step(now)
    pick = of.submit(Call(LATER), now)
    assert pick is not None, "a half-open endpoint takes one call"
    return pick


def test_the_only_endpoint_ejected_is_an_open_circuit_and_fails_fast_with_the_time_of_the_probe() -> None:
    b = balancer(1)
    assert circuit(b) is Circuit.CLOSED
    eject(b, 1)
    assert circuit(b) is Circuit.OPEN
    error = refused(b, 4.0)
    assert error.retry_after == pytest.approx(6.0)
    assert error.executed is False
    assert error.message == (
        "the circuit of a is open: 1 of 1 endpoints are ejected, the next probe is in 6 s; "
        "call again later, or without fail_fast to wait"
    )
    assert b.waiting == 0


def test_other_calls_wait_for_an_open_circuit_as_for_any_endpoint() -> None:
    b = balancer(1)
    eject(b, 1)
    assert b.submit(Call(LATER), 1.0) is None
    assert b.step(1.0) == []
    failed = b.step(1.0 + PATIENCE_SECONDS)[0].result
    assert isinstance(failed, errors.NoEndpoint)


def test_calls_that_fail_fast_and_wait_for_a_slot_are_refused_when_the_circuit_opens() -> None:
    b = balancer(1, slots=5)
    running = [b.submit(Call(LATER), 0.0) for _ in range(5)]
    patient, first, second = Call(LATER), hasty(50.0), hasty()
    for call in (patient, first, second):
        assert b.submit(call, 0.0) is None, "want of a slot is load: it waits"
    for pick in running:
        assert pick is not None
        pick.done(1.0, errors.ConnectionLost())
    assert b.dirty
    assignments = b.step(1.0)
    assert {assignment.call for assignment in assignments} == {first, second}
    assert all(isinstance(assignment.result, errors.CircuitOpen) for assignment in assignments)
    assert b.waiting == 1


def test_half_open_lets_one_call_through_and_refuses_those_that_fail_fast_beside_it() -> None:
    b = balancer(1)
    eject(b, 1)
    b.step(10.0)
    assert circuit(b) is Circuit.HALF_OPEN
    running = b.submit(hasty(), 10.0)
    assert running is not None, "one that fails fast may be the probe"
    error = refused(b, 10.0)
    assert error.retry_after is None, "nobody knows how long the probe takes"
    assert "half-open" in error.message
    running.done(11.0)
    assert circuit(b) is Circuit.CLOSED
    assert b.submit(hasty(), 11.0) is not None


def test_who_waits_has_the_probe_and_one_that_fails_fast_does_not_queue_behind() -> None:
    b = balancer(1)
    eject(b, 1)
    waiting = Call(LATER)
    assert b.submit(waiting, 9.0) is None
    b._tick(10.0)
    assert circuit(b) is Circuit.HALF_OPEN
    refused(b, 10.0)
    assert [assignment.call for assignment in b.step(10.0)] == [waiting]


def test_a_probe_that_fails_opens_the_circuit_for_twice_as_long() -> None:
    b = balancer(1)
    eject(b, 1)
    probe(b, 10.0).done(12.0, errors.ConnectionLost())
    assert circuit(b) is Circuit.OPEN
    assert refused(b, 12.0).retry_after == pytest.approx(20.0)


def test_a_half_open_endpoint_that_is_full_of_others_is_waited_for() -> None:
    b = balancer(1)
    eject(b, 1)
    probe(b, 10.0).done(10.0, errors.NoFreeSlot(retry_after=1.0))
    assert b.submit(hasty(), 10.5) is None, "a refusal is load, no failure"


def test_half_a_fleet_at_most_is_ejected_so_that_a_larger_one_never_opens_by_default() -> None:
    b = balancer(4)
    eject(b, 1, 2, 3, 4)
    assert circuit(b) is Circuit.CLOSED
    assert b.submit(hasty(), 1.0) is not None


def test_with_a_share_of_1_the_whole_fleet_opens_and_nobody_panics() -> None:
    b = balancer(4, ALL)
    eject(b, 1, 2, 3)
    assert circuit(b) is Circuit.CLOSED
    eject(b, 4, now=5.0)
    assert circuit(b) is Circuit.OPEN
    error = refused(b, 6.0)
    assert error.retry_after == pytest.approx(4.0), "the first probe counts"
    assert "4 of 4 endpoints are ejected" in error.message
    assert b.submit(Call(LATER), 6.0) is None, "without panic an ejected endpoint is not used"
    b.withdraw(next(iter(b._waiting)))
    probe(b, 10.0).done(11.0)
    assert circuit(b) is Circuit.CLOSED


def test_in_panic_calls_get_through_and_so_the_circuit_is_closed() -> None:
    b = balancer(2)
    eject(b, 1)
    b.connected("127.0.0.1:2", LOST, 1.0)
    assert circuit(b) is Circuit.CLOSED
    assert b.submit(hasty(), 1.0) is not None


def test_in_panic_over_a_fleet_that_shrank_to_its_ejected_half_nobody_is_refused() -> None:
    b = balancer(4, slots=1)
    eject(b, 1, 2)
    left = tuple(b.candidates[f"127.0.0.1:{n}"].endpoint for n in (1, 2))
    b.apply(WatchEvent((Reset(left),), Position("s", 2)), 1.0)
    assert circuit(b) is Circuit.CLOSED
    for _ in range(2):
        assert b.submit(hasty(), 1.0) is not None
    assert b.submit(hasty(), 1.0) is None, "what it lacks is a slot"


def test_an_endpoint_that_is_only_not_connected_keeps_the_circuit_closed() -> None:
    b = balancer(2, ALL)
    eject(b, 1)
    b.connected("127.0.0.1:2", LOST, 1.0)
    assert circuit(b) is Circuit.CLOSED
    assert b.submit(hasty(), 1.0) is None, "it may be back in a moment"


def test_a_connection_lost_on_top_of_an_ejection_leaves_the_circuit_open() -> None:
    b = balancer(1)
    eject(b, 1)
    b.connected("127.0.0.1:1", LOST, 1.0)
    assert circuit(b) is Circuit.OPEN
    refused(b, 1.0)
    b.step(10.0)
    assert circuit(b) is Circuit.HALF_OPEN
    refused(b, 10.0)
    b.connected("127.0.0.1:1", READY, 11.0)
    assert b.submit(hasty(), 11.0) is not None


def test_an_endpoint_that_drains_holds_no_circuit_closed() -> None:
    b = balancer(2, ALL)
    eject(b, 1)
    leaving = Endpoint("a", "127.0.0.1:2", instance_id="i1", slots=4, state=State.DRAINING)
    b.apply(WatchEvent((Changed(leaving),), Position("s", 2)), 1.0)
    assert circuit(b) is Circuit.OPEN
    b.apply(WatchEvent((Reset((leaving,)),), Position("s", 3)), 1.0)
    assert circuit(b) is Circuit.CLOSED, "nobody has failed: the agent is leaving"


@pytest.mark.parametrize("error", [errors.InvalidInput(), errors.WrongType(), errors.NotFound()])
def test_an_input_that_is_wrong_in_itself_opens_nothing(error: errors.AtomeshError) -> None:
    b = balancer(1, Breaker(agent_failures=1, min_volume=1, sibling_ratio=1))
    for _ in range(50):
        Pick(b, b.candidates["127.0.0.1:1"]).done(0.0, error)
    assert circuit(b) is Circuit.CLOSED


def test_an_agent_that_fails_may_open_its_circuit_where_it_is_set_to() -> None:
    b = balancer(1, Breaker(agent_failures=3))
    for _ in range(3):
        assert circuit(b) is Circuit.CLOSED
        Pick(b, b.candidates["127.0.0.1:1"]).done(0.0, errors.AgentFailed("no"))
    assert circuit(b) is Circuit.OPEN
