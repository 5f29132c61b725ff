"""One exit code for each kind of end."""

from __future__ import annotations

import pytest

from atomesh.cli._errors import CliError, ExitCode, explain
from atomesh.core import errors
from atomesh.core.errors import Origin


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInput("x"), ExitCode.USAGE),
        (errors.WrongType("x"), ExitCode.USAGE),
        (errors.MessageTooLarge("x"), ExitCode.USAGE),
        (errors.MessageTooLarge("an output", executed=True), ExitCode.FAILED),
        (errors.Unauthenticated("x"), ExitCode.USAGE),
        (errors.UnknownAgent("x"), ExitCode.NOT_FOUND),
        (errors.NoEndpoint("x"), ExitCode.UNAVAILABLE),
        (errors.RegistryUnavailable("x"), ExitCode.UNAVAILABLE),
        (errors.ConnectionLost("x"), ExitCode.UNAVAILABLE),
        (errors.DeadlineExceeded("x"), ExitCode.DEADLINE),
        (errors.AgentFailed("x"), ExitCode.FAILED),
        (errors.AgentCrashed("x"), ExitCode.FAILED),
        (errors.InvalidOutput("x"), ExitCode.FAILED),
        (CliError("x", ExitCode.NOT_FOUND), ExitCode.NOT_FOUND),
        (ZeroDivisionError("x"), ExitCode.FAILED),
        (ExceptionGroup("together", [errors.NoEndpoint("x")]), ExitCode.UNAVAILABLE),
    ],
)
def test_each_error_has_its_exit_code(error: BaseException, code: ExitCode) -> None:
    assert explain(error)[1] is code


def test_a_failed_run_of_a_served_pipeline_is_told_by_its_message_alone() -> None:
    trace = {"run_id": "r", "failed_stage": "b", "stages": ["a success 3 ms", "b failed 2 ms"]}
    failed = errors.AgentFailed("stage b of report failed: no such ticket (run r)", reason="RUN_FAILED", details=trace)
    assert explain(failed)[0] == "stage b of report failed: no such ticket (run r)", "its record has all the rest"


def test_an_agents_own_error_arrives_with_details_place_and_request() -> None:
    origin = Origin(agent="a", endpoint="127.0.0.1:7", request_id="r-1")
    line, _ = explain(errors.AgentFailed("no such ticket", details={"ticket": 7}, origin=origin))
    assert line == "no such ticket; details ticket=7 [endpoint 127.0.0.1:7, request r-1]"
