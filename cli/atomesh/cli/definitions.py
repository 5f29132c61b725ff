"""`atomesh definitions`: how agents are started, kept in the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import EXIT_CODES_HELP, ExitCode
from atomesh.cli._flags import Json, expanded
from atomesh.cli._output import cell, console, escape, note, say, say_json, to_json
from atomesh.cli._pipelines import StoreFlags

if TYPE_CHECKING:
    from rich.table import Table

    from atomesh.cli._settings import Settings
    from atomesh.v1 import pipeline_pb2

Name = Annotated[str, typer.Argument(metavar="NAME", help="The definition's name.", show_default=False)]


def app() -> typer.Typer:
    """The verbs of `atomesh definitions`."""
    verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="How agents are started.")
    for verb in (ls, show, add, delete):
        verbs.command(verb.__name__, epilog=EXIT_CODES_HELP)(expanded(verb))

    @verbs.callback()
    def group() -> None:
        """How agents are started."""

    return verbs


def ls(flags: StoreFlags, as_json: Json = False) -> int:
    """List all definitions.

    \b
    atomesh definitions ls
    """
    from atomesh.cli._settings import load

    return asyncio.run(_ls(load(flags), as_json=as_json))


async def _ls(settings: Settings, *, as_json: bool) -> int:
    from atomesh.cli._pipelines import opened_store

    async with opened_store(settings) as store:
        found = await store.list_definitions()
    if as_json:
        say_json([definition_data(definition) for definition in found])
    elif found:
        console().print(_table(found))
    else:
        note(f"no agent is defined in {store.name}; `atomesh definitions add FILE` defines one")
    return ExitCode.OK


def show(name: Name, flags: StoreFlags, as_json: Json = False) -> int:
    """Show a definition.

    \b
    atomesh definitions show my-summarizer
    """
    from atomesh.cli._settings import load

    return asyncio.run(_show(name, load(flags), as_json=as_json))


async def _show(name: str, settings: Settings, *, as_json: bool) -> int:
    from atomesh.cli._pipelines import opened_store

    async with opened_store(settings) as store:
        data = definition_data(await store.get_definition(name))
    if as_json:
        say_json(data)
        return ExitCode.OK
    for key, value in data.items():
        if value not in (None, "", [], {}):
            say(escape(f"{key + ':':<15}{value if isinstance(value, str) else to_json(value, indent=None)}"))
    return ExitCode.OK


def add(
    file: Annotated[str, typer.Argument(metavar="FILE", help="YAML or JSON; - is stdin.", show_default=False)],
    flags: StoreFlags,
    as_json: Json = False,
) -> int:
    """Store a definition, over what has its name. Nothing of it is imported.

    \b
    atomesh definitions add summarizer.yaml
    """
    from atomesh.cli._messages import read_file
    from atomesh.cli._settings import load
    from atomesh.pipelines.definitions import read_definition

    definition = read_definition(read_file(file), "stdin" if file == "-" else file)
    return asyncio.run(_add(definition, load(flags), as_json=as_json))


async def _add(definition: pipeline_pb2.Definition, settings: Settings, *, as_json: bool) -> int:
    from atomesh.cli._pipelines import opened_store
    from atomesh.core.clock import SYSTEM_CLOCK
    from atomesh.core.times import set_timestamp

    set_timestamp(definition.stored_at, SYSTEM_CLOCK.wall())
    async with opened_store(settings) as store:
        await store.put_definition(definition)
    if as_json:
        say_json(definition_data(definition))
    else:
        say(escape(f"{definition.name} is defined; `atomesh start {definition.name}` starts it"))
    return ExitCode.OK


def delete(name: Name, flags: StoreFlags) -> int:
    """Delete a definition; what was started of it goes on.

    \b
    atomesh definitions delete my-summarizer
    """
    from atomesh.cli._settings import load

    return asyncio.run(_delete(name, load(flags)))


async def _delete(name: str, settings: Settings) -> int:
    from atomesh.cli._pipelines import opened_store

    async with opened_store(settings) as store:
        await store.delete_definition(name)
    say(escape(f"{name} is no longer defined"))
    return ExitCode.OK


def definition_data(definition: pipeline_pb2.Definition) -> dict[str, Any]:
    """The keys of a definition's file, and when it was stored."""
    from atomesh.cli._tables import timestamp
    from atomesh.core.times import from_timestamp
    from atomesh.pipelines.definitions import configuration_of, show_bytes

    return {
        "name": definition.name,
        "module": definition.module,
        "class": definition.class_name,
        "description": definition.description,
        "capabilities": list(definition.capabilities),
        "configuration": configuration_of(definition),
        "memory": show_bytes(definition.memory_bytes) if definition.memory_bytes else None,
        "cpus": definition.cpus or None,
        "stored_at": timestamp(from_timestamp(definition.stored_at)) if definition.HasField("stored_at") else None,
    }


def _table(found: list[pipeline_pb2.Definition]) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("name", "class", "memory", "cpus", "capabilities"):
        table.add_column(column, overflow="fold")
    for definition in found:
        data = definition_data(definition)
        table.add_row(
            cell(definition.name, "bold"),
            cell(f"{definition.module}:{definition.class_name}"),
            cell(data["memory"] or ""),
            cell(f"{definition.cpus:g}" if definition.cpus else ""),
            cell(", ".join(definition.capabilities)),
        )
    return table
