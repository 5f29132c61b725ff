"""Details of errors as a Struct: whatever an author puts in, raising does not fail."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest
from google.protobuf import struct_pb2

from atomesh.core.structs import from_struct, to_struct


def _sent(mapping: dict[Any, Any]) -> dict[str, Any]:
    return from_struct(struct_pb2.Struct.FromString(to_struct(mapping).SerializeToString()))


def test_what_json_can_say_comes_back_as_it_was() -> None:
    mapping = {"a": 1, "b": -2.5, "c": "Zoë\x00\n", "d": None, "e": True, "f": [1, [2, {"g": False}]], "h": {}, "": []}
    assert _sent(mapping) == mapping
    sent = _sent({"a": 7, "b": True})
    assert (type(sent["a"]), type(sent["b"])) == (int, bool)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (datetime.date(2026, 1, 2), "2026-01-02"),
        ({1}, "{1}"),
        (b"x", "b'x'"),
        ((1, 2), [1, 2]),
        ({7: "seven"}, {"7": "seven"}),
        (10**400, str(10**400)),
        ("half \ud83e", "half ?"),
    ],
)
def test_what_json_has_no_word_for_is_told_in_words(value: Any, told: Any) -> None:
    assert _sent({"it": value}) == {"it": told}


@pytest.mark.parametrize("number", [math.inf, -math.inf, 1e308])
def test_extreme_numbers_survive(number: float) -> None:
    assert _sent({"n": number}) == {"n": number}
    assert math.isnan(_sent({"n": math.nan})["n"])


def test_however_deep_it_is_it_can_be_sent_and_read() -> None:
    deep: Any = "bottom"
    for _ in range(500):
        deep = {"d": deep}
    read = _sent({"deep": deep})
    assert isinstance(read["deep"]["d"], dict)
    ring: list[Any] = []
    ring.append(ring)
    assert _sent({"ring": ring}), "a value that holds itself must end somewhere"


def test_a_hostile_struct_of_nothing_is_nothing() -> None:
    assert from_struct(struct_pb2.Struct(fields={"unset": struct_pb2.Value()})) == {"unset": None}
