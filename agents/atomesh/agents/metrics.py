"""What is counted of agents, as values that are handed in.

Every label value is bounded: agents are those of the process, outcomes and
reasons are the enums below.
"""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import CollectorRegistry, Gauge

from atomesh.agents.admission import Admission
from atomesh.core.errors import AtomeshError
from atomesh.rpc.counting import CounterFamily, HistogramFamily
from atomesh.rpc.metrics import BUCKETS

_WAITS = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
# To a second: nobody waits for longer (admission.PATIENCE).


class Outcome(StrEnum):
    """How an execution ended."""

    OK = "ok"
    FAILED = "failed"
    CRASHED = "crashed"
    INVALID_OUTPUT = "invalid_output"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"


_REASONS = frozenset(
    {
        "NO_FREE_SLOT",
        "DRAINING",
        "CALL_LOOP",
        "CALL_TOO_DEEP",
        "WRONG_INSTANCE",
        "DEADLINE_EXCEEDED",
        "INVALID_INPUT",
        "WRONG_TYPE",
        "INVALID_ARGUMENT",
        "CANCELLED",
    }
)


class AgentMetrics:
    """The families, registered once per registry."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Without a registry they are counted and shown nowhere."""
        registry = registry or CollectorRegistry()
        self.executions = CounterFamily(
            "atomesh_agent_executions_total",
            "Executions that ended, by outcome.",
            ("agent", "outcome"),
            registry=registry,
        )
        self.seconds = HistogramFamily(
            "atomesh_agent_execution_seconds",
            "Time that executions took, validation included.",
            ("agent",),
            buckets=BUCKETS,
            registry=registry,
        )
        self.waits = HistogramFamily(
            "atomesh_agent_queue_wait_seconds",
            "Time that calls which found no free slot waited for one, or until they were refused.",
            ("agent",),
            buckets=_WAITS,
            registry=registry,
        )
        self.in_flight = Gauge("atomesh_agent_in_flight", "Slots taken now.", ("agent",), registry=registry)
        self.granted = Gauge(
            "atomesh_agent_granted", "Slots promised to clients and not used yet.", ("agent",), registry=registry
        )
        self.queued = Gauge(
            "atomesh_agent_queued",
            "Calls and demands of clients that wait for a slot now.",
            ("agent",),
            registry=registry,
        )
        self.muxes = Gauge("atomesh_agent_muxes", "Streams of clients that are open.", ("agent",), registry=registry)
        self.slots = Gauge("atomesh_agent_slots", "Executions at once, at most.", ("agent",), registry=registry)
        self.refusals = CounterFamily(
            "atomesh_agent_refusals_total",
            "Calls refused unexecuted, by reason.",
            ("agent", "reason"),
            registry=registry,
        )

    def bind(self, admission: Admission) -> AgentSeries:
        """The series of one agent; its gauges are read when somebody scrapes, and cost nothing else."""
        agent = admission.agent
        self.in_flight.labels(agent).set_function(lambda: admission.in_flight)
        self.granted.labels(agent).set_function(lambda: admission.taken - admission.in_flight)
        self.queued.labels(agent).set_function(lambda: admission.wanted)
        self.slots.labels(agent).set_function(lambda: admission.slots)
        return AgentSeries(self, agent)


class AgentSeries:
    """What is counted of one agent, labels bound."""

    __slots__ = ("_refusals", "muxes", "outcomes", "seconds", "waits")

    def __init__(self, families: AgentMetrics, agent: str) -> None:
        """Binds the labels."""
        self.outcomes = {outcome: families.executions.labels(agent, outcome.value) for outcome in Outcome}
        self.seconds = families.seconds.labels(agent)
        self.waits = families.waits.labels(agent)
        self.muxes = families.muxes.labels(agent)
        self._refusals = {reason: families.refusals.labels(agent, reason) for reason in (*sorted(_REASONS), "other")}

    def ended(self, outcome: Outcome, seconds: float) -> None:
        """Counts an execution."""
        self.outcomes[outcome].value += 1
        self.seconds.observe(seconds)

    def refused(self, error: AtomeshError) -> None:
        """Counts a call that was not executed."""
        self._refusals[error.reason if error.reason in _REASONS else "other"].inc()
