"""What a client counts, as a value that is handed to it.

Labels are agents and endpoints that a resolver told of; a name that nobody
registered counts as "other", or any caller could make any number of series.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.circuit import Circuit
from atomesh.core import errors
from atomesh.core.endpoint import Endpoint
from atomesh.core.errors import AtomeshError, code_name
from atomesh.rpc.counting import Count, CounterFamily, HistogramFamily, Spread
from atomesh.rpc.metrics import BUCKETS, GrpcMetrics, MethodSeries

OTHER = "other"


def reason_of(error: AtomeshError) -> str:
    """The error's reason as a label: a word of our own tree, or of gRPC's codes.

    The reasons that authors give their errors are theirs, and any number.
    """
    return code_name(error.code) if isinstance(error, errors.RemoteError) else type(error).reason


class ClientMetrics:
    """The families of one client."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Registers the families; without a registry they are counted and shown nowhere."""
        self.registry = registry = registry or CollectorRegistry()
        grpc = GrpcMetrics("client", registry)
        self.execute: MethodSeries = grpc.method("unary", "atomesh.v1.AgentService", "Execute")
        self.execute_stream: MethodSeries = grpc.method("server_stream", "atomesh.v1.AgentService", "ExecuteStream")
        by_agent, by_endpoint = ("agent",), ("agent", "endpoint")
        self.calls = CounterFamily(
            "atomesh_client_calls_total", "Calls that ended, by reason.", ("agent", "reason"), registry=registry
        )
        self.call_seconds = HistogramFamily(
            "atomesh_client_call_seconds",
            "Time of calls, waiting and all attempts included.",
            by_agent,
            buckets=BUCKETS,
            registry=registry,
        )
        self.queue_seconds = HistogramFamily(
            "atomesh_client_queue_wait_seconds",
            "Time that calls waited in this client for a slot.",
            by_agent,
            buckets=(0, *BUCKETS),
            registry=registry,
        )
        self.attempts = CounterFamily(
            "atomesh_client_attempts_total",
            "Attempts that ended, by endpoint and reason.",
            ("agent", "endpoint", "reason"),
            registry=registry,
        )
        self.retries = CounterFamily(
            "atomesh_client_retries_total",
            "Attempts again after one that may have run.",
            ("agent", "reason"),
            registry=registry,
        )
        self.hedges = CounterFamily(
            "atomesh_client_hedges_total",
            "Second attempts beside a slow first one, by whose answer was used: won is the second's.",
            ("agent", "outcome"),
            registry=registry,
        )
        self.ejections = CounterFamily(
            "atomesh_client_ejections_total", "Endpoints ejected.", by_endpoint, registry=registry
        )
        self.in_flight = Gauge(
            "atomesh_client_in_flight", "Attempts in flight, by endpoint.", by_endpoint, registry=registry
        )
        self.slots = Gauge("atomesh_client_slots", "Slots of endpoints, as they said.", by_endpoint, registry=registry)
        self.muxed = Gauge(
            "atomesh_client_muxed", "1 where calls to an endpoint go through a mux.", by_endpoint, registry=registry
        )
        self.waiting = Gauge("atomesh_client_waiting", "Calls that wait for a slot.", by_agent, registry=registry)
        self.circuit = Gauge(
            "atomesh_client_circuit",
            "Whether calls of an agent get through, by its endpoints' failures: 0 closed, 1 half-open, 2 open.",
            by_agent,
            registry=registry,
        )
        self.budget = Gauge("atomesh_client_retry_budget_left", "Retries that could be sent now.", registry=registry)


class Followed(Protocol):
    """Whoever follows an agent's endpoints, or those in a version range: a balancer."""

    @property
    def waiting(self) -> int:
        """Calls that wait."""
        ...

    @property
    def circuit(self) -> Circuit:
        """Whether calls get through."""
        ...


