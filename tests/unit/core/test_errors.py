"""The tree of errors: drawn as it is, and each of them across the wire and back."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import struct_pb2, wrappers_pb2
from google.rpc import code_pb2, error_details_pb2

from atomesh.core import errors
from atomesh.core.errors import AgentFailed, AtomeshError, Attempt, Origin, RemoteError, Violation
from atomesh.core.status import from_status, to_status
from atomesh.v1 import context_pb2

ORIGIN = Origin("text-processor", "127.0.0.1:5001", "instance-1", "request-1", 1_700_000_000.25)
VIOLATIONS = (Violation("a.b[2]", "must not be empty", "string.min_len"), Violation("", "no field's", "x"))


def _tree(root: type[AtomeshError]) -> Iterator[type[AtomeshError]]:
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from _tree(kind)


EVERY = sorted(_tree(AtomeshError), key=lambda kind: kind.__name__)


def _made(kind: type[AtomeshError]) -> AtomeshError:
    """One of the kind, with everything set that its constructor takes."""
    everything: dict[str, Any] = {
        "origin": ORIGIN,
        "retry_after": 2.5,
        "executed": not kind.executed,
        "violations": VIOLATIONS,
        "details": [wrappers_pb2.StringValue(value="an author's own"), struct_pb2.Struct()],
        "output": context_pb2.Context(request_id="work"),
        "reason": "NO_TICKET",
        "retryable": True,
        "code": code_pb2.DATA_LOSS,
    }
    taken: set[str] = set()
    for base in kind.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters
            taken |= set(parameters)
            if "more" not in parameters:
                break
    return kind("it went wrong", **{name: value for name, value in everything.items() if name in taken})


def _facts(error: AtomeshError) -> dict[str, Any]:
    facts = {key: value for key, value in vars(error).items() if not key.startswith("_")}
    return {"code": error.code, "reason": error.reason, "executed": error.executed} | facts


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_arrives_as_it_was_raised(kind: type[AtomeshError]) -> None:
    raised = _made(kind)
    arrived = from_status(to_status(raised))
    assert type(arrived) is kind
    assert _facts(arrived) == _facts(raised)
    again = from_status(to_status(arrived))
    assert _facts(again) == _facts(raised), "an error that is handed on must stay as it is"


@pytest.mark.parametrize("kind", EVERY)
def test_every_bare_error_arrives_with_its_own_defaults(kind: type[AtomeshError]) -> None:
    raised = kind("it went wrong")
    arrived = from_status(to_status(raised))
    assert (type(arrived), _facts(arrived)) == (kind, _facts(raised))


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_says_something_without_being_told(kind: type[AtomeshError]) -> None:
    assert str(kind(""))
    assert kind.__doc__
    assert kind.code in code_pb2.Code.values()
    assert kind.code != code_pb2.OK


def test_reasons_and_refusals_are_what_other_languages_rely_on() -> None:
    reasons = [kind.reason for kind in EVERY if kind is not RemoteError]
    assert len(set(reasons)) == len(reasons), "a reason names one error"
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]{1,62}", reason) for reason in reasons)
    for kind in EVERY:
        if issubclass(kind, errors.Refused):
            assert kind.executed is False, "a refusal says that trying elsewhere is harmless"
            assert kind.code in (code_pb2.UNAVAILABLE, code_pb2.RESOURCE_EXHAUSTED)


def test_the_tree_at_the_top_of_the_module_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if matched := re.match(r"((?:[│ ]   )*)[├└]── (\w+)", line):
            depth = len(matched[1]) // 4
            path[depth:] = [matched[2]]
            drawn[matched[2]] = path[depth - 1] if depth else "AtomeshError"
    real = {kind.__name__: kind.__base__.__name__ for kind in EVERY if kind.__base__}
    assert drawn == real


def test_the_drawing_of_the_tree_has_no_error_twice() -> None:
    names = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert len(names) == len(set(names)) == len(EVERY)


def test_an_authors_details_arrive_as_a_mapping() -> None:
    raised = AgentFailed("no such ticket", reason="NO_TICKET", details={"ticket": 7, "seen": ["a", None]})
    arrived = from_status(to_status(raised))
    assert isinstance(arrived, AgentFailed)
    assert arrived.data == {"ticket": 7, "seen": ["a", None]}
    assert arrived.executed is True
    assert AgentFailed("no details").data == {}


def test_an_authors_own_details_are_not_taken_for_ours() -> None:
    own = [
        error_details_pb2.BadRequest(field_violations=[{"field": "x", "description": "y"}]),
        error_details_pb2.ErrorInfo(reason="THEIRS", domain="example.com"),
        error_details_pb2.ErrorInfo(reason="NO_FREE_SLOT", domain="atomesh"),
        error_details_pb2.RetryInfo(),
    ]
    arrived = from_status(to_status(AgentFailed("it", reason="MINE", details=own, retry_after=1.0)))
    assert (arrived.reason, arrived.retry_after) == ("MINE", 1.0)
    assert list(arrived.details) == own, "details arrive intact"


def test_an_empty_reason_is_the_default_one() -> None:
    assert AgentFailed("x", reason="").reason == "AGENT_FAILED"


def test_an_error_lists_its_attempts_where_there_were_several() -> None:
    error = errors.ConnectionLost("cut off")
    error.attempts = (Attempt("h:1", "CONNECTION_LOST", 0.0123, None),)
    assert str(error) == "cut off"
    error.attempts += (Attempt("h:2", "DRAINING", 1.5, False),)
    assert str(error) == "cut off (tried h:1 CONNECTION_LOST after 12 ms; h:2 DRAINING after 1500 ms)"


def test_violations_are_the_message_where_there_is_none() -> None:
    assert str(errors.InvalidInput(violations=VIOLATIONS)) == "invalid input: a.b[2]: must not be empty; no field's"
    assert str(errors.InvalidArgument(violations=VIOLATIONS)).startswith("invalid request: a.b[2]: ")
    assert str(errors.InvalidOutput(violations=VIOLATIONS)).startswith("invalid output: a.b[2]: ")


def test_a_subclass_of_an_error_travels_as_what_it_is_a_kind_of() -> None:
    class QuotaUsedUp(AgentFailed):
        """An author's own."""

    arrived = from_status(to_status(QuotaUsedUp("none left", reason="QUOTA")))
    assert type(arrived) is AgentFailed
    assert arrived.reason == "QUOTA"
