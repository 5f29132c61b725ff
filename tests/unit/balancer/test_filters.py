"""Zones and version weights come before the policy, and neither is a wall."""

import random
from collections import Counter
from collections.abc import Mapping

import pytest

from atomesh.balancer.balancer import Balancer
from atomesh.balancer.candidate import SubchannelState
from atomesh.balancer.filters import Filters
from atomesh.balancer.picks import Pick
from atomesh.balancer.policies import POLICIES
from atomesh.balancer.waiting import Call
from atomesh.core import errors
from atomesh.core.endpoint import Endpoint, State
from atomesh.core.updates import Position, Reset, WatchEvent

CANARY = {">=2.0.0": 10, "<2": 90}
LATER = 1e6


def endpoint(n: int, *, zone: str = "", version: str = "1.0.0", slots: int = 1, suspect: bool = False) -> Endpoint:
    state = State.SUSPECT if suspect else State.SERVING
    return Endpoint("a", f"z{n}:1", instance_id=f"i{n}", slots=slots, zone=zone, version=version, state=state)


def balancer(*endpoints: Endpoint, zone: str = "", versions: Mapping[str, float] | None = None) -> Balancer:
    made = Balancer("a", rng=random.Random(4), filters=Filters(zone, versions or {}))
    made.apply(WatchEvent((Reset(endpoints),), Position("s", 1)), 0.0)
    for each in endpoints:
        made.connected(each.address, SubchannelState.READY, 0.0)
    return made


def pick(of: Balancer, policy: str = "weighted_least_outstanding", session: str = "") -> Pick | None:
    return of.submit(Call(LATER, policy, session), 0.0)


def where(of: Balancer, picks: int, policy: str = "weighted_least_outstanding") -> list[str]:
    """Where calls go that all stay in flight."""
    made = [pick(of, policy) for _ in range(picks)]
    return [each.endpoint.address for each in made if each is not None]


def shares(of: Balancer, calls: int, sessions: int = 0) -> Counter[str]:
    """Where calls go that end at once."""
    counts: Counter[str] = Counter()
    for n in range(calls):
        picked = pick(of, session=f"session {n % sessions}" if sessions else "")
        assert picked is not None
        counts[picked.endpoint.version] += 1
        picked.done(0.0)
    return counts


@pytest.mark.parametrize("policy", POLICIES)
def test_calls_leave_the_zone_only_when_it_is_full(policy: str) -> None:
    fleet = balancer(
        endpoint(1, zone="far", slots=8), endpoint(2, zone="near", slots=2), endpoint(3, zone="near"), zone="near"
    )
    made = where(fleet, 5, policy)
    assert sorted(made[:3]) == ["z2:1", "z2:1", "z3:1"], "while the own zone has a slot free, no other is asked"
    assert made[3:] == ["z1:1", "z1:1"], "a full zone spills"


def test_calls_come_back_into_the_zone_as_soon_as_a_slot_is_free_there() -> None:
    fleet = balancer(endpoint(1, zone="near"), endpoint(2, zone="far", slots=9), zone="near")
    near, far = pick(fleet), pick(fleet)
    assert near is not None
    assert far is not None
    assert far.endpoint.zone == "far"
    near.done(1.0)
    assert where(fleet, 1) == ["z1:1"]


def test_a_zone_that_nobody_is_in_changes_nothing() -> None:
    assert len(where(balancer(endpoint(1, zone="a"), endpoint(2), zone="nowhere"), 3)) == 2


def test_without_wishes_zone_and_version_are_not_looked_at() -> None:
    fleet = balancer(endpoint(1, zone="a", version="9.9.9"), endpoint(2, zone="b"))
    assert sorted(where(fleet, 2)) == ["z1:1", "z2:1"]


def test_an_endpoint_under_suspicion_comes_last_even_in_the_own_zone() -> None:
    fleet = balancer(endpoint(1, zone="near", suspect=True), endpoint(2, zone="far"), zone="near")
    assert where(fleet, 2) == ["z2:1", "z1:1"]


def test_where_all_are_ejected_zones_still_have_their_order() -> None:
    fleet = balancer(endpoint(1, zone="far"), endpoint(2, zone="near"), zone="near")
    for candidate in fleet.candidates.values():
        candidate.ejection.eject(0.0)
    fleet._rebuild(0.0)
    assert where(fleet, 2) == ["z2:1", "z1:1"], "panic ignores ejections and nothing else"


