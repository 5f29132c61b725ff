"""What is counted of runs and stages, as values that are handed in.

Labels are pipelines that this process made a plan of, their stages and the
enums of statuses: bounded.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from atomesh.pipelines.record import RunRecord, StageRecord
from atomesh.rpc.counting import Count, CounterFamily, HistogramFamily, Spread
from atomesh.rpc.metrics import BUCKETS

_RUN_BUCKETS = (*BUCKETS, 300, 1000, 3600)


class PipelineMetrics:
    """The families, registered once per registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Without a registry they are counted and shown nowhere."""
        self.registry = registry = registry or CollectorRegistry()
        by_pipeline, by_stage = ("pipeline",), ("pipeline", "stage")
        self.runs = CounterFamily(
            "atomesh_pipeline_runs_total", "Runs that ended, by status.", ("pipeline", "status"), registry=registry
        )
        self.run_seconds = HistogramFamily(
            "atomesh_pipeline_run_seconds", "Time of runs.", by_pipeline, buckets=_RUN_BUCKETS, registry=registry
        )
        self.stages = CounterFamily(
            "atomesh_pipeline_stages_total", "Stages that ended, by status.", (*by_stage, "status"), registry=registry
        )
        self.stage_seconds = HistogramFamily(
            "atomesh_pipeline_stage_seconds", "Time of stages.", by_stage, buckets=_RUN_BUCKETS, registry=registry
        )
        self.attempts = CounterFamily(
            "atomesh_pipeline_attempts_total", "Attempts of stages, items apart.", by_stage, registry=registry
        )
        self.circuit_open = CounterFamily(
            "atomesh_pipeline_circuit_open_total",
            "Stages that failed at once since their agent's every endpoint was ejected.",
            by_stage,
            registry=registry,
        )
        self.running = Gauge("atomesh_pipeline_running", "Runs under way.", by_pipeline, registry=registry)
        self._series: dict[str, PipelineSeries] = {}

    def of(self, pipeline: str) -> PipelineSeries:
        """The series of one pipeline."""
        series = self._series.get(pipeline)
        if series is None:
            series = self._series[pipeline] = PipelineSeries(self, pipeline)
        return series


class PipelineSeries:
    """What is counted of one pipeline, labels bound as they are used."""

    def __init__(self, families: PipelineMetrics, pipeline: str) -> None:
        """Nothing runs yet."""
        self._families = families
        self._pipeline = pipeline
        self._seconds = families.run_seconds.labels(pipeline)
        self._runs: dict[int, Count] = {}
        self._stages: dict[tuple[str, int], tuple[Count, Spread, Count]] = {}
        self.running = 0
        families.running.labels(pipeline).set_function(lambda: self.running)

    def run_ended(self, run: RunRecord) -> None:
        """Counts a run."""
        count = self._runs.get(run.status)
        if count is None:
            count = self._runs[run.status] = self._families.runs.labels(self._pipeline, run.status.name.lower())
        count.value += 1
        self._seconds.observe(run.seconds)

    def stage_ended(self, stage: StageRecord) -> None:
        """Counts a stage."""
        bound = self._stages.get((stage.stage, stage.status))
        if bound is None:
            families, labels = self._families, (self._pipeline, stage.stage)
            bound = (
                families.stages.labels(*labels, stage.status.name.lower()),
                families.stage_seconds.labels(*labels),
                families.attempts.labels(*labels),
            )
            self._stages[stage.stage, stage.status] = bound
        ended, seconds, attempts = bound
        ended.value += 1
        attempts.value += stage.attempt_count
        if stage.started_at:
            seconds.observe(stage.seconds)
        if stage.circuit_open:
            self._families.circuit_open.labels(self._pipeline, stage.stage).inc()
