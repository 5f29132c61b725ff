"""Rendezvous hashing: a session stays where it is, as far as that can be."""

import random
from collections import Counter

import pytest

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.hashing import stable_hash
from atomesh.balancer.policies.base import Picker
from atomesh.balancer.policies.rendezvous import Rendezvous, _Ranked
from atomesh.core.endpoint import Endpoint

NOW = 100.0
SESSIONS = [f"session-{n}" for n in range(2_000)]


def fleet(*slots: int) -> list[Candidate]:
    return [Candidate(Endpoint("a", f"10.0.0.{i + 1}:7500", slots=n)) for i, n in enumerate(slots)]


def picker(candidates: list[Candidate]) -> Picker:
    return Rendezvous(random.Random(1)).picker(candidates)


def homes(candidates: list[Candidate]) -> dict[str, Candidate | None]:
    chosen = picker(candidates)
    return {session: chosen.pick(NOW, key=session) for session in SESSIONS}


def test_a_session_is_sent_to_one_endpoint() -> None:
    chosen = picker(fleet(4, 4, 4, 4))
    assert len({id(chosen.pick(NOW, key="zoë")) for _ in range(50)}) == 1


def test_all_clients_agree_whatever_the_order_in_which_they_heard_of_endpoints() -> None:
    candidates = fleet(4, 4, 4, 4, 4)
    assert homes(candidates) == homes(list(reversed(candidates)))


def test_the_hash_is_the_same_on_every_machine() -> None:
    assert stable_hash("session-1") == 12558777036138866604


def test_when_an_endpoint_leaves_only_its_sessions_move() -> None:
    candidates = fleet(4, 4, 4, 4, 4)
    before, after = homes(candidates), homes(candidates[:2] + candidates[3:])
    moved = [session for session in SESSIONS if before[session] is not after[session]]
    assert moved == [session for session in SESSIONS if before[session] is candidates[2]]
    spread = Counter(id(after[session]) for session in moved)
    assert min(spread.values()) > len(moved) / 4 * 0.7, "its sessions are shared among the others"


def test_a_newcomer_takes_its_share_and_nothing_else_moves() -> None:
    candidates = fleet(4, 4, 4, 4)
    before, after = homes(candidates[:3]), homes(candidates)
    moved = [session for session in SESSIONS if before[session] is not after[session]]
    assert all(after[session] is candidates[3] for session in moved)
    assert len(moved) / len(SESSIONS) == pytest.approx(1 / 4, abs=0.04), "four standard deviations are 0.04"


def test_sessions_are_shared_in_proportion_to_slots() -> None:
    candidates = fleet(1, 2, 5)
    counts = Counter(candidate.slots for candidate in homes(candidates).values() if candidate is not None)
    for slots in (1, 2, 5):
        assert counts[slots] / len(SESSIONS) == pytest.approx(slots / 8, abs=0.045)


def test_more_slots_draw_sessions_in_and_move_none_between_others() -> None:
    small, grown = fleet(4, 4, 4), fleet(4, 8, 4)
    before, after = homes(small), homes(grown)
    for session in SESSIONS:
        was, now = before[session], after[session]
        assert was is not None
        assert now is not None
        assert now is grown[1] or was.endpoint.address == now.endpoint.address


def test_a_session_whose_endpoint_is_full_has_a_second_home_and_comes_back() -> None:
    candidates = fleet(1, 1, 1, 1)
    chosen = picker(candidates)
    first = chosen.pick(NOW, key="s")
    assert first is not None
    first.in_flight = 1
    second = chosen.pick(NOW, key="s")
    assert second is not first
    assert chosen.pick(NOW, key="s") is second
    assert chosen.pick(NOW, (first,), key="s") is second
    first.in_flight = 0
    assert chosen.pick(NOW, key="s") is first


def test_calls_without_a_session_go_where_least_is_in_use() -> None:
    busy, idle = fleet(4, 4)
    busy.in_flight = 2
    chosen = picker([busy, idle])
    assert all(chosen.pick(NOW) is idle for _ in range(10))


def test_the_first_is_the_same_whether_it_was_found_alone_or_in_the_ranking() -> None:
    for slots in ((4, 4, 4, 4), (1, 4, 2, 8)):
        ranked = _Ranked(tuple(fleet(*slots)), picker([]))
        assert all(ranked._find_first(session) is ranked._rank(session)[0] for session in SESSIONS)


def test_more_sessions_than_are_remembered_are_ranked_anew_and_alike() -> None:
    candidates = fleet(*(4 for _ in range(64)))
    chosen = picker(candidates)
    first = [chosen.pick(NOW, key=session) for session in SESSIONS]
    assert [chosen.pick(NOW, key=session) for session in SESSIONS] == first
