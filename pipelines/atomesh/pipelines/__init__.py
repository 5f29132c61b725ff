"""Typed plans of agents: written or found, run with a record of everything, served as agents themselves."""

from atomesh.pipelines.agent import pipeline_agent
from atomesh.pipelines.binding import plan_pipeline
from atomesh.pipelines.builder import Pipeline, cel, ref
from atomesh.pipelines.errors import (
    Interrupted,
    NotResumable,
    PipelineInvalid,
    Problem,
    RunCancelled,
    RunExists,
    RunFailed,
    StoreUnavailable,
    StoreUnusable,
    UnknownDefinition,
    UnknownPipeline,
    UnknownRun,
)
from atomesh.pipelines.events import (
    AttemptFailed,
    Event,
    RunEnded,
    RunStarted,
    StageEnded,
    StageProgress,
    StageStarted,
)
from atomesh.pipelines.metrics import PipelineMetrics
from atomesh.pipelines.middleware import Middleware, Provider, RunObserver, StageCall
from atomesh.pipelines.model import PipelineSpec, StageSpec
from atomesh.pipelines.plan import Plan
from atomesh.pipelines.reading import read_pipeline
from atomesh.pipelines.record import RunRecord, RunStatus, StageRecord, StageStatus
from atomesh.pipelines.runner import Runner
from atomesh.pipelines.running import Outcome

__all__ = [
    "AttemptFailed",
    "Event",
    "Interrupted",
    "Middleware",
    "NotResumable",
    "Outcome",
    "Pipeline",
    "PipelineInvalid",
    "PipelineMetrics",
    "PipelineSpec",
    "Plan",
    "Problem",
    "Provider",
    "RunCancelled",
    "RunEnded",
    "RunExists",
    "RunFailed",
    "RunObserver",
    "RunRecord",
    "RunStarted",
    "RunStatus",
    "Runner",
    "StageCall",
    "StageEnded",
    "StageProgress",
    "StageRecord",
    "StageSpec",
    "StageStarted",
    "StageStatus",
    "StoreUnavailable",
    "StoreUnusable",
    "UnknownDefinition",
    "UnknownPipeline",
    "UnknownRun",
    "cel",
    "pipeline_agent",
    "plan_pipeline",
    "read_pipeline",
    "ref",
]
