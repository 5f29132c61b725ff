"""What the pages of metrics of a mesh come to: plain sums, per agent and in all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_REGISTRY = "atomesh_registry_"
_AGENT = "atomesh_agent_"


@dataclass(slots=True)
class Mean:
    """How often something took how long, from a histogram's sum and count."""

    count: int = 0
    seconds: float = 0.0

    @property
    def mean(self) -> float | None:
        """Seconds; None where nothing was counted."""
        return self.seconds / self.count if self.count else None


class Scrape:
    """One page of metrics: its samples by name."""

    def __init__(self, text: str) -> None:
        """Parses the text format.

        Raises:
            ValueError: it is none.
        """
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    self._take(sample)
        except (ValueError, IndexError):  # the latter of half a label, which the parser does not expect
            raise ValueError("it is no page of metrics") from None

    def _take(self, sample: Sample) -> None:
        """A count that is no number is nobody's: one NaN would make NaN of every sum."""
        if math.isfinite(sample.value) and sample.value >= 0:
            self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def __contains__(self, name: str) -> bool:
        """Whether it has samples of this name."""
        return name in self._samples

    def total(self, name: str) -> int:
        """All series of a counter or gauge together."""
        return round(sum(value for _, value in self._samples.get(name, ())))

    def by(self, name: str, label: str) -> dict[str, int]:
        """A counter or gauge by the values of one label; series without it are left out."""
        sums: dict[str, int] = {}
        for labels, value in self._samples.get(name, ()):
            if (key := labels.get(label)) is not None:
                sums[key] = sums.get(key, 0) + round(value)
        return sums

    def means(self, name: str, label: str) -> dict[str, Mean]:
        """A histogram by the values of one label, "" for series without it."""
        found: dict[str, Mean] = {}
        for labels, value in self._samples.get(f"{name}_count", ()):
            found.setdefault(labels.get(label, ""), Mean()).count += round(value)
        for labels, value in self._samples.get(f"{name}_sum", ()):
            found.setdefault(labels.get(label, ""), Mean()).seconds += value
        return found

    def samples(self, name: str) -> Iterable[tuple[Mapping[str, str], float]]:
        """The series of this name."""
        return self._samples.get(name, ())


@dataclass(frozen=True, slots=True)
class RegistrySums:
    """What a registry has counted since it started."""

    revision: int
    warm: bool
    self_preservation: bool
    watchers: int
    leases: Mapping[str, int]
    registrations: Mapping[str, int]
    renewals: Mapping[str, int]
    deregistrations: int
    expirations: int
    suspicions: int
    probes: Mapping[str, int]
    probe_times: Mapping[str, Mean]
    commits: Mapping[str, int]
    commit_time: Mean


def registry_sums(page: Scrape) -> RegistrySums:
    """What a registry's page says.

    Raises:
        ValueError: it is not the page of a registry.
    """
    if f"{_REGISTRY}revision" not in page:
        raise ValueError(f"it has no {_REGISTRY}revision")
    return RegistrySums(
        revision=page.total(f"{_REGISTRY}revision"),
        warm=f"{_REGISTRY}warm" not in page or page.total(f"{_REGISTRY}warm") > 0,
        self_preservation=page.total(f"{_REGISTRY}self_preservation") > 0,
        watchers=page.total(f"{_REGISTRY}watchers"),
        leases=page.by(f"{_REGISTRY}leases", "state"),
        registrations=page.by(f"{_REGISTRY}registrations_total", "result"),
        renewals=page.by(f"{_REGISTRY}renewals_total", "result"),
        deregistrations=page.total(f"{_REGISTRY}deregistrations_total"),
        expirations=page.total(f"{_REGISTRY}expirations_total"),
        suspicions=page.total(f"{_REGISTRY}suspicions_total"),
        probes=page.by(f"{_REGISTRY}probes_total", "result"),
        probe_times=page.means(f"{_REGISTRY}probe_seconds", "result"),
        commits=page.by(f"{_REGISTRY}commits_total", "result"),
        commit_time=page.means(f"{_REGISTRY}commit_seconds", "").get("", Mean()),
    )


