"""Prometheus HTTP service discovery: one target for every process that has metrics.

https://prometheus.io/docs/prometheus/latest/http_sd/ asks for a JSON list of
target groups. What is known of a process comes as `__meta_atomesh_...` labels,
which vanish unless a scrape job relabels them. Several agents in one process
are one target; where they differ, a label has all values, sorted, with commas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypedDict

from atomesh.core.endpoint import Endpoint


class TargetGroup(TypedDict):
    """One entry of Prometheus HTTP service discovery."""

    targets: list[str]
    labels: dict[str, str]


_META = "__meta_atomesh_"
_NOT_A_LABEL = re.compile(r"[^a-zA-Z0-9_]")


class Processes:
    """Endpoints by the process that they are of, which is where its metrics are."""

    def __init__(self) -> None:
        """None yet."""
        self._served: dict[str, list[Endpoint]] = {}

    def add(self, endpoint: Endpoint) -> None:
        """One more; one without metrics is no target."""
        if endpoint.metrics_address:
            self._served.setdefault(endpoint.metrics_address, []).append(endpoint)

    def groups(self, registry_address: str) -> Iterator[TargetGroup]:
        """What Prometheus should scrape: the registry at its own address first, then the agents by theirs."""
        yield {"targets": [registry_address], "labels": {f"{_META}role": "registry"}}
        for address in sorted(self._served):
            yield {"targets": [address], "labels": _labels(self._served[address])}


def target_groups(endpoints: Iterable[Endpoint], registry_address: str) -> list[TargetGroup]:
    """All targets at once."""
    processes = Processes()
    for endpoint in endpoints:
        processes.add(endpoint)
    return list(processes.groups(registry_address))


def _labels(served: list[Endpoint]) -> dict[str, str]:
    labels: dict[str, str] = {f"{_META}role": "agent"}
    for name in ("agent", "version", "zone", "address", "instance_id"):
        labels[_META + name] = _joined(str(getattr(endpoint, name)) for endpoint in served)
    labels[f"{_META}state"] = _joined(endpoint.state.name.lower() for endpoint in served)
    for key in sorted({key for endpoint in served for key in endpoint.labels}):
        values = (endpoint.labels[key] for endpoint in served if key in endpoint.labels)
        labels[f"{_META}label_{_NOT_A_LABEL.sub('_', key)}"] = _joined(values)
    return labels


def _joined(values: Iterable[str]) -> str:
    return ",".join(sorted({value for value in values if value}))
