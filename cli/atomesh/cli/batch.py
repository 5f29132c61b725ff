"""`atomesh batch TARGET`: a file of JSON lines through an agent or a pipeline, as fast as slots allow, resumable."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

import typer

from atomesh.cli._errors import UsageMistake
from atomesh.cli._flags import Json
from atomesh.cli._tracing import Calling


@dataclass(frozen=True)
class Files:
    """Where inputs come from, and where what becomes of them goes."""

    input_file: Annotated[
        str | None,
        typer.Option(
            "--input-file", metavar="FILE|-", help="The inputs, one JSON per line; - is stdin.", show_default=False
        ),
    ] = None
    output_file: Annotated[
        str | None,
        typer.Option(
            "--output-file", metavar="FILE|-", help="The outputs, one JSON per line [stdout].", show_default=False
        ),
    ] = None
    reject_file: Annotated[
        str | None,
        typer.Option(
            "--reject-file",
            metavar="FILE",
            help="Lines that are no inputs, and why [OUTPUT.rejects].",
            show_default=False,
        ),
    ] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on: lines with an output are done.")] = False
    repeat_unknown: Annotated[
        bool,
        typer.Option(
            "--repeat-unknown", help="With --resume: also what was sent, and may have been done, is sent again."
        ),
    ] = False


@dataclass(frozen=True)
class Manner:
    """How it is done."""

    pairs: Annotated[
        bool, typer.Option("--pairs", help='Each line names its agent: {"agent": ..., "input": {...}}.')
    ] = False
    ordered: Annotated[bool, typer.Option("--ordered", help="Outputs in the order of the inputs.")] = False
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency", metavar="N", help="At most so many at once [the slots there are].", show_default=False
        ),
    ] = None
    item_timeout: Annotated[
        float, typer.Option("--item-timeout", metavar="SECONDS", help="What one line may take.")
    ] = 60.0
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="What all of them may take.")] = 300.0
    min_success: Annotated[
        float, typer.Option("--min-success", metavar="SHARE", help="The share that must succeed, 0 to 1.")
    ] = 0.5
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 where anything failed.")] = False


def batch(
    files: Files,
    manner: Manner,
    flags: Calling,
    agent: Annotated[
        str | None,
        typer.Argument(
            metavar="AGENT|FILE|NAME",
            help="An agent, a pipeline's file, or a stored pipeline; not with --pairs.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Send a file of inputs to an agent or a pipeline, as many at once as there are slots.

    \b
    atomesh batch text-processor --input-file in.jsonl --output-file out.jsonl
    atomesh batch text-processor --input-file in.jsonl --output-file out.jsonl --resume
    atomesh batch report.yaml --input-file in.jsonl --output-file out.jsonl
    atomesh batch --pairs --input-file - < pairs.jsonl > out.jsonl

    Exit code 0 where at least --min-success of the lines have an output.
    """
    from atomesh.cli._batch_run import Run
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    _check(agent, files, manner, as_json=as_json)
    settings = load(flags)
    configure(settings, quiet=True)
    return asyncio.run(Run(agent, files, manner, settings, as_json=as_json).run())


def _check(agent: str | None, files: Files, manner: Manner, *, as_json: bool) -> None:
    """What is wrong with the flags by themselves."""
    if (agent is None) != manner.pairs:
        raise UsageMistake("name an agent or a pipeline, or give --pairs and an agent in each line: one of them")
    if files.input_file is None:
        raise UsageMistake("--input-file is missing; give a file of JSON lines, or - for stdin")
    to_file = files.output_file not in (None, "-")
    if not to_file and (files.resume or as_json):
        flag = "--resume" if files.resume else "--json"
        raise UsageMistake(f"{flag} needs --output-file: a file that outputs go to")
    if files.repeat_unknown and not files.resume:
        raise UsageMistake("--repeat-unknown goes with --resume")
    if manner.concurrency is not None and manner.concurrency < 1:
        raise UsageMistake(f"--concurrency is {manner.concurrency}; expected 1 or more")
    for flag, seconds in (("--item-timeout", manner.item_timeout), ("--timeout", manner.timeout)):
        if not 0 < seconds < 1e9:
            raise UsageMistake(f"{flag} is {seconds:g}; expected a positive number of seconds")
    if not 0 <= manner.min_success <= 1:
        raise UsageMistake(f"--min-success is {manner.min_success:g}; expected a share from 0 to 1")
