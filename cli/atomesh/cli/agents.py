"""`atomesh agents`: who is there, live."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import ExitCode, UsageMistake
from atomesh.cli._flags import Dialling, Json
from atomesh.cli._output import note, say_json

if TYPE_CHECKING:
    from atomesh.core import Selector
    from atomesh.rpc import RegistryClient

REFRESH_SECONDS = 1.0
"""How often loads are asked for: a watch does not carry them. Changes of the
fleet are shown at once."""


@dataclass(frozen=True)
class Selection:
    """Which endpoints are shown."""

    agent: Annotated[str, typer.Option("--agent", help="This agent only.", show_default=False)] = ""
    capability: Annotated[
        list[str] | None, typer.Option("--capability", help="That can do this; repeatable, all must hold.")
    ] = None
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="With this label; repeatable.")
    ] = None
    zone: Annotated[str, typer.Option("--zone", help="In this zone.", show_default=False)] = ""
    version: Annotated[
        str, typer.Option("--version", metavar="RANGE", help="Such as '>=1.2,<2'.", show_default=False)
    ] = ""
    every_state: Annotated[bool, typer.Option("--all", help="Those that do not serve, too.")] = False

    def selector(self) -> Selector:
        """As the registry understands it."""
        from atomesh.core import ALL_STATES, Selector

        pairs = [pair.partition("=") for pair in self.label or []]
        if bad := next((key for key, equals, _ in pairs if not (key and equals)), None):
            raise UsageMistake(f"--label {bad!r:.80} is not KEY=VALUE")
        return Selector(
            agent=self.agent,
            capabilities=tuple(self.capability or ()),
            labels={key: value for key, _, value in pairs},
            version=self.version,
            zone=self.zone,
            states=ALL_STATES if self.every_state else (),
        )


def agents(
    selection: Selection,
    flags: Dialling,
    once: Annotated[bool, typer.Option("--once", help="One snapshot, even on a terminal.")] = False,
    as_json: Json = False,
) -> int:
    """List endpoints; on a terminal, live until Ctrl-C.

    \b
    atomesh agents
    atomesh agents --capability content_analysis --version '>=1.0,<2' --json
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    live = sys.stdout.isatty() and not (once or as_json)
    configure(settings, quiet=True)
    address, credentials = settings.mesh.registry, settings.credentials.load()

    async def run() -> None:
        from atomesh.rpc import RegistryClient

        async with RegistryClient(address, credentials) as client:
            await (_live(client, selection.selector()) if live else _snapshot(client, selection, as_json))

    asyncio.run(run())
    return ExitCode.OK


async def _snapshot(client: RegistryClient, selection: Selection, as_json: bool) -> None:
    from atomesh.cli import _tables
    from atomesh.cli._output import console

    snapshot = await client.discover(selection.selector())
    if as_json:
        endpoints = [_tables.endpoint_data(endpoint) for endpoint in snapshot.endpoints]
        position = {"store_id": snapshot.position.store_id, "revision": snapshot.position.revision}
        say_json({"endpoints": endpoints, "position": position, "self_preservation": snapshot.self_preservation})
        return
    if not snapshot.endpoints:
        note("no endpoint matches; --all shows those that do not serve, `atomesh serve` starts one")
    out = console()
    out.print(_tables.endpoint_table(snapshot, client.address, width=out.width))


async def _live(client: RegistryClient, selector: Selector) -> None:
    from rich.live import Live

    from atomesh.cli import _tables
    from atomesh.cli._output import console, fail
    from atomesh.core.errors import RegistryUnavailable

    changed = asyncio.Event()
    out = console()
    shown: Any = _tables.endpoint_table(await client.discover(selector), client.address, width=out.width)
    following = asyncio.create_task(_follow(client, selector, changed))
    try:
        with Live(shown, console=out, auto_refresh=False) as live:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REFRESH_SECONDS):
                        await changed.wait()
                changed.clear()
                try:
                    shown = _tables.endpoint_table(await client.discover(selector), client.address, width=out.width)
                except RegistryUnavailable as error:
                    shown.caption = f"the registry is away, this is what was known: {error.message}"
                live.update(shown, refresh=True)
    finally:
        following.cancel()
        ended = (await asyncio.gather(following, return_exceptions=True))[0]
        if isinstance(ended, Exception):
            fail(str(ended))


async def _follow(client: RegistryClient, selector: Selector, changed: asyncio.Event) -> None:
    """Sets `changed` whenever the registry's watch tells something."""
    from atomesh.rpc.registry_client import follow

    async with contextlib.aclosing(follow(client, selector)) as events:
        async for event in events:
            if event.updates:
                changed.set()