class AgentSeries:
    """The series of one agent, bound. All that follow the agent share it: gauges are of them together."""

    def __init__(self, families: ClientMetrics, agent: str) -> None:
        """Binds no label before one is used: the agent may turn out to be unknown."""
        self._families = families
        self._agent = agent
        self._followers: list[Followed] = []
        self._endpoints: dict[str, dict[Followed, Candidate]] = {}
        """By address: as each follower sees it."""
        self._calls: dict[str, Count] = {}
        self._attempts: dict[tuple[str, str], Count] = {}

    @cached_property
    def call_seconds(self) -> Spread:
        """Time of calls."""
        return self._families.call_seconds.labels(self._agent)

    @cached_property
    def queue_seconds(self) -> Spread:
        """Time of waiting."""
        return self._families.queue_seconds.labels(self._agent)

    def known(self, follower: Followed) -> None:
        """There is such an agent; what calls wait and the circuit are read at scrape time."""
        if follower in self._followers:
            return
        self._followers.append(follower)
        if len(self._followers) == 1:
            families, agent = self._families, self._agent
            families.waiting.labels(agent).set_function(lambda: sum(f.waiting for f in self._followers))
            families.circuit.labels(agent).set_function(
                lambda: max((f.circuit.level for f in self._followers), default=0)
            )

    def forget(self, follower: Followed) -> None:
        """It follows no more."""
        if follower in self._followers:
            self._followers.remove(follower)
        for address in list(self._endpoints):
            self.left(address, follower)

    def call(self, reason: str, seconds: float) -> None:
        """Counts a call that ended."""
        counter = self._calls.get(reason)
        if counter is None:
            counter = self._calls[reason] = self._families.calls.labels(self._agent, reason)
        counter.value += 1
        self.call_seconds.observe(seconds)

    def attempt(self, address: str, reason: str) -> None:
        """Counts an attempt that ended; one at an endpoint that has left meanwhile as "other"."""
        counter = self._attempts.get((address, reason))
        if counter is None:
            endpoint = address if address in self._endpoints else OTHER
            counter = self._families.attempts.labels(self._agent, endpoint, reason)
            if endpoint == address:
                self._attempts[address, reason] = counter
        counter.value += 1

    def retry(self, reason: str) -> None:
        """Counts a retry."""
        self._families.retries.labels(self._agent, reason).inc()

    def hedge(self, *, won: bool) -> None:
        """Counts a hedge that ended; `won` where its answer was used."""
        self._families.hedges.labels(self._agent, "won" if won else "lost").inc()

    def ejected(self, endpoint: Endpoint, seconds: float) -> None:
        """Counts an ejection."""
        self._families.ejections.labels(self._agent, endpoint.address).inc()

    def joined(self, candidate: Candidate, follower: Followed) -> None:
        """An endpoint appeared, or is another instance now. Read at scrape time: a call pays nothing."""
        address = candidate.endpoint.address
        seen = self._endpoints.get(address)
        if seen is not None:
            seen[follower] = candidate
            return
        seen = self._endpoints[address] = {follower: candidate}
        families, labels = self._families, (self._agent, address)
        families.slots.labels(*labels).set_function(lambda: max(c.slots for c in seen.values()))
        families.in_flight.labels(*labels).set_function(lambda: sum(c.in_flight for c in seen.values()))
        families.muxed.labels(*labels).set_function(lambda: any(c.muxed for c in seen.values()))

    def left(self, address: str, follower: Followed) -> None:
        """An endpoint is gone: its series end, or a fleet that restarts daily would grow for ever."""
        seen = self._endpoints.get(address, {})
        seen.pop(follower, None)
        if seen or self._endpoints.pop(address, None) is None:
            return
        families, labels = self._families, {"agent": self._agent, "endpoint": address}
        for family in (families.slots, families.in_flight, families.muxed, families.ejections, families.attempts):
            family.remove_by_labels(labels)
        for key in [key for key in self._attempts if key[0] == address]:
            del self._attempts[key]
