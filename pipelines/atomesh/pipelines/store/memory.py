"""A store that keeps nothing beyond its process: for tests, and for who wants no file.

Runs that are under way are read from their runner's own records, so what is
shown of them is as they stand.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.pipelines.errors import RunExists
from atomesh.pipelines.machine import this_host
from atomesh.pipelines.owner import Host, given_up, owner_gone
from atomesh.pipelines.record import RunRecord, RunStatus
from atomesh.pipelines.store.base import Resumption
from atomesh.pipelines.store.claims import check_claimable
from atomesh.pipelines.store.missing import unknown_definition, unknown_pipeline, unknown_run
from atomesh.pipelines.store.retention import Kept, expired
from atomesh.pipelines.store.rows import listed, shown
from atomesh.pipelines.store.settings import StoreSettings
from atomesh.v1 import pipeline_pb2

LOOKED_AT = 100
"""Of the oldest runs, for one that may go. Where all of them are under way the
newest is kept as well: a store in memory must not stop anybody's work."""


class MemoryStore:
    """Runs, pipelines and definitions in memory."""

    name = "memory"

    def __init__(
        self, settings: StoreSettings | None = None, *, clock: Clock = SYSTEM_CLOCK, host: Host | None = None
    ) -> None:
        """Empty."""
        self._settings = settings or StoreSettings()
        self._clock = clock
        self._host = host or this_host()
        self._runs: dict[str, RunRecord] = {}
        self._resumptions: dict[str, Resumption] = {}
        self._pipelines: dict[str, pipeline_pb2.StoredPipeline] = {}
        self._definitions: dict[str, pipeline_pb2.Definition] = {}

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def flush(self) -> None:
        """Nothing to do."""

    def begin(self, run: RunRecord) -> None:
        """A run began."""
        if run.id in self._runs:
            return
        self._runs[run.id] = run
        if len(self._runs) > self._settings.retention.runs:
            oldest = itertools.islice(self._runs.values(), LOOKED_AT)
            if gone := next((kept.id for kept in oldest if kept.status.ended), None):
                del self._runs[gone]

    def end(self, run: RunRecord) -> None:
        """A run ended, over what was there of it, unless that has ended or is another owner's."""
        kept = self._runs.get(run.id)
        if kept is not None and kept is not run and (kept.owner != run.owner or kept.status.ended):
            return
        self._runs[run.id] = run
        self._resumptions.pop(run.id, None)

    async def begin_durable(self, run: RunRecord, resumption: Resumption) -> None:
        """A durable run begins. Raises RunExists."""
        if run.id in self._runs:
            raise RunExists(f"there is a run {run.id} already; name another, or leave the id out")
        self.begin(run)
        self._resumptions[run.id] = resumption

    async def claim(self, run_id: str, owner: str) -> Resumption:
        """Takes over a durable run whose owner is gone. Raises UnknownRun, NotResumable."""
        run = self._run(run_id)
        durable = run_id in self._resumptions
        # Nobody else could write here, so an owner that cannot be asked for is silent.
        check_claimable(run_id, run.status, run.owner, durable=durable, silence=float("inf"), here=self._host)
        # A copy: the record is still the old owner's, whatever becomes of it.
        self._runs[run_id] = replace(run, owner=owner)
        return replace(self._resumptions[run_id], started_at=run.started_at)

    async def release(self, run_id: str, owner: str) -> None:
        """Gives up a durable run."""
        run = self._runs.get(run_id)
        if run is not None and run_id in self._resumptions and run.owner == owner:
            self._runs[run_id] = replace(run, owner=given_up(owner), status=RunStatus.RUNNING, ended_at=0.0)

    async def get_run(self, run_id: str) -> pipeline_pb2.Run:
        """A run with its stages. Raises UnknownRun."""
        return shown(self._run(run_id), self._settings.max_output)

    async def find_runs(self, beginning: str, limit: int = 10) -> list[str]:
        """Ids of runs that begin so, in order."""
        return sorted(run_id for run_id in self._runs if run_id.startswith(beginning))[:limit]

    async def get_types(self, digest: str) -> bytes:
        """The types of outputs; empty where they are not kept."""
        found = (run.types for run in self._runs.values() if run.types is not None and run.types.hash == digest)
        return next((types.descriptor_set for types in found), b"")

    async def list_runs(
        self, pipeline: str = "", statuses: Sequence[RunStatus] = (), limit: int = 50, before: str = ""
    ) -> list[pipeline_pb2.Run]:
        """Runs without their stages, logs and outputs, newest first."""
        self._prune()
        last = self._run(before) if before else None
        found = [
            run
            for run in self._runs.values()
            if (not pipeline or run.pipeline == pipeline)
            and (not statuses or run.status in statuses)
            and (last is None or (run.started_at, run.id) < (last.started_at, last.id))
        ]
        found.sort(key=lambda run: (run.started_at, run.id), reverse=True)
        return [listed(shown(run, self._settings.max_output)) for run in found[:limit]]

    async def put_pipeline(self, pipeline: pipeline_pb2.StoredPipeline) -> None:
        """Stores a copy over what has its name."""
        self._pipelines[pipeline.name] = pipeline_pb2.StoredPipeline.FromString(pipeline.SerializeToString())

    async def get_pipeline(self, name: str) -> pipeline_pb2.StoredPipeline:
        """Raises UnknownPipeline."""
        if name not in self._pipelines:
            raise unknown_pipeline(name)
        return self._pipelines[name]

    async def list_pipelines(self) -> list[pipeline_pb2.StoredPipeline]:
        """By name."""
        return [self._pipelines[name] for name in sorted(self._pipelines)]

    async def delete_pipeline(self, name: str) -> None:
        """Raises UnknownPipeline."""
        if self._pipelines.pop(name, None) is None:
            raise unknown_pipeline(name)

    async def put_definition(self, definition: pipeline_pb2.Definition) -> None:
        """Stores a copy over what has its name."""
        self._definitions[definition.name] = pipeline_pb2.Definition.FromString(definition.SerializeToString())

    async def get_definition(self, name: str) -> pipeline_pb2.Definition:
        """Raises UnknownDefinition."""
        if name not in self._definitions:
            raise unknown_definition(name)
        return self._definitions[name]

    async def list_definitions(self) -> list[pipeline_pb2.Definition]:
        """By name."""
        return [self._definitions[name] for name in sorted(self._definitions)]

    async def delete_definition(self, name: str) -> None:
        """Raises UnknownDefinition."""
        if self._definitions.pop(name, None) is None:
            raise unknown_definition(name)

    def _run(self, run_id: str) -> RunRecord:
        if run_id not in self._runs:
            raise unknown_run(run_id)
        return self._runs[run_id]

    def _prune(self) -> None:
        kept = [
            Kept(
                run.id,
                run.started_at,
                run.status,
                durable=run.id in self._resumptions,
                abandoned=bool(owner_gone(run.owner, self._host)) if not run.status.ended else True,
            )
            for run in self._runs.values()
        ]
        for run_id in expired(kept, self._settings.retention, self._clock.wall()):
            del self._runs[run_id]
