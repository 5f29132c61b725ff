"""Plain counters say in a scrape what prometheus_client's own would."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from atomesh.rpc.counting import CounterFamily, HistogramFamily

BOUNDS = (0.1, 1, 10)


def lines(registry: CollectorRegistry) -> list[str]:
    """A scrape, without the series that say when a counter was made, which ours do not have."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_scrape_is_the_same_as_with_the_originals() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    count, original = CounterFamily("a_total", "A.", ("x",), registry=ours), Counter("a", "A.", ("x",), registry=theirs)
    spread = HistogramFamily("b_seconds", "B.", ("x",), buckets=BOUNDS, registry=ours)
    histogram = Histogram("b_seconds", "B.", ("x",), buckets=BOUNDS, registry=theirs)
    for name in ("one", 'two "quoted"\n'):
        count.labels(name).inc()
        original.labels(name).inc()
        for value in (0.05, 0.1, 0.5, 10, 11, 1e9):
            spread.labels(name).observe(value)
            histogram.labels(name).observe(value)
    assert sorted(lines(ours)) == sorted(lines(theirs))


def test_a_family_without_labels_has_one_series() -> None:
    registry = CollectorRegistry()
    series = CounterFamily("a_total", "A.", (), registry=registry).labels()
    series.inc()
    series.inc(4)
    assert registry.get_sample_value("a_total") == 5


def test_series_end_by_label() -> None:
    registry = CollectorRegistry()
    family = CounterFamily("a_total", "A.", ("agent", "endpoint"), registry=registry)
    for agent, endpoint in (("a", "1"), ("a", "2"), ("b", "1")):
        family.labels(agent, endpoint).inc()
    family.remove_by_labels({"endpoint": "1"})
    assert registry.get_sample_value("a_total", {"agent": "a", "endpoint": "1"}) is None
    assert registry.get_sample_value("a_total", {"agent": "a", "endpoint": "2"}) == 1


def test_a_series_kept_is_the_series_scraped() -> None:
    registry = CollectorRegistry()
    family = HistogramFamily("b", "B.", ("x",), buckets=BOUNDS, registry=registry)
    assert family.labels("1") is family.labels("1")
    family.labels("1").observe(2)
    assert registry.get_sample_value("b_bucket", {"x": "1", "le": "1.0"}) == 0
    assert registry.get_sample_value("b_bucket", {"x": "1", "le": "10.0"}) == 1
