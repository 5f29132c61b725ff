"""`atomesh start NAME`: a defined agent as a process of its own.

The process that is typed reads the definition, checks it and starts another one,
which reads and checks it again, limits itself, and only then imports the one
module that the definition names. Neither imports any before the list of allowed
modules has been asked.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import CliError, ExitCode, UsageMistake
from atomesh.cli._flags import Json, as_typed
from atomesh.cli._output import escape, note, say, say_json
from atomesh.cli._pipelines import RunFlags
from atomesh.cli._processes import Child, Signals, WithParent, end_with_parent
from atomesh.cli._tracing import opened_tracer

if TYPE_CHECKING:
    from atomesh.agents import Agent
    from atomesh.cli._settings import Settings
    from atomesh.core.tracing import Tracer
    from atomesh.v1 import pipeline_pb2


@dataclass(frozen=True)
class StartFlags(RunFlags):
    """Flags of `atomesh start`."""

    pipelines_allow_modules: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-module",
            metavar="MODULE",
            help="A module or package that may be started, in place of those that are set; repeatable.",
        ),
    ] = None


@dataclass(frozen=True)
class Wanted:
    """What is to be started: the definition with what was said over it, checked, nothing imported."""

    definition: pipeline_pb2.Definition
    arguments: dict[str, Any]
    """Of the class."""
    settings: Settings
    """With the definition's own for serving."""
    memory: int
    cpus: float


@dataclass(frozen=True)
class Said:
    """What was typed beside flags."""

    sets: list[str]
    memory: str | None
    cpus: float | None

    def flags(self) -> list[str]:
        """As it was typed, for the process that is started."""
        words = [f"--set={pair}" for pair in self.sets]
        words += [f"--memory={self.memory}"] if self.memory is not None else []
        return words + ([f"--cpus={self.cpus}"] if self.cpus is not None else [])


