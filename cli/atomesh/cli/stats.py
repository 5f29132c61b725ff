"""`atomesh stats`: what a mesh has done, summed up from its metrics."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import ExitCode, UsageMistake
from atomesh.cli._flags import Basics, Json
from atomesh.cli._output import say_json

if TYPE_CHECKING:
    from atomesh.cli._stats_asked import Heard


@dataclass(frozen=True)
class StatsFlags(Basics):
    """Whom `atomesh stats` asks."""

    registry_http: Annotated[
        str | None,
        typer.Option(
            "--registry-http",
            metavar="HOST:PORT",
            help="The registry's HTTP address [port 7401 where the registry is].",
            show_default=False,
        ),
    ] = None
    registry: Annotated[
        str | None,
        typer.Option(
            "--registry", metavar="HOST:PORT", help="The registry's address [127.0.0.1:7400].", show_default=False
        ),
    ] = None


def stats(
    flags: StatsFlags,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="How long each process may take to answer.")
    ] = 5.0,
    as_json: Json = False,
) -> int:
    """Sum up what the registry and all agents have counted since each started.

    \b
    atomesh stats
    atomesh stats --registry-http 10.0.0.5:7401 --json
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load
    from atomesh.core.names import check_dialable

    if not 0 < timeout <= 300:
        raise UsageMistake(f"--timeout is {timeout:g}; give more than 0 and at most 300 seconds")
    settings = load(flags)
    configure(settings, quiet=True)
    from atomesh.cli._stats_asked import ask_mesh

    address = check_dialable(settings.mesh.http_address)
    heard = asyncio.run(ask_mesh(address, timeout))
    if as_json:
        say_json(_data(heard))
    else:
        _show(heard, address)
    return ExitCode.OK


def _data(heard: Heard) -> dict[str, Any]:
    from atomesh.cli._stats_sums import agent_data, folded, in_all, registry_data

    agents = folded(heard.pages)
    return {
        "registry": registry_data(heard.registry),
        "agents": {name: agent_data(sums) for name, sums in agents.items()},
        "all": agent_data(in_all(agents)),
        "targets": {
            "asked": len(heard.pages) + len(heard.unasked),
            "silent": [
                {"address": each.address, "agents": each.agents, "reason": each.reason} for each in heard.unasked
            ],
        },
    }


def _show(heard: Heard, address: str) -> None:
    from atomesh.cli._output import console
    from atomesh.cli._rows import room, show
    from atomesh.cli._stats_view import stats_lines

    out = console()
    show(out, stats_lines(heard, address, room(out)))
