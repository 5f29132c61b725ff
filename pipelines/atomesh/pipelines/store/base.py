"""Where runs, pipelines and definitions are kept: the protocol that every store speaks.

`begin` and `end` only hand a record over: it is written behind the run, in
batches, off its path. What a durable run needs to go on is written before it
begins (`begin_durable`), and so is what people store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from google.protobuf import any_pb2

from atomesh.pipelines.record import RunRecord, RunStatus
from atomesh.v1 import context_pb2, pipeline_pb2

MAX_OUTPUT = 64 * 1024
"""Bytes of an output that are kept, unless said otherwise. Half cuts off a usual
LLM answer; at a megabyte, a week of runs fills a laptop's disk."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a durable run needs to go on."""

    run_id: str
    spec: str
    """The pipeline as JSON, as it was when the run began."""
    input: any_pb2.Any
    context: context_pb2.Context
    owner: str
    """Who runs it, or ran it."""
    started_at: float = 0.0
    """When it first began (Unix seconds); a claim says so."""


class RunStore(Protocol):
    """Keeps runs, and what people store. Methods raise StoreUnavailable where the store cannot be reached."""

    name: str
    """Where it is, in words: a path, or a URL without its password."""

    async def open(self) -> None:
        """Ready for use; makes or migrates what is needed. Raises StoreUnusable where that cannot be."""
        ...

    async def close(self) -> None:
        """Writes what is left, and lets go."""
        ...

    async def flush(self) -> None:
        """Returns once all that was handed over is written."""
        ...

    def begin(self, run: RunRecord) -> None:
        """A run began. Returns at once."""
        ...

    def end(self, run: RunRecord) -> None:
        """A run ended; nothing in its record changes any more. Returns at once."""
        ...

    async def begin_durable(self, run: RunRecord, resumption: Resumption) -> None:
        """A durable run begins: returns once it can be resumed. Raises RunExists where the id is taken."""
        ...

    async def claim(self, run_id: str, owner: str) -> Resumption:
        """Takes over an interrupted durable run, so that no other process does too.

        Raises:
            UnknownRun: there is none.
            NotResumable: it has ended, is not durable, or its owner still runs.
        """
        ...

    async def release(self, run_id: str, owner: str) -> None:
        """Gives up a durable run that is `owner`'s and has not ended, so that anybody may claim it at once; else nothing."""
        ...

    async def get_run(self, run_id: str) -> pipeline_pb2.Run:
        """A run with its stages. Raises UnknownRun."""
        ...

    async def find_runs(self, beginning: str, limit: int = 10) -> list[str]:
        """Ids of runs that begin so, in order; any case but the same one is another id."""
        ...

    async def get_types(self, digest: str) -> bytes:
        """The serialized FileDescriptorSet of that hash, see `Run.descriptor_hash`; empty where it is not kept."""
        ...

    async def list_runs(
        self, pipeline: str = "", statuses: Sequence[RunStatus] = (), limit: int = 50, before: str = ""
    ) -> list[pipeline_pb2.Run]:
        """Runs without their stages, newest first, those that began before the run `before`."""
        ...

    async def put_pipeline(self, pipeline: pipeline_pb2.StoredPipeline) -> None:
        """Stores it over what has its name; durable on return."""
        ...

    async def get_pipeline(self, name: str) -> pipeline_pb2.StoredPipeline:
        """Raises UnknownPipeline."""
        ...

    async def list_pipelines(self) -> list[pipeline_pb2.StoredPipeline]:
        """By name."""
        ...

    async def delete_pipeline(self, name: str) -> None:
        """Raises UnknownPipeline."""
        ...

    async def put_definition(self, definition: pipeline_pb2.Definition) -> None:
        """Stores it over what has its name; durable on return."""
        ...

    async def get_definition(self, name: str) -> pipeline_pb2.Definition:
        """Raises UnknownDefinition."""
        ...

    async def list_definitions(self) -> list[pipeline_pb2.Definition]:
        """By name."""
        ...

    async def delete_definition(self, name: str) -> None:
        """Raises UnknownDefinition."""
        ...