def test_a_canary_gets_its_share() -> None:
    fleet = balancer(endpoint(1, slots=4), endpoint(2, version="2.1.0", slots=4), versions=CANARY)
    counts = shares(fleet, 5_000)
    # Four standard deviations of a binomial with n = 5,000 and p = 0.1 are 85.
    assert abs(counts["2.1.0"] - 500) < 85
    assert counts["1.0.0"] + counts["2.1.0"] == 5_000


def test_the_share_is_that_of_the_release_however_many_endpoints_it_has() -> None:
    fleet = balancer(
        endpoint(1, slots=4), *(endpoint(n, version="2.0.0", slots=4) for n in range(2, 12)), versions=CANARY
    )
    assert abs(shares(fleet, 5_000)["2.0.0"] - 500) < 85


def test_a_share_does_not_depend_on_the_zone_that_its_release_is_in() -> None:
    fleet = balancer(
        endpoint(1, zone="near", slots=4),
        endpoint(2, zone="far", version="2.0.0", slots=4),
        zone="near",
        versions=CANARY,
    )
    assert abs(shares(fleet, 5_000)["2.0.0"] - 500) < 85


def test_a_release_that_cannot_take_a_call_spills_to_the_others() -> None:
    fleet = balancer(endpoint(1), endpoint(2, version="2.0.0", slots=3), versions={"<2": 1, ">=2": 1})
    assert sorted(where(fleet, 4)) == ["z1:1", "z2:1", "z2:1", "z2:1"]
    assert pick(fleet) is None


def test_calls_of_one_session_stay_with_one_release_and_sessions_keep_the_shares() -> None:
    fleet = balancer(endpoint(1, slots=4), endpoint(2, version="2.0.0", slots=4), versions=CANARY)
    for session in range(50):
        versions = set()
        for _ in range(20):
            picked = pick(fleet, session=f"s{session}")
            assert picked is not None
            versions.add(picked.endpoint.version)
            picked.done(0.0)
        assert len(versions) == 1, "a conversation must not change its release from call to call"
    counts = shares(fleet, 5_000, sessions=5_000)
    assert abs(counts["2.0.0"] - 500) < 85


def test_shares_are_those_of_the_releases_that_there_are() -> None:
    assert shares(balancer(endpoint(1), versions=CANARY), 50) == {"1.0.0": 50}
    assert shares(balancer(endpoint(1, version="2.0.0"), versions=CANARY), 50) == {"2.0.0": 50}


def test_a_release_of_weight_zero_or_that_no_range_names_is_never_picked() -> None:
    fleet = balancer(
        endpoint(1), endpoint(2, version="2.0.0"), endpoint(3, version="3.0.0"), versions={"<2": 1, ">=2,<3": 0}
    )
    assert where(fleet, 3) == ["z1:1"]


def test_a_fleet_without_a_share_is_no_fleet_and_says_why() -> None:
    fleet = balancer(endpoint(1, version="3.0.0"), endpoint(2, version="3.0.1"), versions={"<3": 1})
    call = Call(LATER)
    assert fleet.submit(call, 0.0) is None
    (failed,) = fleet.step(1e3)
    assert isinstance(failed.result, errors.NoEndpoint)
    assert "2 of a version without a share" in failed.result.message


def test_the_first_range_that_a_version_lies_in_counts() -> None:
    fleet = balancer(endpoint(1), endpoint(2, version="2.0.0"), versions={">=2": 0, "": 1})
    assert where(fleet, 2) == ["z1:1"]


def test_where_all_are_suspect_they_are_picked_by_share_all_the_same() -> None:
    fleet = balancer(
        endpoint(1, slots=4, suspect=True), endpoint(2, version="2.0.0", slots=4, suspect=True), versions=CANARY
    )
    assert abs(shares(fleet, 5_000)["2.0.0"] - 500) < 85


def test_suspects_of_the_own_release_come_after_all_that_serve() -> None:
    fleet = balancer(
        endpoint(1, version="2.0.0", suspect=True), endpoint(2), endpoint(3, version="2.5.0"), versions=CANARY
    )
    assert where(fleet, 3)[-1] == "z1:1"


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({"banana": 1}, "'banana' is no version"),
        ({">=2": -1}, "'>=2' has weight -1; give 0 or more"),
        ({">=2": float("nan")}, "weight nan"),
        ({">=2": 0, "<2": 0}, "all 2 version weights are 0"),
    ],
)
def test_weights_that_mean_nothing_are_refused(versions: dict[str, float], message: str) -> None:
    with pytest.raises(errors.InvalidArgument, match=message):
        Filters("", versions)
