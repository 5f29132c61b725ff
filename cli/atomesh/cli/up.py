"""`atomesh up`: a registry and text agents on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from atomesh.cli._errors import CliError, ExitCode
from atomesh.cli._flags import Json, Secured
from atomesh.cli._output import escape, note, say, say_json
from atomesh.cli._tracing import Traced

if TYPE_CHECKING:
    from atomesh.cli._processes import Child
    from atomesh.cli._sections import UpSection
    from atomesh.cli._settings import Settings


@dataclass(frozen=True)
class UpFlags(Secured, Traced):
    """Flags of `atomesh up`."""

    up_endpoints: Annotated[int | None, typer.Option("--endpoints", help="Text agents, 1 to 64 [3].")] = None
    up_slots: Annotated[int | None, typer.Option("--slots", help="Executions at once in each [the class's own].")] = (
        None
    )
    up_registry_bind: Annotated[
        str | None, typer.Option("--registry-bind", metavar="HOST:PORT", help="The registry [127.0.0.1:7400].")
    ] = None
    up_http_bind: Annotated[
        str | None, typer.Option("--http-bind", metavar="HOST:PORT", help="Its metrics and targets [127.0.0.1:7401].")
    ] = None
    up_memory: Annotated[bool | None, typer.Option("--memory/--no-memory", help="The registry keeps no state.")] = None


def up(flags: UpFlags, as_json: Json = False) -> int:
    """Run a registry and text agents on this machine until Ctrl-C.

    \b
    atomesh up
    atomesh up --endpoints 5 --slots 2 --memory
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings)
    return asyncio.run(_up(settings, as_json=as_json))


