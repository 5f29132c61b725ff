"""What a fleet could take now, and who is told when that changes; calls for a version range."""

import random

import pytest

from atomesh.balancer.balancer import Balancer
from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.capacity import Capacity
from atomesh.balancer.filters import Filters
from atomesh.balancer.metrics import AgentSeries, ClientMetrics
from atomesh.balancer.picks import MuxView, Pick
from atomesh.balancer.waiting import Call
from atomesh.core import errors
from atomesh.core.endpoint import Endpoint, State
from atomesh.core.updates import Changed, Position, Removed, Reset, WatchEvent

READY, LOST = SubchannelState.READY, SubchannelState.TRANSIENT_FAILURE
LATER = 1e6
A, B, C = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"


def endpoint(address: str, slots: int = 4, version: str = "1.0.0", state: State = State.SERVING) -> Endpoint:
    return Endpoint("a", address, instance_id=f"i{address}", slots=slots, version=version, state=state)


class Told:
    """Counts what an observer is told."""

    def __init__(self) -> None:
        self.sizes = 0

    def sized(self) -> None:
        self.sizes += 1

    def ejected(self, endpoint: Endpoint, seconds: float) -> None: ...


def balancer(*endpoints: Endpoint, connect: bool = True, filters: Filters | None = None) -> tuple[Balancer, Told]:
    made = Balancer("a", rng=random.Random(0), filters=filters or Filters())
    told = made.observer = Told()
    made.apply(WatchEvent((Reset(endpoints),), Position("s", 1)), 0.0)
    if connect:
        for each in endpoints:
            made.connected(each.address, READY, 0.0)
    return made, told


def test_capacity_counts_what_can_be_picked_and_is_free() -> None:
    b, _ = balancer(endpoint(A), endpoint(B, slots=2), endpoint(C, slots=8, state=State.DRAINING))
    assert b.capacity(0.0) == Capacity(endpoints=2, slots=6, free=6)
    picks = [b.submit(Call(LATER), 0.0) for _ in range(4)]
    assert b.capacity(0.0) == Capacity(endpoints=2, slots=6, free=2, in_flight=4)
    picks += [b.submit(Call(LATER), 0.0) for _ in range(2)]
    b.submit(Call(LATER), 0.0)
    assert b.capacity(0.0) == Capacity(endpoints=2, slots=6, free=0, in_flight=6, waiting=1)
    b.connected(A, LOST, 1.0)
    assert b.capacity(1.0) == Capacity(endpoints=1, slots=2, free=0, in_flight=2, waiting=1)


def test_slots_that_others_have_are_not_free_while_the_news_is_fresh() -> None:
    b, _ = balancer(endpoint(A))
    b.candidates[A].told(3, 0, 0, now=1.0)
    assert b.capacity(1.01).free == 1
    assert b.capacity(2.0).free == 4
    b.candidates[A].shut_until = 3.0
    assert b.capacity(2.0).free == 0, "it said that it has none"


def test_a_half_open_endpoint_counts_as_one_slot() -> None:
    b, told = balancer(endpoint(A))
    for _ in range(5):
        Pick(b, b.candidates[A]).done(0.0, errors.ConnectionLost())
    assert b.capacity(0.0) == Capacity()
    b.step(10.0)
    before = told.sizes
    assert b.capacity(10.0) == Capacity(endpoints=1, slots=1, free=1)
    pick = b.submit(Call(LATER), 10.0)
    assert pick is not None
    assert b.capacity(10.0).free == 0
    pick.done(11.0)
    assert b.capacity(11.0) == Capacity(endpoints=1, slots=4, free=4)
    assert told.sizes == before + 1, "a probe that goes well is a change of capacity"


def test_changes_of_endpoints_and_slots_are_told_and_calls_are_not() -> None:
    b, told = balancer(endpoint(A), connect=False)
    assert told.sizes == 0, "what is not connected cannot be picked"
    b.connected(A, READY, 0.0)
    assert told.sizes == 1
    for _ in range(50):
        pick = b.submit(Call(LATER), 0.0)
        assert pick is not None
        pick.done(1.0)
    assert told.sizes == 1
    b.connected(A, READY, 1.0, MuxView(slots=9, weight=1.0, silent=False, draining=False))
    assert told.sizes == 2
    b.apply(WatchEvent((Removed("a", A, f"i{A}"),), Position("s", 2)), 2.0)
    assert (told.sizes, b.size) == (3, (0, 0))


