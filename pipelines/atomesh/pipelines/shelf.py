"""The pipelines of a process by name: those it serves, and those that people stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from atomesh.balancer import Client
from atomesh.core.clock import Clock
from atomesh.core.times import to_timestamp
from atomesh.pipelines.binding import Choose, plan_pipeline
from atomesh.pipelines.errors import UnknownPipeline
from atomesh.pipelines.model import PipelineSpec
from atomesh.pipelines.plan import Plan
from atomesh.pipelines.reading import read_pipeline
from atomesh.pipelines.store.base import RunStore
from atomesh.v1 import pipeline_pb2


class Shelf:
    """Finds plans by name, and stores pipelines."""

    def __init__(
        self, mesh: Client, store: RunStore, clock: Clock, *, choose: Choose | None = None, served: Mapping[str, Plan]
    ) -> None:
        """`served` go before stored ones of the same name."""
        self._mesh = mesh
        self._store = store
        self._clock = clock
        self._choose = choose
        self._served = dict(served)

    async def plan(self, name: str) -> Plan:
        """The plan of a pipeline, with the agents that are registered now.

        Raises:
            UnknownPipeline: there is none of that name.
            As `plan_pipeline`.
        """
        if (plan := self._served.get(name)) is not None:
            return plan
        try:
            stored = await self._store.get_pipeline(name)
        except UnknownPipeline as error:
            served = f"; served here are {', '.join(self._served)}" if self._served else ""
            error.message = f"{error.message}{served}"
            error.args = (error.message,)
            raise
        return await self.of_text(stored.text, name)

    async def of_text(self, text: str, name: str = "") -> Plan:
        """The plan of a pipeline's text. Raises as `plan_pipeline`."""
        spec, source = await asyncio.to_thread(read_pipeline, text, name)  # megabytes of YAML take seconds
        return await plan_pipeline(self._mesh, spec, source, choose=self._choose)

    async def of_json(self, text: str) -> Plan:
        """The plan of a model's JSON, as a durable run keeps it. Raises as `plan_pipeline`."""
        return await plan_pipeline(self._mesh, PipelineSpec.model_validate_json(text), choose=self._choose)

    async def get(self, name: str) -> pipeline_pb2.StoredPipeline:
        """A pipeline as text: as it is served here, else as it is stored. Raises UnknownPipeline."""
        served = self._served.get(name)
        return await self._store.get_pipeline(name) if served is None else _as_stored(served.spec)

    async def list(self) -> list[pipeline_pb2.StoredPipeline]:
        """All that are served here or stored, by name."""
        known = {pipeline.name: pipeline for pipeline in await self._store.list_pipelines()}
        known |= {name: _as_stored(plan.spec) for name, plan in self._served.items()}
        return [known[name] for name in sorted(known)]

    async def put(self, text: str) -> pipeline_pb2.StoredPipeline:
        """Stores a pipeline under its name, over what was there.

        Raises:
            PipelineInvalid: it is none. Whether its agents are there is asked when it runs.
        """
        pipeline = await asyncio.to_thread(stored, text, "", self._clock.wall())
        await self._store.put_pipeline(pipeline)
        return pipeline


def _as_stored(spec: PipelineSpec) -> pipeline_pb2.StoredPipeline:
    """A pipeline that is served, with its model as text; when it was stored, if it was, is not known."""
    text = spec.model_dump_json(exclude_defaults=True)
    return pipeline_pb2.StoredPipeline(name=spec.name, version=spec.version, description=spec.description, text=text)


def stored(text: str, source: str, wall: float) -> pipeline_pb2.StoredPipeline:
    """A pipeline's text as it is stored; `source` is its file's name, for errors. Raises PipelineInvalid."""
    spec, _ = read_pipeline(text, source)
    return pipeline_pb2.StoredPipeline(
        name=spec.name, version=spec.version, description=spec.description, text=text, stored_at=to_timestamp(wall)
    )