async def _up(settings: Settings, *, as_json: bool) -> int:
    from atomesh.cli._processes import Signals

    with Signals() as signals:
        children: list[Child] = []
        running = asyncio.create_task(_start(settings, children))
        stop = asyncio.create_task(signals.came.wait())
        try:
            await asyncio.wait([running, stop], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                _tell(await running, children, settings, as_json=as_json)
                return await _watch(children, stop)
            return ExitCode.OK
        finally:
            for task in (running, stop):
                task.cancel()
            await asyncio.gather(running, stop, return_exceptions=True)
            await stop_all(children, signals.again)


async def _start(settings: Settings, children: list[Child]) -> float:
    """Starts all children; the seconds that it took."""
    from atomesh.core.clock import SYSTEM_CLOCK

    begun = SYSTEM_CLOCK.now()
    registry = make_registry(settings.up, settings, heard)
    children.append(registry)
    await registry.start()
    agents = [
        make_agent(f"agent-{number + 1}", registry.address, _agent_flags(settings), heard)
        for number in range(settings.up.endpoints)
    ]
    children += agents
    await asyncio.gather(*(agent.start() for agent in agents))
    if missing := [agent.name for agent in agents if not agent.ready.get("registered")]:
        raise CliError(f"{', '.join(missing)} did not get registered; see `atomesh doctor`", ExitCode.FAILED)
    return SYSTEM_CLOCK.now() - begun


def make_registry(own: UpSection, settings: Settings, heard: Callable[[str, str], None]) -> Child:
    """A registry as a child process, not started yet."""
    from atomesh.cli._processes import Child

    state = ["--memory"] if own.memory else []
    if settings.registry.data_dir and not own.memory:
        state = ["--data-dir", settings.registry.data_dir]
    flags = ["--bind", own.registry_bind, "--http-bind", own.http_bind, *state, *_shared_flags(settings)]
    return Child("registry", ["registry", *flags], heard)


def make_agent(name: str, registry: str, flags: Sequence[str], heard: Callable[[str, str], None]) -> Child:
    """A text agent as a child process, not started yet."""
    from atomesh.cli._processes import Child

    return Child(name, ["serve", "text-processor", "--registry", registry, *flags], heard)


def _agent_flags(settings: Settings) -> list[str]:
    slots = [] if settings.up.slots is None else ["--slots", str(settings.up.slots)]
    # A child has the environment and the file by itself, but not our flags.
    own, said = settings.tracing, [key for key, source in settings.sources.items() if source.name == "flag"]
    traced = [f"--{key.replace('_', '-')}={getattr(own, key)}" for key in type(own).model_fields if key in said]
    return [*slots, *traced, *_shared_flags(settings)]


def _shared_flags(settings: Settings) -> list[str]:
    """What was said of configuration, credentials and logs, for a child."""
    own = settings.credentials
    files = {"--tls-cert": own.tls_cert, "--tls-key": own.tls_key, "--tls-ca": own.tls_ca}
    files |= {"--token-file": own.token_file, "--config": str(settings.file) if settings.file else None}
    given = [word for flag, file in files.items() if file for word in (flag, file)]
    return [*given, *(["--insecure"] if own.insecure else []), *_log_flags(settings)]


def _log_flags(settings: Settings) -> list[str]:
    from sys import stderr

    chosen = settings.log.format
    if chosen == "auto":
        chosen = "text" if stderr.isatty() else "json"
    # Whoever starts several processes for a look around wants to hear of trouble, not of each step.
    level = settings.log.level if "log_level" in settings.sources else "warning"
    return ["--log-format", chosen, "--log-level", level]


def heard(name: str, line: str) -> None:
    """What a child logs: JSON as it is, text with the child's name."""
    note(line if line.startswith("{") else f"{name}: {line}")


def _tell(seconds: float, children: Sequence[Child], settings: Settings, *, as_json: bool) -> None:
    registry, *agents = children
    if as_json:
        say_json(
            {
                "event": "ready",
                "registry": registry.ready,
                "agents": [agent.ready for agent in agents],
                "seconds": round(seconds, 3),
            }
        )
        return
    state = registry.ready.get("state", "")
    said = f"--registry {registry.address} " if registry.address != settings.mesh.registry else ""
    say(f"ready in {seconds:.1f} s: a registry and {len(agents)} text agents; Ctrl-C stops all")
    say(escape(f"  registry   {registry.address}  pid {registry.pid}  state in {state}"))
    for agent in agents:
        say(escape(f"  {agent.name:<9}  {agent.address}  pid {agent.pid}  metrics http://{agent.http}/metrics"))
    say("")
    say("try, in another terminal:")
    say(f"  atomesh agents {said}".rstrip())
    say(f'  atomesh process-text {said}--operation sentiment --text "I love it when things just work."')
    say(f"  atomesh describe {said}text-processor")
    say(f"  curl http://{registry.http}/prometheus/targets")


async def _watch(children: Sequence[Child], stop: asyncio.Task[object]) -> int:
    """Until somebody stops us, or nothing is left to stop; says when a child ends."""
    waits = {asyncio.create_task(child.wait()): child for child in children}
    try:
        while waits:
            await asyncio.wait([stop, *waits], return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                return ExitCode.OK
            for task in [task for task in waits if task.done()]:
                child = waits.pop(task)
                left = sum(other.running for other in children)
                note(
                    f"{child.name} ({child.address}, pid {child.pid}) ended {child.how_it_ended()}; "
                    f"it is not restarted, {left} of {len(children)} processes go on, Ctrl-C stops all"
                )
        raise CliError("every process has ended; what they wrote above says why", ExitCode.FAILED)
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def stop_all(children: Sequence[Child], again: asyncio.Event) -> None:
    """Agents first, while the registry still hears that they go; all at once where a second Ctrl-C comes."""
    if not children:
        return
    registry, *agents = children
    stopping = asyncio.create_task(_stop_in_order(registry, agents))
    impatient = asyncio.create_task(again.wait())
    await asyncio.wait([stopping, impatient], return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        for child in children:
            child.kill()
    impatient.cancel()
    await asyncio.gather(stopping, impatient, return_exceptions=True)


async def _stop_in_order(registry: Child, agents: Sequence[Child]) -> None:
    await asyncio.gather(*(agent.stop() for agent in agents))
    await registry.stop()