def start(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The definition's name.", show_default=False)],
    flags: StartFlags,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Over its configuration, such as serve.slots=4; repeatable."),
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Memory that it may have, such as 512M [defined].")
    ] = None,
    cpus: Annotated[
        float | None, typer.Option("--cpus", metavar="N", help="Processors that it may use [defined].")
    ] = None,
    as_json: Json = False,
    with_parent: WithParent = False,
) -> int:
    """Start a defined agent as a process of its own; Ctrl-C or SIGTERM drains it.

    Only classes of allowed modules are started: `[pipelines] allow_modules`,
    or --allow-module. Of others nothing is imported.

    \b
    atomesh start my-summarizer
    atomesh start my-summarizer --set temperature=0.2 --set serve.slots=4 --memory 512M
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings)
    said = Said(sets or [], memory, cpus)
    wanted = asyncio.run(_wanted(name, said, settings))
    if with_parent:
        return _be(wanted)
    return asyncio.run(_keep(["start", name, *said.flags()], flags, wanted, as_json=as_json))


async def _wanted(name: str, said: Said, settings: Settings) -> Wanted:
    """Reads the definition and checks all of it; imports nothing.

    Raises:
        UnknownDefinition, PermissionDenied, InvalidArgument, UsageMistake: in one line.
    """
    from atomesh.cli._pipelines import opened_store
    from atomesh.pipelines import definitions

    async with opened_store(settings) as store:
        definition = await store.get_definition(name)
    definitions.check_allowed(definition.module, settings.pipelines.allow_modules)
    configuration = definitions.overridden(definitions.configuration_of(definition), said.sets)
    arguments, serve = definitions.split_configuration(configuration)
    memory = said.memory if said.memory is not None else definition.memory_bytes
    cpus = said.cpus if said.cpus is not None else definition.cpus
    return Wanted(
        definition,
        arguments,
        dataclasses.replace(settings, serve=_serve_section(settings, {"name": name} | serve)),
        definitions.parse_bytes(memory) if memory else 0,
        definitions.check_cpus(cpus) if cpus or said.cpus is not None else 0.0,
    )


def _serve_section(settings: Settings, own: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from atomesh.cli._sections import ServeSection

    if "workers" in own:
        raise UsageMistake("serve.workers is not for `start`, which starts one process; start it several times")
    try:
        return ServeSection(**{**settings.serve.model_dump(), "workers": 1, **own})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        wrong = f"there are {', '.join(ServeSection.model_fields)}"
        if first["type"] != "extra_forbidden":
            wrong = first["msg"].removeprefix("Value error, ")
        raise UsageMistake(f"serve.{key} of the configuration is {first['input']!r:.80}; {wrong}") from None


def _be(wanted: Wanted) -> int:
    """This process is the agent."""
    from atomesh.cli._limits import limit_cpus, limit_memory

    limits = [limit_memory(wanted.memory)] if wanted.memory else []
    limits += [limit_cpus(wanted.cpus)] if wanted.cpus else []
    try:
        agent = _loaded(wanted)
        return asyncio.run(_traced(agent, wanted, limits))
    except MemoryError:
        raise CliError(
            f"{wanted.definition.name} cannot even start with {', '.join(limits)}; give it more with --memory",
            ExitCode.FAILED,
        ) from None


def _loaded(wanted: Wanted) -> Agent[Any, Any]:
    from atomesh.cli._loading import load_agent

    return load_agent(f"{wanted.definition.module}:{wanted.definition.class_name}", wanted.arguments)


async def _traced(agent: Agent[Any, Any], wanted: Wanted, limits: list[str]) -> int:
    async with opened_tracer(wanted.settings, wanted.settings.serve.name or wanted.definition.name) as tracer:
        return await _serve(agent, wanted, limits, tracer)


async def _serve(agent: Agent[Any, Any], wanted: Wanted, limits: list[str], tracer: Tracer | None) -> int:
    from atomesh.agents import AgentServer, run_until_signal
    from atomesh.cli.serve import server_options, tell

    options = server_options(wanted.settings, tracer)
    known = {item if isinstance(item, str) else item.name for item in agent.capabilities}
    more = [word for word in wanted.definition.capabilities if word not in known]
    options["capabilities"] = [*agent.capabilities, *more]
    if wanted.definition.description:
        options["description"] = wanted.definition.description
    server = AgentServer([agent], **options)
    end_with_parent()
    say_json({"event": "loaded", "agents": list(server.agents), "limits": limits})
    await server.start()
    telling = asyncio.create_task(tell(server, wanted.settings, as_json=True), name="tell")
    try:
        return await run_until_signal(server)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _keep(command: list[str], flags: StartFlags, wanted: Wanted, *, as_json: bool) -> int:
    """Starts the process and stays with it until it ends, or is told to."""
    from sys import stderr

    name, chosen = wanted.definition.name, wanted.settings.log.format
    if chosen == "auto":
        chosen = "text" if stderr.isatty() else "json"
    limits: list[str] = []

    def told(event: dict[str, Any]) -> None:
        if event["event"] == "loaded":
            limits.extend(event["limits"])

    typed = [*command, *as_typed(flags, without=("log_format",)), "--log-format", chosen]
    child = Child(name, typed, _heard, told=told)
    with Signals() as signals:
        stop = asyncio.create_task(signals.came.wait())
        starting = asyncio.create_task(child.start())
        try:
            await asyncio.wait([stop, starting], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                _tell(child, wanted, limits, as_json=as_json)
                ended = asyncio.create_task(child.wait())
                await asyncio.wait([stop, ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            starting.cancel()
            await asyncio.gather(stop, starting, return_exceptions=True)
            stopped = signals.came.is_set()
            await _stop(child, signals.again)
    if child.exit_code and not (stopped and child.exit_code < 0):
        raise CliError(f"{name} ended {child.how_it_ended()}; what it wrote above says why", ExitCode.FAILED)
    return ExitCode.OK


async def _stop(child: Child, again: asyncio.Event) -> None:
    """Drains it; a second signal ends it at once."""
    stopping = asyncio.create_task(child.stop())
    impatient = asyncio.create_task(again.wait())
    await asyncio.wait([stopping, impatient], return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        child.terminate()
    impatient.cancel()
    await asyncio.gather(stopping, impatient, return_exceptions=True)


def _heard(name: str, line: str) -> None:
    note(line if line.startswith("{") else f"{name}: {line}")


def _tell(child: Child, wanted: Wanted, limits: list[str], *, as_json: bool) -> None:
    if as_json:
        say_json({**child.ready, "limits": limits})
        return
    registry = wanted.settings.mesh.registry
    where = f"{'' if child.ready.get('registered') else 'not yet '}registered with {registry}"
    names = ", ".join(child.ready.get("agents", ()))
    within = f", {'; '.join(limits)}" if limits else ""
    say(escape(f"{names} on {child.address}, pid {child.pid}, {where}{within}; Ctrl-C drains it"))
