"""`atomesh runs`: what runs there were and are, and what can be done with them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atomesh.cli._errors import EXIT_CODES_HELP, CliError, ExitCode, UsageMistake
from atomesh.cli._flags import Json, expanded
from atomesh.cli._output import console, note, say_json
from atomesh.cli._pipelines import RunFlags, StoreFlags

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings
    from atomesh.pipelines import RunStatus
    from atomesh.rpc.credentials import Credentials

ANSWER_SECONDS = 5.0
"""For a process to answer of its runs, which takes milliseconds; one that is stopped never does."""

_INTERRUPTED = "interrupted"
_LOOKED_AT = 1000
"""Of the newest runs, for those that run or were interrupted; as many as a list can have."""

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or its beginning.", show_default=False)]


def app() -> typer.Typer:
    """The verbs of `atomesh runs`."""
    verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Runs of pipelines.")
    for verb in (ls, status, cancel, resume):
        verbs.command(verb.__name__, epilog=EXIT_CODES_HELP)(expanded(verb))

    @verbs.callback()
    def group() -> None:
        """Runs of pipelines."""

    return verbs


def ls(
    flags: StoreFlags,
    pipeline: Annotated[str, typer.Option("--pipeline", help="Of this pipeline alone.", show_default=False)] = "",
    status: Annotated[
        list[str] | None, typer.Option("--status", help="That stand so, such as failed or interrupted; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 20,
    as_json: Json = False,
) -> int:
    """List runs, newest first.

    \b
    atomesh runs ls
    atomesh runs ls --pipeline report --status failed --status interrupted
    """
    from atomesh.cli._settings import load

    words = [word.lower() for word in status or []]
    return asyncio.run(_ls(load(flags), pipeline, words, limit, as_json=as_json))


def _statuses(words: list[str]) -> tuple[RunStatus, ...]:
    """As the store has them, where an interrupted run is one that runs."""
    from atomesh.pipelines import RunStatus

    known = {status.name.lower(): status for status in RunStatus} | {_INTERRUPTED: RunStatus.RUNNING}
    if wrong := next((word for word in words if word not in known), None):
        raise UsageMistake(f"--status {wrong!r:.40} is none of {', '.join(known)}")
    return tuple({known[word] for word in words})


async def _ls(settings: Settings, pipeline: str, words: list[str], limit: int, *, as_json: bool) -> int:
    from atomesh.cli._pipelines import opened_store
    from atomesh.cli._rows import room, show
    from atomesh.cli._run_data import run_data, standing
    from atomesh.cli._runs_view import run_list
    from atomesh.core.clock import SYSTEM_CLOCK

    statuses = _statuses(words)
    # Which of those that run were interrupted is told here, so that some of them may fall away.
    most = _LOOKED_AT if {"running", _INTERRUPTED} & set(words) else limit
    async with opened_store(settings) as store:
        runs = await store.list_runs(pipeline, statuses, most)
    if words:
        runs = [run for run in runs if standing(run) in words][:limit]
    if as_json:
        say_json([run_data(run) for run in runs])
    elif runs:
        out = console()
        show(out, run_list(runs, SYSTEM_CLOCK.wall(), room(out)))
    else:
        note(f"no such run is in {store.name}; `atomesh pipeline run FILE` makes one")
    return ExitCode.OK


def status(run_id: RunId, flags: StoreFlags, as_json: Json = False) -> int:
    """Show a run: every stage with its times, attempts and errors.

    \b
    atomesh runs status 3f2a91bc4f11
    atomesh runs status 3f2a --json
    """
    from atomesh.cli._settings import load

    return asyncio.run(_status(run_id, load(flags), as_json=as_json))


async def _status(run_id: str, settings: Settings, *, as_json: bool) -> int:
    from atomesh.cli._pipelines import opened_store
    from atomesh.cli._rows import room, show
    from atomesh.cli._run_data import run_data, standing
    from atomesh.cli._run_found import find
    from atomesh.cli._runs_view import run_lines
    from atomesh.core.clock import SYSTEM_CLOCK

    async with opened_store(settings) as store:
        run = await find(run_id, store)
        types = await store.get_types(run.descriptor_hash) if run.descriptor_hash else b""
    # Whoever has the address of a process that is gone is another one.
    goes_on = not run.HasField("ended_at") and standing(run) != _INTERRUPTED
    live: Any = await _live(run.owner, run.id, settings) if goes_on else None
    run, types = live or (run, types)
    if as_json:
        say_json(run_data(run, types))
        return ExitCode.OK
    out = console()
    show(out, run_lines(run, SYSTEM_CLOCK.wall(), room(out)))
    return ExitCode.OK


async def _live(owner: str, run_id: str, settings: Settings) -> tuple[Any, bytes] | None:
    """The run as its own process sees it now; None where that does not answer."""
    from atomesh.core.errors import AtomeshError
    from atomesh.v1 import pipeline_pb2

    try:
        answer = await _asked(owner, "GetRun", pipeline_pb2.GetRunRequest(run_id=run_id), settings)
    except (AtomeshError, CliError):
        return None  # what is kept of it is shown instead
    return answer.run, answer.descriptor_set


def cancel(run_id: RunId, flags: StoreFlags) -> int:
    """Cancel a run: what it has in flight is cancelled at once.

    A durable one that was interrupted is ended, and cannot be resumed any more.

    \b
    atomesh runs cancel 3f2a91bc4f11
    """
    from atomesh.cli._settings import load

    return asyncio.run(_cancel(run_id, load(flags)))


async def _cancel(wanted: str, settings: Settings) -> int:
    from atomesh.cli._pipelines import opened_store
    from atomesh.cli._run_data import standing
    from atomesh.cli._run_found import end_interrupted, find
    from atomesh.cli._run_words import gone
    from atomesh.pipelines import RunStatus
    from atomesh.v1 import pipeline_pb2

    async with opened_store(settings) as store:
        run = await find(wanted, store)
    stands = standing(run)
    if run.HasField("ended_at"):
        note(f"run {run.id} has ended already: {stands}")
    elif stands == _INTERRUPTED and run.durable:
        await end_interrupted(run, settings)
        note(f"cancelled run {run.id}, which was interrupted: {gone(run.owner)}")
    elif stands == _INTERRUPTED:
        note(f"nothing of run {run.id} runs any more: {gone(run.owner)}")
    else:
        answer = await _asked(run.owner, "CancelRun", pipeline_pb2.CancelRunRequest(run_id=run.id), settings)
        if answer.status == pipeline_pb2.RUN_STATUS_CANCELLED:
            note(f"cancelled run {run.id}")
        else:
            note(f"run {run.id} has ended meanwhile: {RunStatus(answer.status).name.lower()}")
    return ExitCode.OK


async def _asked(owner: str, method: str, request: object, settings: Settings) -> Any:
    """The answer of the PipelineService that runs a run.

    Raises:
        CliError: it has none that could be asked.
    """
    from atomesh.cli._pipelines import unencrypted
    from atomesh.core.errors import ConnectionLost, Refused
    from atomesh.core.names import is_loopback, split_address
    from atomesh.pipelines.machine import this_host
    from atomesh.pipelines.owner import Owner

    known = Owner.parse(owner)
    if known is None or not known.address:
        whose = owner or "an unknown process"
        raise CliError(f"the run is of {whose}, which takes no requests; end it there", ExitCode.UNAVAILABLE)
    here = is_loopback(split_address(known.address)[0])
    if here and known.host != this_host().name:
        # Whoever has that port here is another, and gets no token of ours.
        raise CliError(f"the run is of {owner}, which takes requests on {known.host} alone", ExitCode.UNAVAILABLE)
    credentials = settings.credentials.load()
    try:
        return await ask(known.address, method, request, credentials)
    except (ConnectionLost, Refused):
        if not (here and credentials.has_tls):
            raise
    # `pipeline serve` speaks TLS here as elsewhere, `pipeline run` does not.
    return await ask(known.address, method, request, unencrypted(credentials))


async def ask(
    address: str, method: str, request: object, credentials: Credentials, *, within: float = ANSWER_SECONDS
) -> Any:
    """The answer of the PipelineService at an address.

    Raises:
        AtomeshError: its error, or that it does not answer.
    """
    import grpc.aio

    from atomesh.rpc.channel import from_rpc_error, open_channel
    from atomesh.v1 import pipeline_pb2_grpc

    async with open_channel(address, credentials) as channel:
        stub: Any = pipeline_pb2_grpc.PipelineServiceStub(channel)
        try:
            return await getattr(stub, method)(request, timeout=within, metadata=credentials.metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None


def resume(
    run_id: RunId,
    flags: RunFlags,
    repeat_interrupted: Annotated[
        bool,
        typer.Option(
            "--repeat-interrupted", help="Run what was under way again, even where its agent must not run twice."
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Go on with a durable run that was interrupted, after its last finished stage.

    \b
    atomesh runs resume 3f2a91bc4f11
    """
    from atomesh.cli._logging import configure
    from atomesh.cli._settings import load

    settings = load(flags)
    configure(settings, quiet=True)
    return asyncio.run(_resume(run_id, settings, repeat=repeat_interrupted, as_json=as_json))


async def _resume(wanted: str, settings: Settings, *, repeat: bool, as_json: bool) -> int:
    from atomesh.cli._pipelines import check_providers, opened_room
    from atomesh.cli._run_found import find
    from atomesh.cli._run_shown import ended, shown
    from atomesh.cli._run_view import RunView

    # The view is left last: closing the room is what interrupts the run again after Ctrl-C.
    with RunView(quiet=as_json) as view:
        async with opened_room(settings, durable=True) as room:
            run_id = (await find(wanted, room.store)).id
            resumption = await room.store.claim(run_id, room.runner.owner)
            try:
                plan = await room.shelf.of_json(resumption.spec)
                check_providers(plan.spec)
            except BaseException:
                await room.store.release(run_id, room.runner.owner)
                raise
            run = room.runner.resume(plan, resumption, repeat_interrupted=repeat, listener=view.listen)
            record, failure = await ended(view, run, durable=True)
    return shown(record, failure, None, as_json=as_json)
