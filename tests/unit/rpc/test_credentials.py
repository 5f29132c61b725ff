"""The token of guarded calls."""

from __future__ import annotations

import hmac

import pytest

from atomesh.core.errors import InvalidArgument, Unauthenticated
from atomesh.rpc.credentials import PLAINTEXT, Credentials

SERVER = Credentials(token="s3cret")


def test_the_right_token_passes_as_text_or_bytes() -> None:
    SERVER.check_token(SERVER.metadata())
    SERVER.check_token((("other", "x"), ("authorization", b"Bearer s3cret")))
    SERVER.check_token((("authorization", "Bearer wrong"), ("authorization", "Bearer s3cret")))


def test_a_server_without_a_token_asks_for_none() -> None:
    PLAINTEXT.check_token(None)
    PLAINTEXT.check_token((("authorization", "Bearer whatever"),))
    assert PLAINTEXT.metadata() == ()


@pytest.mark.parametrize("metadata", [None, (), (("x-token", "s3cret"),), (("authorization-bin", b"Bearer s3cret"),)])
def test_no_token_is_told_from_a_wrong_one(metadata: tuple[tuple[str, str], ...] | None) -> None:
    with pytest.raises(Unauthenticated, match="give it with --token-file"):
        SERVER.check_token(metadata)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "s3cret",
        "Bearer ",
        "Bearer s3cre",
        "Bearer s3crett",
        "Bearer S3CRET",
        "Bearer s3cret ",
        "Basic s3cret",
        "Zoë",
        "\ud800",
        b"\xff",
    ],
)
def test_a_wrong_token_is_refused_without_repeating_either(value: str | bytes) -> None:
    with pytest.raises(Unauthenticated, match="check --token-file on both sides") as refused:
        SERVER.check_token((("authorization", value),))
    assert "s3cre" not in str(refused.value)


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[object, object]] = []

    def spy(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", spy)
    with pytest.raises(Unauthenticated):
        SERVER.check_token((("authorization", "Bearer s3cret"),))
    assert compared == [(b"Bearer s3cret", b"Bearer s3cret")], "nothing else may decide, nor see it first"


@pytest.mark.parametrize("token", ["two\nlines", "töken", "nul\x00", "\x7f"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="printable ASCII") as refused:
        Credentials(token=token)
    assert token not in str(refused.value)
