"""Verbs of `atomesh pipeline` on stored pipelines: add, ls, delete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from atomesh.cli._errors import ExitCode
from atomesh.cli._flags import Json
from atomesh.cli._output import cell, console, note, say_json
from atomesh.cli._pipelines import StoreFlags

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings


def add(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Pipelines, YAML or JSON.")], flags: StoreFlags
) -> int:
    """Store pipelines under their names, over what was there.

    \b
    atomesh pipeline add report.yaml
    """
    from atomesh.cli._settings import load

    return asyncio.run(_add(files, load(flags)))


async def _add(files: list[str], settings: Settings) -> int:
    from atomesh.cli._pipelines import opened_store, read_file
    from atomesh.core.clock import SYSTEM_CLOCK
    from atomesh.pipelines.shelf import stored

    async with opened_store(settings) as store:
        for name in files:
            _, source, text = read_file(name)
            pipeline = stored(text, source.name, SYSTEM_CLOCK.wall())
            await store.put_pipeline(pipeline)
            note(f"stored {pipeline.name} {pipeline.version} in {store.name}")
    return ExitCode.OK


def ls(flags: StoreFlags, as_json: Json = False) -> int:
    """List stored pipelines."""
    from atomesh.cli._settings import load

    return asyncio.run(_ls(load(flags), as_json=as_json))


async def _ls(settings: Settings, *, as_json: bool) -> int:
    from atomesh.cli._pipelines import opened_store
    from atomesh.cli._rows import Column, Row, laid_out, room, show
    from atomesh.cli._tables import ago, timestamp
    from atomesh.core.clock import SYSTEM_CLOCK
    from atomesh.core.times import from_timestamp

    async with opened_store(settings) as store:
        pipelines = await store.list_pipelines()
    if as_json:
        told = [(p.name, p.version, timestamp(from_timestamp(p.stored_at)), p.description) for p in pipelines]
        say_json([dict(zip(("name", "version", "stored_at", "description"), each, strict=True)) for each in told])
    elif pipelines:
        now, out = SYSTEM_CLOCK.wall(), console()
        columns = (Column("pipeline", least=12), Column("version"), Column("stored", right=True))
        rows = [
            Row(
                {
                    "pipeline": cell(p.name, "bold"),
                    "version": cell(p.version),
                    "stored": cell(ago(now - from_timestamp(p.stored_at))),
                },
                [cell(" ".join(p.description.split()), "dim")] if p.description else [],
            )
            for p in pipelines
        ]
        show(out, laid_out(columns, rows, room(out)))
    else:
        note(f"no pipeline is stored in {store.name}; `atomesh pipeline add FILE` stores one")
    return ExitCode.OK


def delete(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Stored pipelines.", show_default=False)],
    flags: StoreFlags,
) -> int:
    """Forget stored pipelines; their runs stay."""
    from atomesh.cli._settings import load

    return asyncio.run(_delete(names, load(flags)))


async def _delete(names: list[str], settings: Settings) -> int:
    from atomesh.cli._pipelines import opened_store

    async with opened_store(settings) as store:
        for name in names:
            await store.delete_pipeline(name)
            note(f"deleted {name} from {store.name}")
    return ExitCode.OK
