"""Runs by the beginning of their ids, and the end of those that nobody runs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atomesh.cli._errors import UsageMistake
from atomesh.cli._run_words import gone, short

if TYPE_CHECKING:
    from atomesh.cli._settings import Settings
    from atomesh.pipelines.store import RunStore
    from atomesh.v1 import pipeline_pb2

_NAMED = 5  # ids that are listed where more than one begins so
_MORE = 4  # characters beyond what was typed


async def find(wanted: str, store: RunStore) -> pipeline_pb2.Run:
    """The run of that id, or the only one whose id begins so.

    Raises:
        UnknownRun: there is none.
        UsageMistake: there are several.
    """
    from atomesh.pipelines import UnknownRun

    try:
        return await store.get_run(wanted)
    except UnknownRun:
        found = await store.find_runs(wanted, _NAMED + 1) if wanted else []
        if not found:
            raise
    if len(found) > 1:
        ids = ", ".join(run_id[: max(len(short(run_id)), len(wanted) + _MORE)] for run_id in found[:_NAMED])
        count = f"{len(found)} runs ({ids})" if len(found) <= _NAMED else f"more than {_NAMED} runs ({ids}, ...)"
        raise UsageMistake(f"{wanted!r:.80} begins {count}; write more of it")
    return await store.get_run(found[0])


async def end_interrupted(run: pipeline_pb2.Run, settings: Settings) -> None:
    """Ends a durable run whose process is gone, as cancelled, and forgets its checkpoints.

    Raises:
        NotResumable: somebody runs it again, or it has ended.
    """
    from atomesh.cli._pipelines import opened_checkpoints, opened_store
    from atomesh.core.clock import SYSTEM_CLOCK
    from atomesh.core.times import from_timestamp
    from atomesh.pipelines import RunStatus
    from atomesh.pipelines.machine import this_process
    from atomesh.pipelines.record import LogRecord, RunRecord

    owner, now, started = str(this_process()), SYSTEM_CLOCK.wall(), from_timestamp(run.started_at)
    record = RunRecord(
        run.id,
        run.pipeline,
        run.version,
        started,
        [],
        RunStatus.CANCELLED,
        ended_at=now,
        seconds=max(0.0, now - started),
        input_bytes=run.input_bytes,
        owner=owner,
        durable=True,
        request_id=run.request_id,
        user_id=run.user_id,
    )
    record.note(LogRecord(now, "", 0, "CANCELLED", f"ended by `atomesh runs cancel`: {gone(run.owner)}"))
    async with opened_checkpoints(settings) as checkpoints, opened_store(settings) as store:
        await store.claim(run.id, owner)
        store.end(record)
        await store.flush()  # its checkpoints are what it goes on from as long as its end is not on the disk
        await checkpoints.forget(run.id)
