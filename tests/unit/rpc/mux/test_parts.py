"""Parts: whole again at the other end, in turns on the way, and never more than was said."""

import random

import pytest

from atomesh.rpc.mux.parts import LARGE_PART, QUIET_SECONDS, SMALL_PART, Assembly, Parts


def drain(parts: Parts, now: float = 0.0) -> list[tuple[int, int, bool]]:
    """Whose parts went, how large, and which was the last."""
    gone = []
    while parts:
        id, data, last = parts.next(now)
        gone.append((id, len(data), last))
    return gone


def test_payloads_take_turns_and_each_ends_with_its_last_part() -> None:
    parts = Parts()
    parts.add(1, b"a" * (2 * LARGE_PART + 1))
    parts.add(2, b"b" * LARGE_PART)
    assert drain(parts) == [(1, LARGE_PART, False), (2, LARGE_PART, True), (1, LARGE_PART, False), (1, 1, True)]


def test_parts_are_small_beside_small_calls_and_large_alone() -> None:
    parts = Parts()
    parts.add(1, b"a" * 10 * LARGE_PART)
    assert len(parts.next(0.0)[1]) == LARGE_PART, "alone from the start"
    parts.small(0.0)
    assert len(parts.next(0.0)[1]) == SMALL_PART
    assert len(parts.next(0.9 * QUIET_SECONDS)[1]) == SMALL_PART
    assert len(parts.next(QUIET_SECONDS)[1]) == LARGE_PART, "alone again"


def test_what_nobody_wants_is_dropped_and_no_longer_counted() -> None:
    parts = Parts()
    parts.add(1, b"a" * 100_000, 40_000)
    parts.add(2, b"b" * 50_000)
    assert parts.bytes_left == 110_000
    parts.drop(1)
    parts.drop(7)
    assert parts.bytes_left == 50_000
    assert drain(parts) == [(2, 50_000, True)]
    assert parts.bytes_left == 0


def test_a_payload_is_whole_again_whatever_the_sizes_of_its_parts() -> None:
    rng = random.Random(2)
    for _ in range(50):
        payload = rng.randbytes(rng.randint(1, 3 * LARGE_PART))
        first = rng.randint(0, len(payload) - 1)
        parts, assembly = Parts(), Assembly(len(payload), 4 * LARGE_PART)
        assert assembly.add(payload[:first])
        parts.add(1, payload, first)
        while parts:
            if rng.random() < 0.3:
                parts.small(1.0)
            assert assembly.add(parts.next(1.0 + rng.random())[1])
        assert assembly.whole() == payload


@pytest.mark.parametrize("sizes", [(11,), (5, 6), (10, 1), (0, 0, 11)])
def test_more_than_was_said_is_refused_at_once_and_for_good(sizes: tuple[int, ...]) -> None:
    assembly = Assembly(10, 100)
    taken = [assembly.add(b"x" * size) for size in sizes]
    assert taken[-1] is False
    assert assembly.whole() is None
    assert not assembly.add(b"x"), "nothing more is taken"
    assert assembly._pieces == [], "nothing is kept of it"


def test_less_than_was_said_is_not_whole() -> None:
    assembly = Assembly(10, 100)
    assert assembly.add(b"x" * 9)
    assert assembly.whole() is None


def test_who_says_more_than_the_limit_is_given_no_memory() -> None:
    assembly = Assembly(101, 100)
    assert not assembly.add(b"x")
    assert assembly.whole() is None
    assert Assembly(100, 100).add(b"x" * 100), "the limit itself is allowed"
