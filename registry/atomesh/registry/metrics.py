"""What a registry counts, as a value that is handed in; without one it counts for nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from atomesh.core.endpoint import ALL_STATES, ProbeResult, State
from atomesh.registry.ledger import RenewStatus
from atomesh.rpc.counting import Count, CounterFamily, HistogramFamily, Spread

_COMMIT_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds: an fsync takes half a millisecond on a good disk and ten seconds on a dying one."""

_PROBE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds: two milliseconds on loopback, the timeout for who hangs."""

_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Operations: one where nobody waits, a thousand when a fleet registers at once."""


class RegistryMetrics:
    """The families, registered once, their labels bound once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Once per collector registry."""
        self.collectors = registry
        self._count_leases()
        self._count_commits()
        self._count_watches()
        self._count_probes()

    def _count_leases(self) -> None:
        registrations = self._by("result", "registrations", "Registrations by result.")
        self.registered = registrations.labels("registered")
        self.incompatible = registrations.labels("incompatible")
        self.register_failed = registrations.labels("failed")
        renewals = self._by("result", "renewals", "Lease renewals by result.")
        self.renewals = {status: renewals.labels(status.name.lower()) for status in RenewStatus}
        self.expirations = self._counter("expirations", "Leases that ran out.")
        self.suspicions = self._counter("suspicions", "Leases that ran out and were doubted instead.")
        self.removals = self._counter("deregistrations", "Endpoints that left.")
        self.warm = self._gauge("warm", "0 while a restarted registry holds its answers.")
        self.self_preservation = self._gauge(
            "self_preservation", "1 while the registry doubts itself rather than its endpoints."
        )

    def _count_commits(self) -> None:
        commits = self._by("result", "commits", "Commits to storage by result.")
        self.committed, self.commit_failed = commits.labels("committed"), commits.labels("failed")
        self.commit_seconds = self._spread("commit_seconds", "Time of a commit.", _COMMIT_BUCKETS)
        self.batch = self._spread("commit_operations", "Operations per commit.", _BATCH_BUCKETS)
        self.revision = self._gauge("revision", "The last committed revision.")

    def _count_watches(self) -> None:
        events = self._by("event", "watch_events", "Steps sent to watchers.")
        self.events = {name: events.labels(name) for name in ("reset", "changes", "bookmark")}
        self.slow_watchers = self._counter("slow_watchers", "Watches that fell behind and began anew.")
        self.watchers = self._gauge("watchers", "Watches that are open.")

    def _count_probes(self) -> None:
        probes = self._by("result", "probes", "Probes of endpoints by result.")
        seconds = HistogramFamily(
            "atomesh_registry_probe_seconds",
            "Time of a probe, name resolution and connection included.",
            ("result",),
            buckets=_PROBE_BUCKETS,
            registry=self.collectors,
        )
        names = {result: result.name.lower() for result in ProbeResult if result}
        self._probes = {result: (probes.labels(name), seconds.labels(name)) for result, name in names.items()}

    def probed(self, result: ProbeResult, seconds: float) -> None:
        """An endpoint was probed."""
        count, spread = self._probes[result]
        count.inc()
        spread.observe(seconds)

    def _by(self, label: str, name: str, about: str) -> CounterFamily:
        return CounterFamily(f"atomesh_registry_{name}_total", about, (label,), registry=self.collectors)

    def _counter(self, name: str, about: str) -> Count:
        return CounterFamily(f"atomesh_registry_{name}_total", about, (), registry=self.collectors).labels()

    def _spread(self, name: str, about: str, buckets: Sequence[float]) -> Spread:
        family = HistogramFamily(f"atomesh_registry_{name}", about, (), buckets=buckets, registry=self.collectors)
        return family.labels()

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(f"atomesh_registry_{name}", about, registry=self.collectors)

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
