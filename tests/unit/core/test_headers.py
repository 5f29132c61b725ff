"""A context in call metadata: any text gets through, and none breaks a header."""

from __future__ import annotations

from typing import Any

import pytest

from atomesh.core.context import Context
from atomesh.core.errors import InvalidArgument
from atomesh.core.headers import CONTEXT, REQUEST_ID, decode, encode, header, lookup

HOSTILE = [
    "Zoë",
    "🦊",
    "\u202eevil",
    "a\x00b",
    "two\r\nlines",
    "\x1b[31m",
    " padded ",
    "\t",
    "x" * 200,
    "a,b",
    "%41",
    "=",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_survives_in_every_field(text: str) -> None:
    context = Context(
        text[:100], text, text, {text[:100]: text, "Upper-Case": "v"}, text[:100], text[:100], 5.25, ("a", "b")
    )
    assert decode(encode(context)) == context


@pytest.mark.parametrize("text", HOSTILE)
def test_a_header_holds_only_what_grpc_takes(text: str) -> None:
    for key, value in encode(Context(text[:100], text, text, {text[:100]: text}, text[:100], text[:100], 5.25, ("a",))):
        assert key == key.lower()
        assert isinstance(value, bytes) == key.endswith("-bin")
        assert isinstance(value, bytes) or (value.isascii() and value.isprintable() and value == value.strip())


def test_what_is_unset_has_no_header_and_plain_text_is_readable() -> None:
    assert encode(Context()) == ()
    assert encode(Context(request_id="r-1", user_id="zoe")) == ((REQUEST_ID, "r-1"), ("x-user-id", "zoe"))
    assert decode(()) == Context()


def test_foreign_headers_are_not_looked_at() -> None:
    foreign: list[tuple[str, str | bytes]] = [
        ("authorization", "Bearer x"),
        ("grpc-trace-bin", b"\xff"),
        ("user-agent", "y"),
    ]
    assert decode(foreign) == Context()


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([("x-user-id-bin", b"\xff\xfe")], "x-user-id-bin is not UTF-8"),
        ([("x-user-id", "a"), ("x-user-id", "b")], "comes twice"),
        ([("x-user-id", "a"), ("x-user-id-bin", b"b")], "comes twice"),
        ([(CONTEXT, b"\xff\xff")], "does not parse"),
        ([("x-user-id", "u" * 257)], "user_id"),
        ([(REQUEST_ID, "r" * 129)], "request_id"),
    ],
)
def test_what_cannot_be_a_context_is_refused_in_one_line(pairs: list[Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as refused:
        decode(pairs)
    assert len(str(refused.value)) < 400


def test_the_same_value_twice_is_once() -> None:
    assert decode([("x-user-id", "a"), ("x-user-id-bin", b"a")]).user_id == "a"


def test_a_header_of_its_own_wins_over_the_same_field_in_the_message() -> None:
    packed = Context(user_id="packed", metadata={"k": "v"}).to_proto().SerializeToString()
    assert decode([("x-user-id", "own"), (CONTEXT, packed)]) == Context(user_id="own", metadata={"k": "v"})


def test_a_lone_surrogate_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidArgument, match="lone surrogate"):
        header("x-user-id", "\ud800")
    with pytest.raises(InvalidArgument, match="lone surrogate"):
        encode(Context(metadata={"k": "\ud800"}))


def test_one_header_can_be_looked_up() -> None:
    pairs: list[tuple[str, str | bytes]] = [("a", "1"), ("b", b"\xc3\xab")]
    assert (lookup(pairs, "a"), lookup(pairs, "b"), lookup(pairs, "c")) == ("1", "ë", "")
    with pytest.raises(InvalidArgument, match="not UTF-8"):
        lookup([("a", b"\xff")], "a")
