"""What verbs about pipelines share: the store, the mesh, a runner with its control service, and pipelines by file or name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import UsageMistake
from atomesh.cli._flags import Dialling, Secured
from atomesh.cli._tracing import Calling, opened_tracer

if TYPE_CHECKING:
    from atomesh.balancer import Client
    from atomesh.cli._settings import Settings
    from atomesh.pipelines import PipelineSpec, Plan, Runner
    from atomesh.pipelines.assembly.gather import RegistryFinder
    from atomesh.pipelines.checkpoints import Checkpoints
    from atomesh.pipelines.reading import Source
    from atomesh.pipelines.service import PipelineService
    from atomesh.pipelines.shelf import Shelf
    from atomesh.pipelines.store import RunStore
    from atomesh.rpc.credentials import Credentials

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH|URL",
        help="Where runs and pipelines are kept [pipelines.db in the state directory].",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class StoreFlags(Secured):
    """Flags of verbs that look into the store."""

    pipelines_store: Store = None


Breakers = Annotated[
    list[str] | None,
    typer.Option(
        "--breaker",
        metavar="AGENT=FAILURES[/SECONDS]",
        help="So many failures in a row open the agent's circuit; repeatable.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class PipelineFlags(Dialling):
    """Flags of verbs that ask the mesh too."""

    pipelines_store: Store = None
    breakers: Breakers = None


@dataclass(frozen=True)
class RunFlags(PipelineFlags, Calling):
    """Flags of verbs that run pipelines, or start agents."""


@dataclass(frozen=True)
class Room:
    """All that a run needs."""

    mesh: Client
    store: RunStore
    runner: Runner
    shelf: Shelf
    finder: RegistryFinder
    service: PipelineService


@contextlib.asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[RunStore]:
    """The store that is set, open.

    Raises:
        CliError: it cannot be used, and why.
    """
    from atomesh.cli._settings import state_dir
    from atomesh.pipelines.errors import StoreUnusable
    from atomesh.pipelines.store import Retention, StoreSettings, open_store

    own = settings.pipelines
    where = own.store or str(state_dir() / "pipelines.db")
    keeping = StoreSettings(Retention(own.retention_days, own.retention_runs), own.keep_outputs)
    store = open_store(where, keeping)
    try:
        await store.open()
    except StoreUnusable as error:
        raise UsageMistake(str(error)) from None
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def opened_room(settings: Settings, *, durable: bool = False) -> AsyncIterator[Room]:
    """A mesh, a store and a runner whose runs others can cancel while they go on."""
    from atomesh.cli.call import check_registry, open_client
    from atomesh.core.clock import SYSTEM_CLOCK
    from atomesh.pipelines import Runner
    from atomesh.pipelines.assembly.gather import RegistryFinder
    from atomesh.pipelines.machine import this_process
    from atomesh.pipelines.service import PipelineService
    from atomesh.pipelines.shelf import Shelf
    from atomesh.rpc.server import Server
    from atomesh.v1 import pipeline_pb2_grpc

    await check_registry(settings)
    credentials = settings.credentials.load()
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_store(settings))
        tracer = await stack.enter_async_context(opened_tracer(settings))
        mesh = await stack.enter_async_context(open_client(settings, [], tracer))
        finder = await stack.enter_async_context(RegistryFinder(settings.mesh.registry, credentials))
        checkpoints = await stack.enter_async_context(opened_checkpoints(settings)) if durable else None
        server = Server(bind="127.0.0.1:0", credentials=unencrypted(credentials))
        runner = Runner(mesh, store=store, checkpoints=checkpoints, tracer=tracer)
        shelf = Shelf(mesh, store, SYSTEM_CLOCK, choose=finder.choose, served={})
        service = PipelineService(
            runner,
            shelf,
            store,
            SYSTEM_CLOCK,
            find_plans=finder.find_plans,
            credentials=credentials,
            guard_calls=True,  # where there is a token: whoever asked it would run pipelines with that
        )
        server.add(pipeline_pb2_grpc.add_PipelineServiceServicer_to_server, service)
        await server.start()
        runner.owner = str(this_process(server.address))
        stack.push_async_callback(server.stop, 0)
        stack.push_async_callback(runner.close)
        stack.push_async_callback(service.close)
        yield Room(mesh, store, runner, shelf, finder, service)


def unencrypted(credentials: Credentials) -> Credentials:
    """What a process shows to others of its machine, under an address that no certificate need be for; the token stays."""
    return replace(credentials, tls_cert=None, tls_key=None, tls_ca=None)


@contextlib.asynccontextmanager
async def opened_checkpoints(settings: Settings) -> AsyncIterator[Checkpoints]:
    """What durable runs are kept with, in the same store.

    Raises:
        CliError: it cannot be used, and why.
    """
    from atomesh.cli._settings import state_dir
    from atomesh.pipelines.durable import open_checkpoints
    from atomesh.pipelines.errors import StoreUnusable

    checkpoints = open_checkpoints(settings.pipelines.store or str(state_dir() / "pipelines.db"))
    try:
        await checkpoints.open()
    except StoreUnusable as error:
        raise UsageMistake(str(error)) from None
    try:
        yield checkpoints
    finally:
        await checkpoints.close()


def looks_like_file(name: str) -> bool:
    """Whether what was typed is a file rather than a stored pipeline's name."""
    return name == "-" or "/" in name or name.endswith((".yaml", ".yml", ".json")) or Path(name).is_file()


