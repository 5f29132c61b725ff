"""Counters and histograms for the path of every call: plain numbers, read when somebody scrapes.

prometheus_client's own take a lock and several Python calls for each `inc`,
0.5 us of it warm and four times as much in a process that does other things
between; seven of them were a tenth of a call's whole cost. These are ints and
lists, because everything that counts with them lives on one event loop: they
are not for use from several threads. For everything else use prometheus_client.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        """Nothing yet."""
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        """So many more."""
        self.value += amount


class Spread:
    """One series of a histogram."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are upper ones, inclusive, in rising order."""
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """One more, of this size."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class CounterFamily(Collector):
    """A counter by labels; the name ends in `_total`."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry) -> None:
        """Registers itself."""
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._series: dict[tuple[str, ...], Count] = {}
        registry.register(self)

    def labels(self, *values: str) -> Count:
        """The series of these label values, made where it is new. Keep it: looking it up costs more than counting."""
        return self._series.setdefault(values, Count())

    def remove_by_labels(self, labels: dict[str, str]) -> None:
        """Ends all series that have these label values."""
        _remove(self._series, self._labels, labels)

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What a scrape sees."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, count in list(self._series.items()):
            family.add_metric(values, count.value)
        return [family]


class HistogramFamily(Collector):
    """A histogram by labels."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        """Registers itself. `buckets` are upper bounds in rising order, without infinity."""
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._bounds = tuple(map(float, buckets))
        self._series: dict[tuple[str, ...], Spread] = {}
        registry.register(self)

    def labels(self, *values: str) -> Spread:
        """The series of these label values, made where it is new."""
        return self._series.setdefault(values, Spread(self._bounds))

    def remove_by_labels(self, labels: dict[str, str]) -> None:
        """Ends all series that have these label values."""
        _remove(self._series, self._labels, labels)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What a scrape sees: cumulative buckets, as Prometheus wants them."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for values, spread in list(self._series.items()):
            below, buckets = 0, []
            for bound, count in zip(bounds, spread.counts, strict=True):
                below += count
                buckets.append((bound, below))
            family.add_metric(values, buckets, spread.total)
        return [family]


def _remove(
    series: dict[tuple[str, ...], Count] | dict[tuple[str, ...], Spread], names: tuple[str, ...], labels: dict[str, str]
) -> None:
    wanted = [(names.index(name), value) for name, value in labels.items()]
    for values in [values for values in series if all(values[at] == value for at, value in wanted)]:
        del series[values]
