"""The command `atomesh`: which verbs there are, and how it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from atomesh.cli import (
    agents,
    batch,
    call,
    check_contract,
    config,
    definitions,
    demo,
    describe,
    doctor,
    drain,
    pipeline,
    plan,
    process_text,
    proto,
    registry,
    run_pipeline,
    runs,
    serve,
    start,
    stats,
    up,
    version,
)
from atomesh.cli._errors import EXIT_CODES_HELP, ExitCode, explain, single
from atomesh.cli._flags import expanded
from atomesh.cli._output import fail

DEBUG = "--debug"
# Both of click's: typer carries click within itself from some version on, so
# that there is no one import for all versions.
_UsageError = typer.BadParameter.__mro__[1]
_ClickException = _UsageError.__mro__[1]


def _version(asked: bool) -> None:
    if asked:
        version.version()
        raise typer.Exit


def _root(
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the trace of an unexpected error; goes anywhere.")] = False,
    shown: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the versions and exit.")
    ] = False,
) -> None:
    """A service mesh for typed agents.

    \b
    atomesh up                                  a registry and three agents, here
    atomesh agents                              who is there
    atomesh process-text --text "It works."     ask the text agent
    atomesh serve my_module:MyAgent             serve your own
    """


def build() -> typer.Typer:
    """The command with all its verbs."""
    app = typer.Typer(
        name="atomesh",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EXIT_CODES_HELP,
    )
    app.callback()(_root)
    for verb in (
        up,
        registry,
        serve,
        agents,
        describe,
        call,
        batch,
        process_text,
        drain,
        stats,
        start,
        run_pipeline,
        plan,
        check_contract,
        doctor,
        version,
        demo,
    ):
        name = verb.__name__.rpartition(".")[2].replace("_", "-")
        app.command(name, epilog=EXIT_CODES_HELP)(expanded(getattr(verb, name.replace("-", "_"))))
    app.add_typer(pipeline.app(), name="pipeline")
    app.add_typer(runs.app(), name="runs")
    app.add_typer(definitions.app(), name="definitions")
    app.add_typer(proto.app(), name="proto")
    app.add_typer(config.app(), name="config")
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; the exit code."""
    # gRPC's C core writes of every refused connection to stderr, past any logging.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in given
    code = _run([argument for argument in given if argument != DEBUG], debug)
    return _flushed(code)


def _run(arguments: list[str], debug: bool) -> int:
    try:
        ended: Any = build()(args=arguments, prog_name="atomesh", standalone_mode=False)
        return int(ended or 0)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except typer.Exit as ended:
        return ended.exit_code
    except Exception as error:
        if isinstance(error, _ClickException):
            return _usage(error)
        if isinstance(single(error), BrokenPipeError):
            return _silenced()
        if debug:
            raise
        line, code = explain(error)
        fail(line)
        return code


def _usage(error: Any) -> int:
    """A verb or flag that is none, in one line; nothing at all typed shows the help instead."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{message}\n")
    else:
        path = context.command_path if context is not None else "atomesh"
        fail(f"{message.rstrip('.')}; see `{path} --help`")
    return ExitCode.USAGE


def _silenced() -> int:
    """Whoever read our output went away (`| head`): not worth a word."""
    # Python flushes stdout once more at its end, and would complain then.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return ExitCode.FAILED


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _silenced()
    return code
