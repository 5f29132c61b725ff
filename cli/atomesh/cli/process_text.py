"""`atomesh process-text`: the text agent at hand, through the mesh or in this process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import ExitCode, UsageMistake
from atomesh.cli._output import data_text, note, say, say_json, to_json
from atomesh.cli.call import CallFlags, check_registry

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings
    from atomesh.text.v1.text_pb2 import TextInput, TextOutput

AGENT = "text-processor"
MAX_CHARACTERS = 10_000
"""The contract's own limit; said here before anything is sent, with the count."""


@dataclass(frozen=True)
class Work:
    """What is to be done with which text."""

    text: Annotated[str | None, typer.Option("--text", help="The text itself.", show_default=False)] = None
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE|-", help="A file with the text, UTF-8.", show_default=False)
    ] = None
    operation: Annotated[str, typer.Option("--operation", help="summarize, extract_keywords or sentiment.")] = (
        "summarize"
    )
    max_sentences: Annotated[
        int | None, typer.Option("--max-sentences", help="Of the summary, 1 to 100 [3].", show_default=False)
    ] = None
    top_k: Annotated[int | None, typer.Option("--top-k", help="Keywords, 1 to 100 [10].", show_default=False)] = None
    language: Annotated[
        str | None, typer.Option("--language", help="ISO 639-1, such as en [en].", show_default=False)
    ] = None


def process_text(
    work: Work,
    flags: CallFlags,
    output: Annotated[
        str | None, typer.Option("--output", metavar="FILE", help="Write the result there.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All of the output as JSON.")] = False,
) -> int:
    """Summarize a text, extract its keywords, or tell its sentiment.

    Through the mesh; where no registry answers, in this process.

    \b
    atomesh process-text --operation sentiment --text "I love it."
    atomesh process-text --file article.txt --max-sentences 2
    cat article.txt | atomesh process-text --operation extract_keywords --file -
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings, quiet=True)
    message = _message(work)
    result = asyncio.run(_process(message, settings))
    _deliver(result, output, as_json)
    return ExitCode.OK


def _message(work: Work) -> TextInput:
    from atomesh.cli._messages import read_file
    from atomesh.text.v1.text_pb2 import TextInput

    if (work.text is None) == (work.file is None):
        raise UsageMistake("give the text with --text, or a file with --file (- is stdin): one of them")
    content = work.text if work.file is None else read_file(work.file)
    if content is None or len(content) > MAX_CHARACTERS:
        raise UsageMistake(
            f"the text has {len(content or '')} characters, the limit is {MAX_CHARACTERS}; cut it, or send it in parts"
        )
    message = TextInput()
    try:
        message.content, message.operation = content, work.operation
        if work.language is not None:
            message.options.language = work.language
    except ValueError:  # what the shell gave is no UTF-8, and stands here as lone surrogates
        raise UsageMistake("the text, operation or language is not UTF-8; convert it first") from None
    for name in ("max_sentences", "top_k"):
        value = getattr(work, name)
        if value is None:
            continue
        if not 1 <= value <= 100:
            raise UsageMistake(f"--{name.replace('_', '-')} is {value}; expected 1 to 100")
        setattr(message.options, name, value)
    return message


async def _process(message: TextInput, settings: Settings) -> TextOutput:
    from atomesh.core.errors import RegistryUnavailable

    try:
        await check_registry(settings)
    except RegistryUnavailable as error:
        if "registry" in settings.sources:
            note(f"{error.message}; working in this process instead")
        else:
            note(f"no registry answers at {settings.mesh.registry}; working in this process")
        return await _in_process(message, settings)
    from atomesh.cli._tracing import opened_tracer
    from atomesh.cli.call import open_client
    from atomesh.core import Contract
    from atomesh.text.v1.text_pb2 import TextInput, TextOutput

    contract = Contract(AGENT, TextInput, TextOutput)
    async with opened_tracer(settings) as tracer, open_client(settings, [], tracer) as mesh:
        return await mesh.call(contract, message)


async def _in_process(message: TextInput, settings: Settings) -> TextOutput:
    from atomesh.agents import run_once
    from atomesh.agents.builtin.text.agent import TextProcessor

    return await run_once(TextProcessor(), message, timeout=settings.mesh.deadline)


def _deliver(result: TextOutput, output: str | None, as_json: bool) -> None:
    from atomesh.cli._messages import to_data

    data: Any = to_data(result, whole=True)
    if output is None:
        if as_json:
            say_json(data)
        else:
            say(data_text(result.result))
        return
    try:
        Path(output).write_text((to_json(data) if as_json else result.result) + "\n", "utf-8")
    except (OSError, ValueError) as error:
        raise UsageMistake(f"{output!r:.200} cannot be written: {getattr(error, 'strerror', None) or error}") from None
    note(f"wrote {output}")
