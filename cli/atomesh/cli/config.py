"""`atomesh config show`: which values hold, and where each comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import EXIT_CODES_HELP, ExitCode
from atomesh.cli._flags import Basics, Json, expanded
from atomesh.cli._output import cell, console, say, say_json

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings


def app() -> typer.Typer:
    """The verbs of `atomesh config`."""
    verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Settings and where they come from.")
    verbs.command("show", epilog=EXIT_CODES_HELP)(expanded(show))

    @verbs.callback()
    def group() -> None:
        """Settings and where they come from."""

    return verbs


def show(
    flags: Basics,
    as_json: Json = False,
    given: Annotated[bool, typer.Option("--given", help="Only what is not a default.")] = False,
) -> int:
    """Show every setting with its source: flag, environment, file or default.

    Files that hold secrets are named, never shown.

    \b
    atomesh config show
    ATOMESH_REGISTRY=10.0.0.5:7400 atomesh config show --given
    """
    from atomesh.cli._settings import load

    settings = load(flags)
    rows = [row for row in settings.rows() if not given or row[3] != "default"]
    if as_json:
        say_json({"file": str(settings.file) if settings.file else None, "settings": [_data(*row) for row in rows]})
    else:
        _table(rows, settings)
    return ExitCode.OK


def _data(table: str, key: str, value: Any, source: str) -> dict[str, Any]:
    from atomesh.cli._settings import variable_of

    return {"table": table, "key": key, "value": value, "source": source, "environment": variable_of(table, key)}


def _table(rows: list[tuple[str, str, Any, str]], settings: Settings) -> None:
    import os

    from rich.table import Table

    from atomesh.cli._settings import default_config_path, variable_of

    none = f"none (looked for {default_config_path(os.environ)})"
    say(f"configuration file: {settings.file or none}")
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("setting", "value", "source", "environment variable"):
        table.add_column(name, overflow="fold")
    for name, key, value, source in rows:
        style = "" if source == "default" else "bold"
        table.add_row(
            cell(f"[{name}] {key}", style),
            cell(_shown(value), style),
            cell(source, style),
            cell(variable_of(name, key)),
        )
    console().print(table)


def _shown(value: Any) -> str:
    if value is None:
        return "(unset)"
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items()) or "(none)"
    return f"{value:g}" if isinstance(value, float) else str(value)
