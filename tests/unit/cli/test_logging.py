"""A record says who asked and on which way."""

from __future__ import annotations

import json
import logging

import pytest

from atomesh.cli._flags import Basics
from atomesh.cli._logging import configure
from atomesh.cli._settings import load
from atomesh.core.context import Context, Scope, enter

Capture = pytest.CaptureFixture[str]


def test_records_carry_the_execution_that_they_were_logged_in(capsys: Capture) -> None:
    configure(load(Basics(), environment={}))
    context = Context(request_id="r1", user_id="Zoë", session_id="s1", traceparent="00-1-2-01")
    with enter(Scope(context, 10.0, "greeter")):
        logging.getLogger("somebody").info("hello %s", "there")
    record = json.loads(capsys.readouterr().err)
    assert record["message"] == "hello there"
    assert {key: record[key] for key in ("request_id", "user_id", "session_id", "traceparent", "agent")} == {
        "request_id": "r1",
        "user_id": "Zoë",
        "session_id": "s1",
        "traceparent": "00-1-2-01",
        "agent": "greeter",
    }
    assert record["level"] == "info"


def test_what_the_logger_gives_stands_before_the_scope(capsys: Capture) -> None:
    configure(load(Basics(), environment={}))
    with enter(Scope(Context(request_id="outer"), 10.0, "a")):
        logging.getLogger("x").warning("m", extra={"request_id": "own", "agent": "b"})
    record = json.loads(capsys.readouterr().err)
    assert (record["request_id"], record["agent"]) == ("own", "b")


def test_an_exception_is_part_of_its_record(capsys: Capture) -> None:
    configure(load(Basics(), environment={}))
    try:
        raise KeyError("lost")
    except KeyError:
        logging.getLogger("x").exception("it failed")
    [line] = capsys.readouterr().err.splitlines()
    assert "KeyError" in json.loads(line)["exception"]


def test_text_for_people_has_no_control_characters_of_others(capsys: Capture) -> None:
    configure(load(Basics(log_format="text"), environment={}))
    logging.getLogger("x").warning("agent said %s", "\x1b[2J", extra={"agent": "a\x07"})
    said = capsys.readouterr().err
    assert "\x1b[2J" not in said
    assert "\x07" not in said
    assert "\\x1b[2J" in said


def test_a_verb_whose_stderr_is_for_its_error_logs_errors_only_unless_asked(capsys: Capture) -> None:
    configure(load(Basics(), environment={}), quiet=True)
    logging.getLogger("x").warning("not for now")
    assert capsys.readouterr().err == ""
    configure(load(Basics(log_level="debug"), environment={}), quiet=True)
    logging.getLogger("x").debug("asked for")
    assert "asked for" in capsys.readouterr().err
