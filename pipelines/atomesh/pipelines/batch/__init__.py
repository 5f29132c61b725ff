"""Many inputs for an agent, for several, or for whatever else has slots: as fast as the fleet can, each once."""

from atomesh.pipelines.batch.batch import Batch
from atomesh.pipelines.batch.errors import BatchFailed, EmptyBatch
from atomesh.pipelines.batch.executor import Executor, MeshExecutor
from atomesh.pipelines.batch.metrics import BatchMetrics
from atomesh.pipelines.batch.model import (
    PAIRS,
    BatchInput,
    BatchItem,
    BatchSettings,
    BatchStatus,
    BatchSummary,
    Ended,
    Executed,
    ItemError,
    Outcome,
    Progress,
    Share,
)
from atomesh.pipelines.batch.observer import BatchObserver, Observers, Unobserved
from atomesh.pipelines.batch.run import BatchResult, open_batch, run_batch
from atomesh.pipelines.batch.runs import RunExecutor

__all__ = [
    "PAIRS",
    "Batch",
    "BatchFailed",
    "BatchInput",
    "BatchItem",
    "BatchMetrics",
    "BatchObserver",
    "BatchResult",
    "BatchSettings",
    "BatchStatus",
    "BatchSummary",
    "EmptyBatch",
    "Ended",
    "Executed",
    "Executor",
    "ItemError",
    "MeshExecutor",
    "Observers",
    "Outcome",
    "Progress",
    "RunExecutor",
    "Share",
    "Unobserved",
    "open_batch",
    "run_batch",
]
