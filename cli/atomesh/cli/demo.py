"""`atomesh demo`: real work while one endpoint is killed, one drained, and one joins; and nothing lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from atomesh.cli._errors import ExitCode
from atomesh.cli._flags import Json
from atomesh.cli._output import note, say, say_json

if TYPE_CHECKING:
    from atomesh.cli._demo_stage import Stage

DEFAULT_DOCUMENTS = 9000
"""Five to ten seconds of work on two cores: half is over before the newcomer of
the second half has joined, twice is longer than anybody watches."""


def demo(
    documents: Annotated[
        int, typer.Option("--documents", min=1000, max=200_000, help="How many texts to process.")
    ] = DEFAULT_DOCUMENTS,
    keep: Annotated[bool, typer.Option("--keep", help="Keep all running until Ctrl-C at the end.")] = False,
    as_json: Json = False,
) -> int:
    """Process thousands of documents while endpoints are killed, drained and added.

    A registry and three text agents as processes of their own, on free ports of
    this machine and with their data in a temporary directory; a client in this
    process. At a third one endpoint is killed, at half another is drained and a
    new one joins. Then a third as many go through a pipeline as a batch, and two more
    endpoints are killed, one of an agent that must not run twice. Ends with what
    happened; exit code 0 only if nothing was lost and nothing done twice.

    \b
    atomesh demo
    atomesh demo --documents 20000 --keep
    """
    import logging

    # The story tells of what matters; the library's own logs would tear the picture.
    logging.getLogger("atomesh").addHandler(logging.NullHandler())
    logging.getLogger("atomesh").propagate = False
    return asyncio.run(_demo(documents, keep=keep, as_json=as_json))


async def _demo(documents: int, *, keep: bool, as_json: bool) -> int:
    from atomesh.cli._demo_stage import Stage
    from atomesh.cli._processes import Signals

    with Signals() as signals:
        async with Stage(documents, silent=as_json) as stage:
            playing = asyncio.create_task(_play(stage, documents, as_json=as_json, keep=keep))
            stopped = asyncio.create_task(signals.came.wait())
            try:
                await asyncio.wait([playing, stopped], return_when=asyncio.FIRST_COMPLETED)
                if not playing.done():
                    note("stopped before the end; ending all processes")
                    return ExitCode.INTERRUPTED
                ok = await playing
                if keep:
                    await stopped
                return ExitCode.OK if ok else ExitCode.FAILED
            finally:
                for task in (playing, stopped):
                    task.cancel()
                await asyncio.gather(playing, stopped, return_exceptions=True)


async def _play(stage: Stage, documents: int, *, as_json: bool, keep: bool) -> bool:
    """The whole piece; whether it went as it should."""
    from atomesh.cli._demo_view import show_report

    if not as_json:
        say("starting a registry and three text agents, each a process of its own ...")
    from atomesh.cli._demo_batch import told

    ready = await stage.open()
    if not as_json:
        say(ready)
    await stage.play()
    report = stage.report()
    if not as_json:
        show_report(report)
        say("")
        say(
            "now a pipeline over the documents: summary, then mood and keywords, then filed by an agent that must not run twice"
        )
    report["pipeline"] = filed = await stage.file(max(1000, documents // 3))
    report["ok"] = report["ok"] and not filed["problems"]
    if as_json:
        say_json(report)
        return bool(report["ok"])
    say(told(filed))
    for problem in filed["problems"]:
        say(f"  problem: {problem}")
    say("")
    how_long = "until Ctrl-C" if keep else "ended with the demo; --keep keeps all running"
    say(f"metrics ({how_long}):")
    for name, url in report["metrics"].items():
        say(f"  {name:<10} {url}")
    if not keep:
        say("go on with: atomesh up")
    return bool(report["ok"])
