"""Whom a batch's lines go to: an agent by name, or a pipeline by file or name; found once each."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from google.protobuf.message import Message

from atomesh.cli._errors import CliError, ExitCode

if TYPE_CHECKING:
    from atomesh.balancer import Client
    from atomesh.cli._settings import Settings
    from atomesh.pipelines import PipelineSpec
    from atomesh.pipelines.batch import Executor
    from atomesh.pipelines.reading import Source


@dataclass(frozen=True, slots=True)
class Found:
    """A target, what it takes, and whether it may run twice."""

    executor: Executor
    target: Any
    input: type[Message]
    idempotent: bool


class Targets:
    """Those of one batch; what running a pipeline needs is open until it is left."""

    def __init__(self, mesh: Client, settings: Settings) -> None:
        """None is known yet."""
        self._mesh = mesh
        self._settings = settings
        self._found: dict[str, Found] = {}
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes what was opened."""
        await self._open.aclose()

    async def find(self, name: str) -> Found:
        """The agent of that name.

        Raises:
            CliError: there is none.
            RegistryUnavailable: nobody can tell.
        """
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = await self._agent(name)
        return found

    async def find_any(self, name: str) -> Found:
        """The pipeline in that file, the agent of that name or, where there is none, the stored pipeline.

        Raises:
            CliError: there is none of them.
            RegistryUnavailable: nobody can tell.
            PipelineInvalid: the pipeline does not fit its agents.
        """
        from atomesh.cli._pipelines import looks_like_file, read_file
        from atomesh.pipelines import UnknownPipeline

        if looks_like_file(name) and name != "-":
            spec, source, _ = read_file(name)
            return await self._pipeline(spec, source)
        try:
            return await self.find(name)
        except CliError as no_agent:
            if no_agent.code is not ExitCode.NOT_FOUND:
                raise
            try:
                return await self._stored(name)
            except UnknownPipeline:
                raise no_agent from None

    async def _agent(self, name: str) -> Found:
        from atomesh.cli.call import contract_of
        from atomesh.pipelines.batch import MeshExecutor

        contract = await contract_of(self._mesh, name, [], self._settings)
        endpoints = self._mesh.endpoints(name)
        twice = bool(endpoints) and all(endpoint.idempotent for endpoint in endpoints)
        return Found(MeshExecutor(self._mesh), contract, contract.input, twice)

    async def _stored(self, name: str) -> Found:
        from atomesh.cli._pipelines import named, opened_store

        async with opened_store(self._settings) as store:
            spec, source, _ = await named(name, store)
        return await self._pipeline(spec, source)

    async def _pipeline(self, spec: PipelineSpec, source: Source) -> Found:
        from atomesh.cli._pipelines import check_providers, opened_room, planned
        from atomesh.pipelines.batch import RunExecutor

        check_providers(spec)
        room = await self._open.enter_async_context(opened_room(self._settings, durable=spec.durable))
        plan = await planned(room, spec, source)
        return Found(RunExecutor(room.runner, room.mesh), plan, plan.contract.input, plan.idempotent)
