"""What Prometheus sees of batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.wrappers_pb2 import DoubleValue
from prometheus_client import CollectorRegistry, generate_latest

from atomesh.pipelines.batch import PAIRS, BatchMetrics, BatchSettings, Observers, Unobserved, run_batch
from atomesh.pipelines.batch.metrics import MAX_TARGETS


async def test_batches_and_items_are_counted_by_target(fleet: Callable[..., Any]) -> None:
    registry = CollectorRegistry()
    metrics = BatchMetrics(registry)
    inputs = [("a", DoubleValue(value=1.0)), ("a", DoubleValue(value=-1.0)), ("stranger", DoubleValue(value=1.0))]
    await run_batch(fleet(a=2), PAIRS, inputs, BatchSettings(), observer=Observers(metrics, Unobserved()))
    await run_batch(fleet(a=1), "a", [DoubleValue(value=1.0)] * 9, BatchSettings(timeout=2.5), observer=metrics)
    page = generate_latest(registry).decode()
    for line in (
        'atomesh_batches_total{status="failed",target="pairs"} 1.0',
        'atomesh_batches_total{status="failed",target="a"} 1.0',
        'atomesh_batch_items_total{outcome="success",target="a"} 3.0',
        'atomesh_batch_items_total{outcome="failed",target="a"} 1.0',
        'atomesh_batch_items_total{outcome="failed",target="other"} 1.0',
        'atomesh_batch_items_total{outcome="timed_out",target="a"} 3.0',
        'atomesh_batch_items_total{outcome="not_run",target="a"} 4.0',
        'atomesh_batch_item_seconds_count{target="a"} 7.0',
    ):
        assert line in page, f"{line} is missing from\n{page}"
    assert "stranger" not in page, "a name that nobody registered makes no series"


async def test_targets_are_bounded(fleet: Callable[..., Any]) -> None:
    metrics = BatchMetrics()
    names = [f"agent-{n}" for n in range(MAX_TARGETS + 50)]
    inputs = [(name, DoubleValue(value=0.1)) for name in names]
    await run_batch(fleet(**dict.fromkeys(names, 1)), PAIRS, inputs, observer=metrics)
    page = generate_latest(metrics.registry).decode()
    assert page.count("atomesh_batch_items_total{") <= MAX_TARGETS + 1