def read_file(name: str) -> tuple[PipelineSpec, Source, str]:
    """The pipeline in a file, and its text.

    Raises:
        UsageMistake: the file cannot be read.
        PipelineInvalid: it holds no pipeline.
    """
    from atomesh.cli._messages import read_file as read
    from atomesh.pipelines import read_pipeline

    text = read(name)
    spec, source = read_pipeline(text, "stdin" if name == "-" else name)
    return spec, source, text


async def named(name: str, store: RunStore) -> tuple[PipelineSpec, Source, str]:
    """The pipeline in a file or, where there is no such file, in the store, or one that comes with the mesh.

    Raises:
        UnknownPipeline, UsageMistake, PipelineInvalid: there is none, or it is wrong.
    """
    from atomesh.pipelines import UnknownPipeline, read_pipeline
    from atomesh.pipelines.builtin import BUILTIN, builtin

    if looks_like_file(name):
        return read_file(name)
    try:
        text = (await store.get_pipeline(name)).text
    except UnknownPipeline:
        if name not in BUILTIN:
            raise
        text = builtin(name)
    spec, source = read_pipeline(text, name)
    return spec, source, text


async def planned(room: Room, spec: PipelineSpec, source: Source) -> Plan:
    """The plan of a pipeline, with the agents that are registered now."""
    from atomesh.pipelines import plan_pipeline

    return await plan_pipeline(room.mesh, spec, source, choose=room.finder.choose)


def provided(spec: PipelineSpec) -> str:
    """What `validate` adds for a pipeline that the command line cannot run; empty for all others."""
    return f"; {_wants_providers(spec)}" if spec.providers else ""


def check_providers(spec: PipelineSpec) -> None:
    """Lets a pipeline pass whose context the command line can make.

    Raises:
        UsageMistake: it declares providers, which are Python.
    """
    if spec.providers:
        raise UsageMistake(f"pipeline {spec.name} {_wants_providers(spec)}")


def _wants_providers(spec: PipelineSpec) -> str:
    plural = "s" if len(spec.providers) > 1 else ""
    return (
        f"takes the context provider{plural} {', '.join(spec.providers)}, and the command line has none; "
        "run it from Python, with Runner(mesh, providers={...})"
    )


def check_output(name: str | None) -> None:
    """Lets a file pass that a result can go to: who finds that out afterwards has worked for nothing.

    Raises:
        UsageMistake: it is a folder, in one that is not there, or not one's own.
    """
    if name is None or name == "-":
        return
    path = Path(name)
    if path.is_dir():
        raise UsageMistake(f"{name} cannot be written: it is a folder; name a file")
    if not path.parent.is_dir():
        raise UsageMistake(f"{name} cannot be written: there is no folder {path.parent}; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageMistake(f"{name} cannot be written: permission denied")


def write_output(name: str | None, text: str) -> None:
    """Writes a result to a file, or to stdout where none is named.

    Raises:
        UsageMistake: the file cannot be written.
    """
    from atomesh.cli._output import say

    if name is None or name == "-":
        say(text)
        return
    try:
        Path(name).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageMistake(f"{name} cannot be written: {error.strerror or error}") from None


def output_data(output: Any) -> Any:
    """A run's output as JSON data."""
    from atomesh.cli._messages import to_data

    return to_data(output, whole=True)
