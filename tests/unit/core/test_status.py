"""Statuses of strangers, hostile ones, and ours at their limits."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest
from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, wrappers_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from atomesh.core import errors
from atomesh.core.contract import pack
from atomesh.core.errors import AgentFailed, AtomeshError, Origin, RemoteError, Violation
from atomesh.core.status import from_code, from_status, to_status

TRAILER = 8 * 1024  # bytes, from where on gRPC may refuse a trailer


def _status(code: int, message: str = "it", *details: Any) -> status_pb2.Status:
    packed = [detail if isinstance(detail, any_pb2.Any) else pack(detail) for detail in details]
    return status_pb2.Status(code=code, message=message, details=packed)


def _info(reason: str = "NO_FREE_SLOT", **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="atomesh", metadata=metadata)


@pytest.mark.parametrize("code", [code for code in code_pb2.Code.values() if code != code_pb2.OK])
def test_a_bare_code_of_a_stranger_becomes_an_error_of_that_code(code: int) -> None:
    error = from_code(code, "stranger's words")
    assert error.code == code
    assert error.message == "stranger's words"
    refused_at_the_door = code in (code_pb2.UNAUTHENTICATED, code_pb2.PERMISSION_DENIED)
    assert error.executed is (False if refused_at_the_door else None), "a stranger does not say what was executed"


@pytest.mark.parametrize("code", [0, 17, 99, -1])
def test_a_code_that_is_none_never_becomes_success(code: int) -> None:
    error = from_code(code, "")
    assert isinstance(error, RemoteError)
    assert to_status(error).code != code_pb2.OK, "an error that is handed on must not turn into an answer"


def test_a_connection_that_broke_may_have_executed() -> None:
    error = from_code(code_pb2.UNAVAILABLE, "Socket closed")
    assert type(error) is errors.ConnectionLost
    assert error.executed is None


@pytest.mark.parametrize(
    "words",
    [
        "CLIENT: Received message larger than max (5000000 vs. 4194304)",
        "SERVER: Received message larger than max (5000000 vs. 4194304)",
        "grpc: received message larger than max (5 vs. 4)",
        "Sent message larger than max (5000000 vs. 4194304)",
    ],
)
def test_a_message_too_large_is_told_from_a_full_endpoint(words: str) -> None:
    assert type(from_code(code_pb2.RESOURCE_EXHAUSTED, words)) is errors.MessageTooLarge
    assert type(from_code(code_pb2.RESOURCE_EXHAUSTED, "quota")) is RemoteError


def test_a_strangers_details_are_kept() -> None:
    theirs = error_details_pb2.ErrorInfo(reason="API_DISABLED", domain="googleapis.com", metadata={"a": "b"})
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=3))
    error = from_status(_status(code_pb2.ABORTED, "it", theirs, retry))
    assert type(error) is RemoteError
    assert error.details == (theirs,)
    assert error.retry_after == 3.0
    assert error.reason == "ABORTED"


def test_a_strangers_bad_request_names_its_fields() -> None:
    bad = error_details_pb2.BadRequest(field_violations=[{"field": "f", "description": "wrong", "reason": "R"}])
    error = from_status(_status(code_pb2.INVALID_ARGUMENT, "it", bad))
    assert isinstance(error, errors.InvalidArgument)
    assert error.violations == (Violation("f", "wrong", "R"),)


@pytest.mark.parametrize(
    "detail",
    [error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo, wrappers_pb2.StringValue],
)
def test_details_that_do_not_parse_leave_the_status_standing(detail: Any) -> None:
    junk = any_pb2.Any(type_url=f"type.googleapis.com/{detail.DESCRIPTOR.full_name}", value=b"\xff\xff\xff")
    error = from_status(_status(code_pb2.NOT_FOUND, "gone", junk, _info("UNKNOWN_AGENT")))
    assert type(error) is errors.UnknownAgent
    assert error.message == "gone"


def test_a_detail_of_a_type_that_nobody_here_knows_is_handed_on_unchanged() -> None:
    unknown = any_pb2.Any(type_url="evil.example/no.such.Type", value=b"\x00\x01")
    error = from_status(_status(code_pb2.FAILED_PRECONDITION, "it", _info("X", raised_by="agent"), unknown))
    for _ in range(3):  # hops
        assert error.details == (unknown,), "no hop may wrap it once more"
        error = from_status(to_status(error))


@pytest.mark.parametrize(
    "url", ["", "/", "no-slash", "//", "a/\x00", "a/.", "a/" + "x" * 10_000, "http://evil.example/a"]
)
def test_a_hostile_type_url_is_only_a_name(url: str) -> None:
    odd = any_pb2.Any(type_url=url, value=b"1")
    assert from_status(_status(code_pb2.ABORTED, "it", odd)).details == (odd,)


@pytest.mark.parametrize("time", ["nan", "inf", "-inf", "1e999", "-1", "", "yesterday", "9" * 400, "253402300800"])
def test_a_time_that_is_none_is_not_shown(time: str) -> None:
    error = from_status(_status(8, "it", _info(time=time)))
    assert error.origin.time is None


def test_a_time_can_be_shown_by_a_clock() -> None:
    error = from_status(_status(8, "it", _info(time="253402300799.5")))
    assert error.origin.time is not None
    datetime.datetime.fromtimestamp(error.origin.time, datetime.UTC)


@pytest.mark.parametrize("executed", ["maybe", "True", "FALSE", "0", ""])
def test_only_the_two_words_say_what_was_executed(executed: str) -> None:
    error = from_status(_status(4, "it", _info("DEADLINE_EXCEEDED", executed=executed)))
    assert error.executed is None


def test_control_characters_are_folded_wherever_they_come_from() -> None:
    evil = "\x1b[2J\x07one\r\ntwo\u202e\u2028three\x00"
    info = _info("EVIL\x1b[0m\n", agent=evil, endpoint=evil, request_id=evil, raised_by="agent")
    for error in (
        from_status(_status(9, evil, info)),
        from_status(_status(9, evil)),
        from_status(_status(9, evil, _info("\x1b"))),
    ):
        shown = [error.message, error.reason, error.origin.agent, error.origin.endpoint, error.origin.request_id]
        assert all(text.isprintable() for text in shown), shown
        assert "one two three" in error.message
    assert to_status(AtomeshError(evil)).message.isprintable()


def test_what_a_server_adds_under_our_domain_makes_no_error_of_its_own() -> None:
    error = from_status(_status(5, "it", _info("SOMETHING_NEWER", executed="false", agent="a")))
    assert type(error) is RemoteError
    assert (error.reason, error.code, error.executed, error.origin.agent) == ("SOMETHING_NEWER", 5, False, "a")


@pytest.mark.parametrize("seconds", [math.inf, math.nan, -1.0, 1e300, 0.0, 1e-12])
def test_any_pushback_can_be_sent_and_is_not_negative(seconds: float) -> None:
    arrived = from_status(to_status(errors.NoFreeSlot("full", retry_after=seconds)))
    assert arrived.retry_after is not None
    assert arrived.retry_after >= 0


@pytest.mark.parametrize(("seconds", "nanos"), [(-5, 0), (2**63 - 1, 0), (0, -(2**31))])
def test_a_hostile_pushback_is_held_within_bounds(seconds: int, nanos: int) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds, nanos=nanos))
    error = from_status(_status(8, "it", _info(), retry))
    assert error.retry_after is not None
    assert 0 <= error.retry_after < 1e12
    assert to_status(error).code == 8


def _unfinished() -> descriptor_pb2.UninterpretedOption.NamePart:
    return descriptor_pb2.UninterpretedOption.NamePart()  # proto2, its required fields unset


@pytest.mark.parametrize(
    "error",
    [
        AtomeshError("x" * 100_000),
        AtomeshError("🦊" * 10_000),
        AtomeshError("half \ud83e"),
        AgentFailed("x", reason="\ud800" * 100),
        AgentFailed("x", reason="R" * 10_000),
        AgentFailed("x", details={"big": "y" * 100_000}),
        AgentFailed("x", details=[wrappers_pb2.BytesValue(value=b"z" * 3_000)] * 50),
        AgentFailed("x", details=[_unfinished()]),
        errors.InvalidInput("x", violations=[Violation("f" * 500, "🦊" * 500, "r" * 500)] * 1_000),
        errors.InvalidOutput("x", output=wrappers_pb2.BytesValue(value=b"z" * 1_000_000)),
        errors.NotFound("x", origin=Origin("\ud800", "\n" * 50, "i" * 200, "r" * 128, math.nan)),
        errors.Draining("x", origin=Origin(time=math.inf)),
    ],
    ids=lambda error: f"{type(error).__name__}-{error.message[:5]!r}",
)
def test_any_error_fits_a_trailer_and_arrives_as_its_kind(error: AtomeshError) -> None:
    status = to_status(error)
    sent = len(status.SerializeToString()) * 4 / 3 + len(status.message.encode())  # base64 where a proxy is old
    assert sent < TRAILER
    arrived = from_status(status_pb2.Status.FromString(status.SerializeToString()))
    assert arrived.code == error.code
    assert type(arrived) is type(error) or type(error) is AtomeshError


def test_what_did_not_fit_is_named() -> None:
    arrived = from_status(to_status(errors.InvalidOutput("broken", output=wrappers_pb2.BytesValue(value=b"z" * 9_999))))
    assert isinstance(arrived, errors.InvalidOutput)
    assert arrived.output is None
    assert "google.protobuf.BytesValue left out: " in arrived.message


def test_an_output_that_did_not_fit_is_not_taken_for_another_detail() -> None:
    detail = wrappers_pb2.StringValue(value="about it")
    raised = errors.InvalidOutput("broken", output=wrappers_pb2.BytesValue(value=b"z" * 9_999), details=[detail])
    arrived = from_status(to_status(raised))
    assert isinstance(arrived, errors.InvalidOutput)
    assert (arrived.output, arrived.details) == (None, (detail,))


def test_an_output_that_is_not_there_is_not_made_of_a_detail() -> None:
    detail = wrappers_pb2.StringValue(value="about it")
    arrived = from_status(to_status(errors.InvalidOutput("broken", details=[detail])))
    assert isinstance(arrived, errors.InvalidOutput)
    assert (arrived.output, arrived.details) == (None, (detail,))
