"""What a registry counts, as a value that is handed in; without one it counts for nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from atomesh.core.endpoint import ALL_STATES, State

_COMMIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds: an fsync takes half a millisecond on a good disk and ten seconds on a dying one."""

_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Operations: one where nobody waits, a thousand when a fleet registers at once."""


class RegistryMetrics:
    """The families, registered once, their labels bound once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Once per collector registry."""
        self.collectors = registry
        registrations = Counter(
            "atomesh_registry_registrations_total", "Registrations by result.", ("result",), registry=registry
        )
        self.registered = registrations.labels("registered")
        self.incompatible = registrations.labels("incompatible")
        self.register_failed = registrations.labels("failed")
        renewals = Counter(
            "atomesh_registry_renewals_total", "Lease renewals by result.", ("result",), registry=registry
        )
        self.renewals = {name: renewals.labels(name.lower()) for name in ("RENEWED", "UNKNOWN", "SUPERSEDED")}
        self.expirations = Counter("atomesh_registry_expirations_total", "Leases that ran out.", registry=registry)
        self.suspicions = Counter(
            "atomesh_registry_suspicions_total", "Leases that ran out and were doubted instead.", registry=registry
        )
        self.removals = Counter("atomesh_registry_deregistrations_total", "Endpoints that left.", registry=registry)
        commits = Counter(
            "atomesh_registry_commits_total", "Commits to storage by result.", ("result",), registry=registry
        )
        self.committed, self.commit_failed = commits.labels("committed"), commits.labels("failed")
        self.commit_seconds = Histogram(
            "atomesh_registry_commit_seconds", "Time of a commit.", buckets=_COMMIT_BUCKETS, registry=registry
        )
        self.batch = Histogram(
            "atomesh_registry_commit_operations", "Operations per commit.", buckets=_BATCH_BUCKETS, registry=registry
        )
        events = Counter(
            "atomesh_registry_watch_events_total", "Steps sent to watchers.", ("event",), registry=registry
        )
        self.events = {name: events.labels(name) for name in ("reset", "changes", "bookmark")}
        self.slow_watchers = Counter(
            "atomesh_registry_slow_watchers_total", "Watches that fell behind and began anew.", registry=registry
        )
        self.watchers = Gauge("atomesh_registry_watchers", "Watches that are open.", registry=registry)
        self.revision = Gauge("atomesh_registry_revision", "The last committed revision.", registry=registry)
        self.self_preservation = Gauge(
            "atomesh_registry_self_preservation",
            "1 while leases are doubted rather than expired.",
            registry=registry,
        )

    def show_leases(self, counts: Callable[[], Mapping[State, int]]) -> None:
        """Adds the leases by state, counted when somebody scrapes."""
        self.collectors.register(_Leases(counts))


class _Leases(Collector):
    def __init__(self, counts: Callable[[], Mapping[State, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("atomesh_registry_leases", "Live leases by state.", labels=("state",))
        counts = self._counts()
        for state in ALL_STATES:
            family.add_metric([state.name.lower()], counts.get(state, 0))
        yield family