def test_only_endpoints_in_the_range_are_picked_and_nothing_spills_over() -> None:
    b, _ = balancer(endpoint(A, 2), endpoint(B, 8, "2.0.0"), endpoint(C, 1, "2.1.0"), filters=Filters(only=">=2,<2.1"))
    assert b.capacity(0.0) == Capacity(endpoints=1, slots=8, free=8)
    picked = [b.submit(Call(LATER), 0.0) for _ in range(9)]
    assert {pick.endpoint.address for pick in picked if pick} == {B}
    assert picked[-1] is None, "it waits for a slot of its own version"


def test_without_an_endpoint_in_the_range_the_error_says_at_once_which_there_are() -> None:
    b, _ = balancer(endpoint(A), endpoint(B), endpoint(C, version="1.10.0"), filters=Filters(only=">=2"))
    with pytest.raises(errors.NoEndpoint) as caught:
        b.submit(Call(LATER), 0.0)
    assert caught.value.message == (
        "no endpoint serves a >=2 (3 registered: 1.0.0, 1.10.0); "
        "start one with `atomesh serve MODULE:CLASS --version ...`, or ask for another range"
    )
    assert not b.known
    b.apply(WatchEvent((Changed(endpoint(B, version="2.0.0")),), Position("s", 2)), 1.0)
    assert b.known
    nobody, _ = balancer(filters=Filters(only=">=2"))
    with pytest.raises(errors.UnknownAgent):
        nobody.submit(Call(LATER), 0.0)


def test_a_release_that_left_is_waited_for_as_a_restart_is() -> None:
    b, _ = balancer(endpoint(A), endpoint(B, version="2.0.0"), filters=Filters(only=">=2"))
    b.apply(WatchEvent((Removed("a", B, f"i{B}"),), Position("s", 2)), 1.0)
    assert b.submit(Call(LATER), 1.0) is None
    failed = b.step(100.0)[0].result
    assert isinstance(failed, errors.NoEndpoint)
    assert "1 of another version than >=2" in failed.message


def test_shares_of_releases_hold_inside_a_range() -> None:
    shares = Filters(only=">=2", versions={">=2.1": 1, "<2": 9, "<2.1": 0})
    b, _ = balancer(endpoint(A), endpoint(B, version="2.0.0"), endpoint(C, version="2.1.0"), filters=shares)
    assert b.capacity(0.0).endpoints == 1
    pick = b.submit(Call(LATER), 0.0)
    assert pick is not None
    assert pick.endpoint.address == C


def test_others_of_the_fleet_are_no_siblings_of_a_range_so_that_half_of_the_range_is_the_most() -> None:
    b, _ = balancer(
        *(endpoint(f"127.0.0.1:{n}", 9) for n in range(10, 20)),
        endpoint(A, 9, "2.0.0"),
        endpoint(B, 9, "2.0.0"),
        filters=Filters(only=">=2"),
    )
    for address in (A, B):
        for _ in range(5):
            Pick(b, b.candidates[address]).done(0.0, errors.ConnectionLost())
    assert [b.candidates[address].ejection.active for address in (A, B)] == [True, False]


def test_gauges_of_an_agent_are_of_all_that_follow_it() -> None:
    metrics = ClientMetrics()
    series = AgentSeries(metrics, "a")
    whole, _ = balancer(endpoint(A, 3), endpoint(B, 3, "2.0.0"))
    part, _ = balancer(endpoint(A, 3), endpoint(B, 3, "2.0.0"), filters=Filters(only=">=2"))
    for follower in (whole, part):
        series.known(follower)
        for candidate in follower.candidates.values():
            series.joined(candidate, follower)
    for _ in range(6):
        whole.submit(Call(LATER), 0.0)
    whole.submit(Call(LATER), 0.0)
    for _ in range(5):
        part.submit(Call(LATER), 0.0)

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"agent": "a", **labels})

    assert value("atomesh_client_waiting") == 3
    assert value("atomesh_client_in_flight", endpoint=A) == 3
    assert value("atomesh_client_in_flight", endpoint=B) == 6
    assert value("atomesh_client_slots", endpoint=B) == 3
    assert value("atomesh_client_circuit") == 0
    for _ in range(5):
        Pick(part, part.candidates[B]).done(0.0, errors.ConnectionLost())
    assert value("atomesh_client_circuit") == 2, "the worst of them"
    part.step(10.0)
    assert value("atomesh_client_circuit") == 1
    series.left(B, whole)
    assert value("atomesh_client_in_flight", endpoint=B) == 3
    series.forget(part)
    assert value("atomesh_client_slots", endpoint=B) is None
    assert value("atomesh_client_slots", endpoint=A) == 3
    assert value("atomesh_client_waiting") == 1