@dataclass(slots=True)
class AgentSums:
    """What the processes of one agent, or of all, have counted since each started."""

    processes: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    time: Mean = field(default_factory=Mean)
    in_flight: int = 0
    slots: int = 0
    queued: int = 0
    refusals: dict[str, int] = field(default_factory=dict)

    @property
    def executions(self) -> int:
        """Those that ended."""
        return sum(self.outcomes.values())

    @property
    def errors(self) -> int:
        """Those that did not end well, whoever was to blame."""
        return self.executions - self.outcomes.get("ok", 0)

    def add(self, other: AgentSums) -> None:
        """Takes in what another has counted."""
        self.processes += other.processes
        for own, more in ((self.outcomes, other.outcomes), (self.refusals, other.refusals)):
            for key, count in more.items():
                own[key] = own.get(key, 0) + count
        self.time.count += other.time.count
        self.time.seconds += other.time.seconds
        self.in_flight += other.in_flight
        self.slots += other.slots
        self.queued += other.queued


def agent_sums(page: Scrape) -> dict[str, AgentSums]:
    """What each agent of a process says on its page."""
    times = page.means(f"{_AGENT}execution_seconds", "agent")
    in_flight, slots, queued = (page.by(f"{_AGENT}{name}", "agent") for name in ("in_flight", "slots", "queued"))
    sums = {
        agent: AgentSums(
            processes=1,
            time=times.get(agent, Mean()),
            in_flight=in_flight.get(agent, 0),
            slots=count,
            queued=queued.get(agent, 0),
        )
        for agent, count in slots.items()
    }
    for name, label in (("executions", "outcome"), ("refusals", "reason")):
        for labels, value in page.samples(f"{_AGENT}{name}_total"):
            if (known := sums.get(labels.get("agent", ""))) is not None:
                counts = known.outcomes if name == "executions" else known.refusals
                counts[labels.get(label, "other")] = counts.get(labels.get(label, "other"), 0) + round(value)
    return sums


def folded(pages: Iterable[Mapping[str, AgentSums]]) -> dict[str, AgentSums]:
    """Agents of many processes, each agent once, by name."""
    agents: dict[str, AgentSums] = {}
    for page in pages:
        for agent, sums in page.items():
            agents.setdefault(agent, AgentSums()).add(sums)
    return dict(sorted(agents.items()))


def in_all(agents: Mapping[str, AgentSums]) -> AgentSums:
    """All agents as one."""
    whole = AgentSums()
    for sums in agents.values():
        whole.add(sums)
    return whole


def registry_data(sums: RegistrySums) -> dict[str, Any]:
    """For JSON; docs/cli.md says what each entry is."""
    return {
        "revision": sums.revision,
        "warm": sums.warm,
        "self_preservation": sums.self_preservation,
        "watchers": sums.watchers,
        "leases": dict(sums.leases),
        "registrations": dict(sums.registrations),
        "renewals": dict(sums.renewals),
        "deregistrations": sums.deregistrations,
        "expirations": sums.expirations,
        "suspicions": sums.suspicions,
        "probes": {
            result: {"count": count, "mean_seconds": sums.probe_times.get(result, Mean()).mean}
            for result, count in sums.probes.items()
        },
        "commits": {**sums.commits, "mean_seconds": sums.commit_time.mean},
    }


def agent_data(sums: AgentSums) -> dict[str, Any]:
    """For JSON."""
    return {
        "processes": sums.processes,
        "executions": sums.executions,
        "errors": sums.errors,
        "outcomes": dict(sorted(sums.outcomes.items())),
        "mean_seconds": sums.time.mean,
        "in_flight": sums.in_flight,
        "slots": sums.slots,
        "queued": sums.queued,
        "refusals": {reason: count for reason, count in sorted(sums.refusals.items()) if count},
    }
