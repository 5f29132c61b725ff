"""`atomesh serve MODULE:CLASS...`: agents of one's own, in one process or in several workers."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._flags import Json
from atomesh.cli._output import escape, note, say, say_json
from atomesh.cli._processes import WithParent, end_with_parent
from atomesh.cli._tracing import Calling, opened_tracer

if TYPE_CHECKING:
    from atomesh.agents import Agent, AgentServer, ServerOptions
    from atomesh.cli._settings import Settings
    from atomesh.core.tracing import Tracer

REGISTERED_SECONDS = 2.0
"""How long "ready" waits for the registry's word. Registering takes
milliseconds; without a registry the agents serve all the same."""


@dataclass(frozen=True)
class ServeFlags(Calling):
    """Flags of `atomesh serve`."""

    serve_bind: Annotated[
        str | None, typer.Option("--bind", metavar="HOST:PORT", help="Where it listens [127.0.0.1:0, any free port].")
    ] = None
    serve_advertise: Annotated[
        str | None, typer.Option("--advertise", metavar="HOST:PORT", help="What callers dial [as bound].")
    ] = None
    serve_http_bind: Annotated[
        str | None, typer.Option("--http-bind", metavar="HOST:PORT", help="Metrics [127.0.0.1:0, any free port].")
    ] = None
    serve_slots: Annotated[
        int | None, typer.Option("--slots", help="Executions at once [the class's own].", show_default=False)
    ] = None
    serve_zone: Annotated[str | None, typer.Option("--zone", help="Where it runs.")] = None
    serve_labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label to select by; repeatable.")
    ] = None
    serve_name: Annotated[str | None, typer.Option("--name", help="The agent's name [the class's own].")] = None
    serve_version: Annotated[str | None, typer.Option("--version", help="Its version [the class's own].")] = None
    serve_drain_grace: Annotated[
        float | None, typer.Option("--drain-grace", metavar="SECONDS", help="What running calls get at the end [25].")
    ] = None
    serve_ttl: Annotated[
        float | None, typer.Option("--ttl", metavar="SECONDS", help="The lease [the registry's default].")
    ] = None
    serve_weight: Annotated[
        float | None, typer.Option("--weight", help="How fast it is beside others of its agent [the class's own].")
    ] = None
    serve_max_connection_age: Annotated[
        float | None,
        typer.Option("--max-connection-age", metavar="SECONDS", help="Then clients connect anew, 1 or more [never]."),
    ] = None
    serve_guard_calls: Annotated[
        bool | None,
        typer.Option("--guard-calls", help="Calls need the token too, not only draining.", show_default=False),
    ] = None
    serve_workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", help="Processes, each an endpoint of its own, 1 to 256 [1]."),
    ] = None


def serve(
    classes: Annotated[
        list[str], typer.Argument(metavar="MODULE:CLASS...", help="Agents, or text-processor.", show_default=False)
    ],
    flags: ServeFlags,
    as_json: Json = False,
    with_parent: WithParent = False,
) -> int:
    """Serve agents until Ctrl-C, SIGTERM or a drain; what runs then is finished.

    With --workers each process has slots, a lease, metrics and an address of
    its own: a port that is given counts up. One that crashes is started again.

    \b
    atomesh serve my_module:MyAgent
    atomesh serve text-processor --slots 8 --label tier=batch
    atomesh serve text-processor --workers 4 --bind 127.0.0.1:7500
    atomesh serve my_module:MyAgent --bind 0.0.0.0:7500 --advertise host.example:7500 --insecure
    """
    from atomesh.cli._loading import load_agents
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings)
    # A worker is kept by its supervisor and has none of its own, whatever its environment says.
    if settings.serve.workers > 1 and not with_parent:
        from atomesh.cli._workers import run_workers

        return asyncio.run(run_workers(classes, flags, settings, as_json=as_json))
    agents = load_agents(classes, single="--name" if settings.serve.name else "")
    return asyncio.run(_traced(agents, settings, as_json=as_json, with_parent=with_parent))


async def _traced(agents: list[Agent[Any, Any]], settings: Settings, *, as_json: bool, with_parent: bool) -> int:
    service = settings.serve.name or ",".join(agent.name for agent in agents)
    async with opened_tracer(settings, service) as tracer:
        options = server_options(settings, tracer)
        return await _serve(agents, settings, options, as_json=as_json, with_parent=with_parent)


async def _serve(
    agents: list[Agent[Any, Any]], settings: Settings, options: ServerOptions, *, as_json: bool, with_parent: bool
) -> int:
    from atomesh.agents import AgentServer, run_until_signal

    server = AgentServer(agents, **options)
    if with_parent:
        end_with_parent()
        # Before it logs: who keeps it tells its lines by their agents.
        say_json({"event": "loaded", "agents": list(server.agents)})
    await server.start()
    telling = asyncio.create_task(tell(server, settings, as_json=as_json), name="tell")
    try:
        return await run_until_signal(server)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


def server_options(settings: Settings, tracer: Tracer | None = None) -> ServerOptions:
    own = settings.serve
    options: ServerOptions = {
        "bind": own.bind,
        "advertise": own.advertise,
        "http_bind": own.http_bind,
        "registry": settings.mesh.registry,
        "credentials": settings.credentials.load(),
        "drain_grace": own.drain_grace,
        "ttl": own.ttl,
        "max_connection_age": own.max_connection_age,
        "guard_calls": own.guard_calls,
        "tracer": tracer,
    }
    # What is not said is left to the class.
    if own.slots is not None:
        options["slots"] = own.slots
    if own.weight is not None:
        options["weight"] = own.weight
    if own.zone is not None:
        options["zone"] = own.zone
    if own.labels:
        options["labels"] = own.labels
    if own.name is not None:
        options["name"] = own.name
    if own.version is not None:
        options["version"] = own.version
    return options


async def tell(server: AgentServer, settings: Settings, *, as_json: bool) -> None:
    """Says that it is ready, and whether the registry knows."""
    try:
        async with asyncio.timeout(REGISTERED_SECONDS):
            await server.registered.wait()
    except TimeoutError:
        registered = False
    else:
        registered = True
    names = list(server.agents)
    if as_json:
        about = {"address": server.address, "http": server.http_address, "pid": os.getpid(), "agents": names}
        refusals = list(server.refusals)
        known = {"instance_id": server.instance_id, "registered": registered, "refusals": refusals}
        say_json({"event": "ready", **about, **known})
        return
    where = "registered with" if registered else "refused by" if server.refusals else "not yet registered with"
    metrics = f"metrics http://{server.http_address}/metrics"
    say(escape(f"{', '.join(names)} on {server.address}, {where} {settings.mesh.registry}, {metrics}"))
    for refusal in server.refusals:
        note(f"the registry refused: {refusal}; calls by address work all the same")
