"""What came of a run that this process ran: its output, all of it as JSON, or the line of its error."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from atomesh.cli._errors import CliError, ExitCode, code_of
from atomesh.cli._output import say_json, to_json
from atomesh.cli._run_words import short

if TYPE_CHECKING:
    from atomesh.cli._run_view import RunView
    from atomesh.pipelines.record import RunRecord
    from atomesh.pipelines.running import Outcome

_ALL = 1 << 40  # bytes: whoever asks for all of a run gets its outputs whole


async def ended(view: RunView, run: Awaitable[Outcome], *, durable: bool) -> tuple[RunRecord, Exception | None]:
    """The record of a run once it has ended, and the error that it ended with."""
    from atomesh.pipelines import RunCancelled, RunFailed

    try:
        return (await run).record, None
    except (RunFailed, RunCancelled) as error:
        return error.run, error
    except asyncio.CancelledError:
        if durable:
            view.leave()
        raise


def shown(record: RunRecord, failure: Exception | None, output_file: str | None, *, as_json: bool) -> int:
    """Shows what came of a run: its output, or all of it as JSON; raises the error that it ended with."""
    if as_json:
        from atomesh.cli._run_data import run_data

        types = record.types.descriptor_set if record.types is not None else b""
        say_json(run_data(record.to_proto(_ALL), types))
    if failure is None and not (as_json and output_file is None):
        _write(output_file, record.output)
    if failure is not None:
        raise _failure(record, failure)
    return ExitCode.OK


def _failure(record: RunRecord, error: Exception) -> CliError:
    """The one line of a run that did not go well: what, where, and where all of it is shown."""
    failure = record.failure
    cause = error.__cause__ if failure is not None and isinstance(error.__cause__, Exception) else error
    what = str(error) if failure is None else failure.message
    where = f"stage {failure.stage}: " if failure is not None and failure.stage else ""
    hint = f"`atomesh runs status {short(record.id)}` shows all of it"
    return CliError(f"{record.pipeline} {record.status.name.lower()}: {where}{what}; {hint}", code_of(cause))


def _write(name: str | None, output: Any) -> None:
    from atomesh.cli._pipelines import output_data, write_output

    plain = name is None and not sys.stdout.isatty()
    write_output(name, to_json(output_data(output), indent=None if plain else 2))
