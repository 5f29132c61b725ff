"""`atomesh pipeline`: pipelines are checked, shown, stored, run and served."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import EXIT_CODES_HELP, CliError, ExitCode, UsageMistake
from atomesh.cli._flags import Json, expanded
from atomesh.cli._output import console, counted, data_text, escape, fail, note, say, say_json, to_json
from atomesh.cli._pipeline_shelf import add, delete, ls
from atomesh.cli._pipelines import Breakers, PipelineFlags, RunFlags, Store
from atomesh.cli.serve import ServeFlags

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings
    from atomesh.pipelines import PipelineSpec, Plan

Which = Annotated[str, typer.Argument(metavar="FILE|NAME", help="A file, or a stored pipeline.", show_default=False)]


def app() -> typer.Typer:
    """The verbs of `atomesh pipeline`."""
    verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Typed plans of agents.")
    for verb in (validate, run, show, add, ls, delete, serve, schema):
        verbs.command(verb.__name__, epilog=EXIT_CODES_HELP)(expanded(verb))

    @verbs.callback()
    def group() -> None:
        """Typed plans of agents."""

    return verbs


@dataclass(frozen=True)
class Given:
    """What a run is given, and where its output goes."""

    input: Annotated[
        str | None, typer.Option("--input", metavar="JSON|@FILE|-", help="The input, as JSON.", show_default=False)
    ] = None
    input_file: Annotated[
        str | None, typer.Option("--input-file", metavar="FILE", help="The same from a file.", show_default=False)
    ] = None
    output_file: Annotated[
        str | None, typer.Option("--output-file", metavar="FILE", help="Where the output goes [stdout].")
    ] = None
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="What the run may take [the pipeline's own].")
    ] = None
    run_id: Annotated[str, typer.Option("--run-id", help="Names the run [made up].", show_default=False)] = ""


def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Pipelines, YAML or JSON.")],
    flags: PipelineFlags,
    offline: Annotated[
        bool, typer.Option("--offline", help="The files alone, without asking the registry for contracts.")
    ] = False,
    notes: Annotated[bool, typer.Option("--notes", help="Rules that nobody promises to keep, too.")] = False,
) -> int:
    """Check pipelines: their form, and their types against the agents that are registered.

    \b
    atomesh pipeline validate report.yaml
    atomesh pipeline validate pipelines/*.yaml --offline
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings, quiet=True)
    return asyncio.run(_validate(files, settings, offline=offline, notes=notes))


async def _validate(files: list[str], settings: Settings, *, offline: bool, notes: bool) -> int:
    from atomesh.cli._errors import explain
    from atomesh.cli.call import check_registry, open_client
    from atomesh.core.errors import AtomeshError
    from atomesh.pipelines import PipelineInvalid, plan_pipeline
    from atomesh.pipelines.assembly.gather import RegistryFinder

    if not offline:
        await check_registry(settings)
    worst = ExitCode.OK
    async with (
        open_client(settings, []) as mesh,
        RegistryFinder(settings.mesh.registry, settings.credentials.load()) as finder,
    ):
        for name in files:
            try:
                said = await _checked(
                    name, None if offline else (lambda *p: plan_pipeline(mesh, *p, choose=finder.choose)), notes
                )
                say(escape(said, keep="\n"))
            except PipelineInvalid as error:
                worst = max(worst, ExitCode.USAGE)
                for problem in error.problems:
                    fail(f"{error.source or name}: {problem}")
            except (AtomeshError, CliError) as error:
                line, code = explain(error)
                worst = max(worst, code)
                fail(line)
    return worst


async def _checked(name: str, plan: Any, notes: bool) -> str:
    from atomesh.cli._pipelines import provided, read_file
    from atomesh.pipelines.syntax import check_alone

    spec, source, _ = read_file(name)
    if plan is None:
        check_alone(spec, source)
        read = f"{name}: {spec.name} {spec.version} reads well, {counted(len(spec.stages), 'stage')}"
        return f"{read}; contracts were not asked for{provided(spec)}"
    made: Plan = await plan(spec, source)
    types = f"{made.contract.input_type} -> {made.contract.output_type}"
    said = f"{name}: {spec.name} {spec.version}, {types}, {counted(len(spec.stages), 'stage')}{provided(spec)}"
    if made.notes and notes:
        return "\n  ".join((said, *made.notes))
    return said + (f" ({counted(len(made.notes), 'note')}, see --notes)" if made.notes else "")


def run(pipeline: Which, flags: RunFlags, given: Given, as_json: Json = False) -> int:
    """Run a pipeline; its output is JSON on stdout, how it goes is on stderr.

    Ctrl-C cancels the run and all that it has in flight; a durable one can be
    resumed. With --json the whole run is shown: every stage and attempt.

    \b
    atomesh pipeline run report.yaml --input '{"content": "It works."}'
    atomesh pipeline run report --input-file document.json --output-file report.json
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings, quiet=True)
    return asyncio.run(run_pipeline(pipeline, settings, given, as_json=as_json))


async def run_pipeline(name: str, settings: Settings, given: Given, *, as_json: bool) -> int:
    """Runs a pipeline by file or name, and shows it."""
    from atomesh.cli._messages import parse
    from atomesh.cli._pipelines import check_output, check_providers, named, opened_room, opened_store, planned
    from atomesh.cli._run_shown import ended, shown
    from atomesh.cli._run_view import RunView

    if name == "-" and "-" in (given.input, given.input_file):
        raise UsageMistake("the pipeline and its input cannot both come from stdin; give one of them as a file")
    text, where = _input(given)
    check_output(given.output_file)
    async with opened_store(settings) as store:
        spec, source, _ = await named(name, store)
    check_providers(spec)
    # The view is left last: closing the room is what ends a run after Ctrl-C.
    with RunView(quiet=as_json) as view:
        async with opened_room(settings, durable=spec.durable) as room:
            plan = await planned(room, spec, source)
            message = parse(text, where, plan.contract.input)
            run = room.runner.run(plan, message, timeout=given.timeout, run_id=given.run_id, listener=view.listen)
            record, failure = await ended(view, run, durable=spec.durable)
    return shown(record, failure, given.output_file, as_json=as_json)


def _input(given: Given) -> tuple[str, str]:
    """The JSON of the input, and where it is from in words.

    Raises:
        UsageMistake: there is none, or two.
    """
    from atomesh.cli._messages import read_argument, read_file

    if given.input is not None and given.input_file is not None:
        raise UsageMistake("--input and --input-file are both given; one input is enough")
    if given.input_file is not None:
        return read_file(given.input_file), given.input_file
    if given.input is None:
        raise UsageMistake("nothing to run it on; give --input JSON or --input-file FILE (- is stdin)")
    return read_argument(given.input)


def show(
    pipeline: Which,
    flags: PipelineFlags,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a Mermaid flowchart.")] = False,
    svg: Annotated[str | None, typer.Option("--svg", metavar="FILE", help="As an SVG, to a file or - .")] = None,
    as_json: Json = False,
) -> int:
    """Draw a pipeline's graph.

    \b
    atomesh pipeline show report.yaml
    atomesh pipeline show report.yaml --svg report.svg
    """
    from atomesh.cli._pipelines import write_output
    from atomesh.cli._settings import load
    from atomesh.pipelines import drawing

    spec = asyncio.run(_spec(pipeline, load(flags)))
    if as_json:
        say_json(spec.model_dump(mode="json", exclude_defaults=True))
    elif svg is not None:
        write_output(svg, drawing.as_svg(spec))
    elif mermaid:
        say(data_text(drawing.as_mermaid(spec)))
    else:
        say(escape(drawing.as_text(spec, width=console().width), keep="\n"))
    return ExitCode.OK


async def _spec(name: str, settings: Settings) -> PipelineSpec:
    from atomesh.cli._pipelines import looks_like_file, named, opened_store, read_file

    if looks_like_file(name):
        return read_file(name)[0]
    async with opened_store(settings) as store:
        return (await named(name, store))[0]


@dataclass(frozen=True)
class ServePipelineFlags(ServeFlags):
    """Flags of `atomesh pipeline serve`."""

    pipelines_store: Store = None
    breakers: Breakers = None


def serve(
    flags: ServePipelineFlags,
    pipelines: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE|NAME]...", help="Files, or stored pipelines [all stored].", show_default=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Serve pipelines as agents, and PipelineService beside them, until Ctrl-C, SIGTERM or a drain.

    Durable runs that were interrupted go on at the start.

    \b
    atomesh pipeline serve report.yaml
    atomesh pipeline serve --bind 127.0.0.1:7500
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    if settings.serve.workers > 1:
        raise UsageMistake(
            f"--workers {settings.serve.workers}: pipelines are served by one process, which waits for others most of its "
            "time; start more of them, or leave it out"
        )
    configure(settings)
    return asyncio.run(_serve(pipelines or [], settings, as_json=as_json))


async def _serve(names: list[str], settings: Settings, *, as_json: bool) -> int:
    import contextlib

    from atomesh.agents import run_until_signal
    from atomesh.cli._pipelines import check_providers, named, opened_checkpoints, opened_store
    from atomesh.cli._tracing import opened_tracer
    from atomesh.cli.call import check_registry, open_client
    from atomesh.cli.serve import server_options, tell
    from atomesh.pipelines.assembly.gather import RegistryFinder
    from atomesh.pipelines.host import PipelineHost

    await check_registry(settings)
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_store(settings))
        names = names or [pipeline.name for pipeline in await store.list_pipelines()]
        pipelines = [(await named(name, store))[:2] for name in names]
        for spec, _ in pipelines:
            check_providers(spec)
        durable = any(spec.durable for spec, _ in pipelines)
        checkpoints = await stack.enter_async_context(opened_checkpoints(settings)) if durable else None
        service = settings.serve.name or ",".join(spec.name for spec, _ in pipelines)
        tracer = await stack.enter_async_context(opened_tracer(settings, service))
        mesh = await stack.enter_async_context(open_client(settings, [], tracer))
        finder = await stack.enter_async_context(RegistryFinder(settings.mesh.registry, settings.credentials.load()))
        options = server_options(settings, tracer)
        host = PipelineHost(pipelines, mesh=mesh, store=store, finder=finder, checkpoints=checkpoints, **options)
        await stack.enter_async_context(host)
        if host.resumed:
            note(f"{counted(host.resumed, 'interrupted run')} {'goes' if host.resumed == 1 else 'go'} on")
        telling = asyncio.create_task(tell(host.server, settings, as_json=as_json), name="tell")
        try:
            return await run_until_signal(host.server)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)


def schema(
    output: Annotated[str | None, typer.Option("--output-file", metavar="FILE", help="Where it goes [stdout].")] = None,
) -> int:
    """Print the JSON schema of a pipeline's file, for editors.

    \b
    atomesh pipeline schema --output-file pipeline.schema.json
    """
    from atomesh.cli._pipelines import write_output
    from atomesh.pipelines.model import json_schema

    write_output(output, to_json(json_schema()))
    return ExitCode.OK
