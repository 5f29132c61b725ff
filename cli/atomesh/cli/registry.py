"""`atomesh registry`: who is alive and what they can do."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atomesh.cli._errors import CliError
from atomesh.cli._flags import Json, Secured
from atomesh.cli._output import escape, say, say_json
from atomesh.cli._processes import Signals, WithParent, end_with_parent

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings
    from atomesh.registry import RegistryServer, Storage

STORE = "registry.sqlite3"


@dataclass(frozen=True)
class RegistryFlags(Secured):
    """Flags of `atomesh registry`."""

    registry_bind: Annotated[
        str | None, typer.Option("--bind", metavar="HOST:PORT", help="Where it listens [127.0.0.1:7400].")
    ] = None
    registry_http_bind: Annotated[
        str | None,
        typer.Option("--http-bind", metavar="HOST:PORT", help="Metrics and Prometheus targets [127.0.0.1:7401]."),
    ] = None
    registry_data_dir: Annotated[
        str | None,
        typer.Option("--data-dir", metavar="DIR", help="Where its state is kept [~/.local/state/atomesh]."),
    ] = None
    registry_memory: Annotated[
        bool | None, typer.Option("--memory/--no-memory", help="Keep no state: a restart forgets all.")
    ] = None
    registry_min_ttl: Annotated[
        float | None, typer.Option("--min-ttl", metavar="SECONDS", help="The shortest lease [15].")
    ] = None
    registry_default_ttl: Annotated[
        float | None, typer.Option("--default-ttl", metavar="SECONDS", help="The lease of who does not say [15].")
    ] = None
    registry_max_ttl: Annotated[
        float | None, typer.Option("--max-ttl", metavar="SECONDS", help="The longest lease [3600].")
    ] = None
    registry_strict_contracts: Annotated[
        bool | None,
        typer.Option(
            "--strict-contracts/--no-strict-contracts",
            help="Refuse contracts whose rules break live ones, not only what breaks on the wire.",
        ),
    ] = None

    registry_probe_interval: Annotated[
        float | None,
        typer.Option("--probe-interval", metavar="SECONDS", help="How often endpoints are probed; 0 for never [30]."),
    ] = None
    registry_probe_timeout: Annotated[
        float | None, typer.Option("--probe-timeout", metavar="SECONDS", help="How long a probe may take [5].")
    ] = None
    registry_probe_networks: Annotated[
        list[str] | None,
        typer.Option(
            "--probe-network",
            metavar="CIDR",
            help="Where probes may go, in place of loopback and private addresses; repeatable.",
        ),
    ] = None


def registry(flags: RegistryFlags, as_json: Json = False, with_parent: WithParent = False) -> int:
    """Run a registry until Ctrl-C or SIGTERM.

    \b
    atomesh registry
    atomesh registry --bind 10.0.0.5:7400 --tls-cert cert.pem --tls-key key.pem --token-file token
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings)
    return asyncio.run(_serve(settings, as_json=as_json, with_parent=with_parent))


async def _serve(settings: Settings, *, as_json: bool, with_parent: bool) -> int:
    from atomesh.registry.process import restoring, tune

    server, where = _server(settings)
    with Signals() as signals:
        if with_parent:
            end_with_parent()
        with restoring():
            await server.start()
        tune()
        try:
            if as_json:
                ready = {"event": "ready", "address": server.address, "http": server.http_address, "pid": os.getpid()}
                say_json({**ready, "state": where})
            else:
                said = f"registry on {server.address}, state in {where}, targets http://{server.http_address}"
                say(escape(f"{said}/prometheus/targets"))
            await signals.came.wait()
        finally:
            await server.stop()
    return 0


def _server(settings: Settings) -> tuple[RegistryServer, str]:
    """The registry, and in words where it keeps its state."""
    from atomesh.registry import RegistryServer, RegistrySettings
    from atomesh.registry.allow_list import PRIVATE

    own = settings.registry
    storage, where = _storage(settings)
    # A shorter shortest lease is no wish for a default that is longer than it.
    default = max(own.min_ttl, own.default_ttl) if "registry_default_ttl" not in settings.sources else own.default_ttl
    server = RegistryServer(
        storage=storage,
        bind=own.bind,
        http_bind=own.http_bind,
        settings=RegistrySettings(
            min_ttl=own.min_ttl,
            default_ttl=default,
            max_ttl=own.max_ttl,
            strict_contracts=own.strict_contracts,
            probe_interval=own.probe_interval,
            probe_timeout=own.probe_timeout,
            probe_networks=PRIVATE if own.probe_networks is None else tuple(own.probe_networks),
        ),
        credentials=settings.credentials.load(),
    )
    return server, where


def _storage(settings: Settings) -> tuple[Storage, str]:
    from atomesh.cli._settings import state_dir
    from atomesh.registry import MemoryStorage, SQLiteStorage

    if settings.registry.memory:
        return MemoryStorage(), "memory"
    said = settings.registry.data_dir
    directory = Path(said).expanduser() if said else state_dir()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(
            f"cannot keep state in {directory}: {error.strerror or error}; choose another with --data-dir, or --memory"
        ) from None
    return SQLiteStorage(directory / STORE), str(directory / STORE)
