"""What a user is told when something goes wrong: one line that says what to do, and a code for scripts.

Never a traceback for a user's mistake. What nobody expected is one line too;
`--debug` shows its trace.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How `atomesh` ends, the same for all verbs."""

    OK = 0
    FAILED = 1
    """The call, the agent or the server failed."""
    USAGE = 2
    """What was typed, configured or given as input is wrong."""
    NOT_FOUND = 3
    """No such agent or endpoint."""
    UNAVAILABLE = 4
    """No registry, or no endpoint, answers."""
    DEADLINE = 5
    """Out of time."""
    INTERRUPTED = 130
    """Ctrl-C."""


EXIT_CODES_HELP = (
    "Exit codes: 0 done, 1 the call or agent failed, 2 wrong usage, configuration or input, "
    "3 no such agent or endpoint, 4 no registry or endpoint answers, 5 deadline over, 130 Ctrl-C."
)


class CliError(Exception):
    """A user's mistake, or what a user can do something about. The message is one line."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        """The message says what is wrong, which one, and what to do next."""
        super().__init__(message)
        self.message = message
        self.code = code


class UsageMistake(CliError):
    """What was given is wrong in itself."""


def explain(error: BaseException) -> tuple[str, ExitCode]:
    """The line for people and the code for scripts; not a line's end yet, and not escaped."""
    error = single(error)
    if isinstance(error, CliError):
        return error.message, error.code
    from atomesh.core.errors import AtomeshError

    if isinstance(error, AtomeshError):
        return _told(error), code_of(error)
    return f"unexpected {type(error).__name__}: {error}; run with --debug for the trace", ExitCode.FAILED


def single(error: BaseException) -> BaseException:
    """The first of tasks that ran together to fail, which is what ended the others."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _told(error: Exception) -> str:
    """An error of the mesh with where it arose, as far as that is known and not said already."""
    text = str(error)
    origin = getattr(error, "origin", None)
    known = [
        f"{name} {value}"
        for name, value in (
            ("endpoint", getattr(origin, "endpoint", "")),
            ("request", getattr(origin, "request_id", "")),
        )
        if value and value not in text
    ]
    # Of a pipeline's run the message has the stage and the run's id, and its record has all the rest.
    data = getattr(error, "data", None) if getattr(error, "reason", "") != "RUN_FAILED" else None
    details = "; details " + ", ".join(f"{key}={value}" for key, value in data.items()) if data else ""
    return text + details + (f" [{', '.join(known)}]" if known and _ran(error) else "")


def _ran(error: Exception) -> bool:
    """Whether an agent had to do with it: then its log has more, under the request's id."""
    return getattr(error, "executed", None) is True


def code_of(error: BaseException) -> ExitCode:
    """The exit code that an error of the mesh stands for."""
    from atomesh.core import errors

    if isinstance(error, errors.MessageTooLarge) and error.executed:
        return ExitCode.FAILED  # it is the agent's output
    table = (
        (errors.DeadlineExceeded, ExitCode.DEADLINE),
        (errors.Cancelled, ExitCode.FAILED),
        (errors.NotFound, ExitCode.NOT_FOUND),
        (errors.InvalidArgument, ExitCode.USAGE),
        (errors.MessageTooLarge, ExitCode.USAGE),
        (errors.Unauthenticated, ExitCode.USAGE),
        (errors.PermissionDenied, ExitCode.USAGE),
        (errors.Refused, ExitCode.UNAVAILABLE),
        (errors.ConnectionLost, ExitCode.UNAVAILABLE),
    )
    return next((code for kind, code in table if isinstance(error, kind)), ExitCode.FAILED)
