"""What batches count, as a value that is handed to them: an observer that Prometheus reads.

Labels are targets that are registered; a name that nobody registered counts as
"other", and so does every target after the first two hundred.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from atomesh.core.errors import UnknownAgent
from atomesh.pipelines.batch.model import BatchItem, BatchSummary
from atomesh.pipelines.batch.observer import Unobserved
from atomesh.rpc.counting import CounterFamily, HistogramFamily
from atomesh.rpc.metrics import BUCKETS

OTHER = "other"
MAX_TARGETS = 200


class BatchMetrics(Unobserved):
    """The families of the batches of one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Registers the families; without a registry they are counted and shown nowhere."""
        self.registry = registry = registry or CollectorRegistry()
        self.batches = CounterFamily(
            "atomesh_batches_total", "Batches that ended, by status.", ("target", "status"), registry=registry
        )
        self.items = CounterFamily(
            "atomesh_batch_items_total", "Items that ended, by outcome.", ("target", "outcome"), registry=registry
        )
        self.item_seconds = HistogramFamily(
            "atomesh_batch_item_seconds",
            "Time of items that were begun, waiting included.",
            ("target",),
            buckets=BUCKETS,
            registry=registry,
        )
        self._targets: set[str] = set()

    def item_ended(self, batch_id: str, item: BatchItem) -> None:
        """Counts an item."""
        target = OTHER if isinstance(item.error, UnknownAgent) else self._label(item.target)
        self.items.labels(target, item.outcome.value).inc()
        if item.seconds > 0:
            self.item_seconds.labels(target).observe(item.seconds)

    def ended(self, summary: BatchSummary) -> None:
        """Counts a batch."""
        self.batches.labels(self._label(summary.target), summary.status.value).inc()
        if summary.not_run:
            self.items.labels(self._label(summary.target), "not_run").inc(summary.not_run)

    def _label(self, target: str) -> str:
        if target not in self._targets:
            if not target or len(self._targets) >= MAX_TARGETS:
                return OTHER
            self._targets.add(target)
        return target
