"""Many inputs, one after the other, as many at once as the fleet has slots for.

    result = await run_batch(mesh, "text-processor", inputs)

    async with open_batch(mesh, TEXT, inputs, BatchSettings(ordered=True)) as batch:
        async for item in batch:
            ...

There is a task for each call that is outstanding, one that reads the inputs and
one per target that follows its capacity; memory is that of the windows, the
inputs read ahead and the results that wait to be read, all bounded. An input is
sent once: whether an attempt that failed is made again is the mesh's decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atomesh.balancer.client import Client
from atomesh.pipelines.batch.batch import Batch, Watch
from atomesh.pipelines.batch.executor import Executor, MeshExecutor
from atomesh.pipelines.batch.inputs import Inputs
from atomesh.pipelines.batch.model import (
    BatchItem,
    BatchSettings,
    BatchSummary,
    Outcome,
    Pairs,
    Progress,
    Target,
)
from atomesh.pipelines.batch.observer import BatchObserver, Unobserved

_DEFAULTS = BatchSettings()


@dataclass(frozen=True, slots=True)
class BatchResult:
    """A batch that is over: its analytics, and its items in the order of the inputs unless they were not kept."""

    summary: BatchSummary
    items: tuple[BatchItem, ...]

    @property
    def outputs(self) -> list[Any]:
        """The outputs that there are."""
        return [item.output for item in self.items if item.outcome is Outcome.SUCCESS]


def open_batch(
    mesh: Client | Executor,
    target: Target | Pairs,
    inputs: Inputs,
    settings: BatchSettings = _DEFAULTS,
    *,
    observer: BatchObserver | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Batch:
    """A batch to be entered and read: `async with open_batch(...) as batch: async for item in batch`.

    `target` is an agent's name or Contract, whatever else the executor knows, or
    PAIRS, and then each input is `(target, input)`. `inputs` are of any number,
    from an iterable or async iterable; it is read as they are needed.
    `progress` is called ten times a second at most, and at the end.

    Raises:
        InvalidArgument: the target is none.
    """
    executor = MeshExecutor(mesh) if isinstance(mesh, Client) else mesh
    return Batch(executor, target, inputs, settings, Watch(observer or Unobserved(), progress))


async def run_batch(
    mesh: Client | Executor,
    target: Target | Pairs,
    inputs: Inputs,
    settings: BatchSettings = _DEFAULTS,
    *,
    observer: BatchObserver | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> BatchResult:
    """A whole batch; see `open_batch`. One bad item never ends it.

    Raises:
        UnknownAgent, RegistryUnavailable: the target is not known, or nobody can tell.
        EmptyBatch: there is no input.
        BatchFailed: it is strict, and something failed.
    """
    kept: list[BatchItem] = []
    async with open_batch(mesh, target, inputs, settings, observer=observer, progress=progress) as batch:
        async for item in batch:
            if settings.keep:
                kept.append(item)
    kept.sort(key=lambda item: item.index)
    return BatchResult(batch.summary(), tuple(kept))
