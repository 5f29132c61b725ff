"""A context survives call metadata, whatever is in it; what is hostile is refused and never crashes."""

import contextlib
import random

import pytest

from atomesh.core import headers
from atomesh.core.context import Context
from atomesh.core.errors import InvalidArgument

HOSTILE = [
    "Zoë",
    "a\nb",
    "a\r\nx-admin: yes",
    " padded ",
    "\x00",
    "日本",
    "%41",
    "UPPER",
    "a,b",
    "\u202e",
    "-bin",
    "\x7f",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_any_text_travels(value: str) -> None:
    context = Context(request_id=value, user_id=value, session_id=value, idempotency_key=value, traceparent=value)
    assert headers.decode(headers.encode(context)) == context


@pytest.mark.parametrize("value", HOSTILE)
def test_what_is_not_printable_ascii_travels_in_a_bin_header(value: str) -> None:
    for key, sent in headers.encode(Context(user_id=value)):
        assert key == key.lower(), "gRPC takes lower-case keys only"
        if isinstance(sent, str):
            assert sent.isascii()
            assert sent.isprintable()
        else:
            assert key.endswith("-bin")


def test_pairs_way_and_timestamp_travel_too() -> None:
    context = Context(metadata={"Kéy\n": "välue\r\n", "B": "c"}, via=("one", "two"), timestamp=1700000000.25)
    assert headers.decode(headers.encode(context)) == context


def test_nothing_has_no_headers() -> None:
    assert headers.encode(Context()) == ()
    assert headers.decode(()) == Context()


def test_foreign_headers_are_not_looked_at() -> None:
    assert headers.decode((("user-agent", "x"), ("x-other-bin", b"\xff"))) == Context()


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ((("x-user-id-bin", b"\xff\xfe"),), "x-user-id-bin is not UTF-8"),
        ((("x-user-id", "a"), ("x-user-id", "b")), "comes twice"),
        ((("x-user-id", "a"), ("x-user-id-bin", b"b")), "comes twice"),
        ((("x-request-id", "a" * 129),), "request_id"),
        ((("x-user-id-bin", b"a" * 257),), "user_id"),
        (((headers.CONTEXT, b"\xff\xff\xff"),), "does not parse"),
        (((headers.CONTEXT, Context(metadata={"": "x"}).to_proto().SerializeToString()),), "metadata"),
        (((headers.CONTEXT, Context(via=("a",) * 65).to_proto().SerializeToString()),), "via"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(pairs: tuple[headers.Pair, ...], said: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        headers.decode(pairs)
    assert said in refused.value.message
    assert "\n" not in refused.value.message


def test_the_same_header_twice_with_one_value_is_harmless() -> None:
    assert headers.decode((("x-user-id", "a"), ("x-user-id", "a"))).user_id == "a"


def test_a_header_outdoes_the_message() -> None:
    message = Context(user_id="message", via=("a",)).to_proto().SerializeToString()
    decoded = headers.decode((("x-user-id", "header"), (headers.CONTEXT, message)))
    assert (decoded.user_id, decoded.via) == ("header", ("a",))


@pytest.mark.parametrize("seed", range(50))
def test_random_text_travels(seed: int) -> None:
    rng = random.Random(seed)

    def text(most: int) -> str:
        return "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0xD800)))) for _ in range(rng.randrange(most)))

    context = Context(
        text(30), text(60), text(60), {text(9) + "k": text(50) for _ in range(rng.randrange(4))}, text(30)
    )
    assert headers.decode(headers.encode(context)) == context


def test_random_bytes_never_crash() -> None:
    rng = random.Random(5)
    keys = [*headers._BY_KEY, headers.CONTEXT]
    for _ in range(500):
        pairs = [(rng.choice(keys), rng.randbytes(rng.randrange(40))) for _ in range(rng.randrange(4))]
        with contextlib.suppress(InvalidArgument):
            headers.decode(pairs)
