"""What gRPC's words about a failed connection mean."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from atomesh.core.errors import ConnectionLost, DeadlineExceeded, InvalidArgument, NoFreeSlot, RemoteError
from atomesh.core.status import to_status
from atomesh.rpc.channel import DETAILS_KEY, cause_of, from_rpc_error, open_channel


def _failure(code: grpc.StatusCode, details: str, *trailers: tuple[str, bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details=details)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", "has expired; renew it"),
        ("CERTIFICATE_VERIFY_FAILED: certificate is not yet valid", "check the clocks"),
        ("CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate", "give the CA that signed it"),
        ("Peer name 10.0.0.1 is not in peer certificate", "dial one that it names"),
        ("WRONG_VERSION_NUMBER", "the server speaks plaintext"),
        ("(Trying to connect an http1.x server (HTTP status 404))", "is it the port of /metrics?"),
        ("Socket closed", "if it speaks TLS, give --tls-ca"),
        ("Connection refused", ""),
    ],
)
def test_a_connection_that_never_was_is_explained(words: str, cause: str) -> None:
    details = f"failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: {words}"
    assert cause in cause_of(details)
    assert bool(cause_of(details)) is bool(cause)
    error = from_rpc_error(_failure(grpc.StatusCode.UNAVAILABLE, details))
    assert type(error) is ConnectionLost
    assert words in error.message, "gRPC's own words stay, for whoever can read them"
    assert cause in error.message


def test_a_connection_that_broke_in_mid_call_is_not_explained_away() -> None:
    assert cause_of("Socket closed") == ""
    error = from_rpc_error(_failure(grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    assert error.message == "Socket closed"
    assert error.executed is None


def test_no_words_are_the_name_of_the_code() -> None:
    assert from_rpc_error(_failure(grpc.StatusCode.DEADLINE_EXCEEDED, "")).message == "DEADLINE_EXCEEDED"
    assert type(from_rpc_error(_failure(grpc.StatusCode.DEADLINE_EXCEEDED, ""))) is DeadlineExceeded


def test_details_speak_only_for_their_own_code() -> None:
    details = to_status(NoFreeSlot("full")).SerializeToString()
    full = _failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", ("other", b"x"), (DETAILS_KEY, details))
    assert type(from_rpc_error(full)) is NoFreeSlot
    other = from_rpc_error(_failure(grpc.StatusCode.DATA_LOSS, "gone", (DETAILS_KEY, details)))
    assert type(other) is RemoteError
    assert (other.message, other.executed) == ("gone", None)
    junk = from_rpc_error(_failure(grpc.StatusCode.DATA_LOSS, "gone", (DETAILS_KEY, b"\xff\xff")))
    assert junk.message == "gone"


@pytest.mark.parametrize(
    "address", ["", "0.0.0.0:80", "[::]:80", "127.0.0.1:0", "127.1:80", "x" * 10_000, "10.0.0.1:80"]
)
def test_what_cannot_be_dialled_is_refused_before_a_channel_is_opened(address: str) -> None:
    with pytest.raises(InvalidArgument):
        open_channel(address)
