"""An endpoint as a balancer sees it: what was said of it, and what this client has there."""

from __future__ import annotations

from enum import Enum

from atomesh.balancer.breaker import DEFAULT_BREAKER, Breaker
from atomesh.balancer.ejection import Ejection
from atomesh.balancer.ewma import PeakEwma
from atomesh.core.endpoint import Endpoint, State


class SubchannelState(Enum):
    """gRPC's five states of a connection (connectivity semantics of gRPC, doc/connectivity-semantics-and-api.md)."""

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    TRANSIENT_FAILURE = "transient_failure"
    SHUTDOWN = "shutdown"


LOAD_NEWS_SECONDS = 0.05
"""How long what an endpoint said of its load is believed. Calls of others come
and go; older news sends callers away from endpoints that are long free, and a
wrong guess costs one refusal (measured: 5 ms pushes cost more than they give)."""


class Candidate:
    """One endpoint with its counters. The only mutable thing that pickers read."""

    __slots__ = (
        "ahead",
        "backlog",
        "carried_until",
        "credit",
        "declared",
        "ejection",
        "endpoint",
        "execution",
        "in_flight",
        "muxed",
        "others",
        "others_at",
        "pace",
        "pace_ln",
        "refusing",
        "samples",
        "shut_until",
        "silent",
        "slots",
        "subchannel",
        "weight",
    )

    def __init__(self, endpoint: Endpoint, breaker: Breaker = DEFAULT_BREAKER) -> None:
        """Not connected, nothing in flight."""
        self.endpoint = endpoint
        self.slots = max(1, endpoint.slots)
        self.subchannel = SubchannelState.IDLE
        self.muxed = False
        """It has a mux, so that slots there can be demanded."""
        self.silent = False
        """Its mux does not answer: nothing new is sent there."""
        self.declared = 1.0
        """How fast it is beside others, as it says."""
        self.weight = 1.0
        """The same, corrected by what is seen (see `speeds`)."""
        self.samples = 0
        """Executions that `pace_ln` rests on."""
        self.pace_ln = 0.0
        """Mean of the logarithm of what executions take, in seconds."""
        self.ejection = Ejection(breaker)
        self.in_flight = 0
        """Attempts of this client that have not ended."""
        self.shut_until = 0.0
        """The endpoint said that it has no slot before then (monotonic seconds)."""
        self.refusing = False
        """It said that it drains, or that it is another instance: nothing until the next update."""
        self.carried_until: float | None = None
        """A new registry does not know it yet; believed until then (see Balancer.apply)."""
        self.others = 0
        """Executions of other clients there, as of `others_at`."""
        self.others_at = -LOAD_NEWS_SECONDS
        self.ahead = 0
        """Calls that may wait there beyond its slots, where calls bind early."""
        self.execution = 0.0
        """Seconds that executions take there in the mean, as it says; 0 where it does not."""
        self.backlog = 0
        """What runs and waits there, of all clients, as of `others_at`."""
        self.credit = 0
        """Turns that weighted round robin owes it, in slots."""
        self.pace: PeakEwma | None = None
        """Its latency, where a policy wants to know."""

    def update(self, endpoint: Endpoint) -> None:
        """Takes the endpoint as it is now; what the client learnt of the instance stays."""
        self.endpoint = endpoint
        self.slots = max(1, endpoint.slots)
        self.carried_until = None
        if endpoint.state is State.SERVING:
            self.refusing = False

    def heard(self, in_flight: int, now: float) -> None:
        """Takes the endpoint's own word for the executions that it runs, this client's included."""
        self.backlog = in_flight
        self.others = max(0, in_flight - self.in_flight)
        self.others_at = now

    @property
    def state(self) -> tuple[object, ...]:
        """All that a connection says of it; where that changes, pickers are made anew."""
        return (self.subchannel, self.muxed, self.silent, self.refusing, self.slots, self.declared)

    def told(self, in_flight: int, queued: int, yours: int, now: float) -> None:
        """Takes the word of a mux: slots taken, calls that wait there, and how many of the slots are this client's."""
        self.backlog = in_flight + queued
        self.others = in_flight - yours if in_flight > yours else 0
        self.others_at = now

    def free(self, fresh: float) -> int:
        """Slots that are believed free; news from before `fresh` is not believed."""
        free = self.slots - self.in_flight
        return free - self.others if self.others_at > fresh else free

    def takes(self, now: float) -> bool:
        """Whether a slot is believed free: never more own attempts than slots, and not while it says it is full."""
        if self.in_flight >= self.slots or self.shut_until > now:
            return False
        return not self.ejection.probing or self.in_flight == 0

    def load(self, now: float) -> float:
        """The share of its slots in use: by this client, and by others as far as there is fresh news."""
        own = self.in_flight
        return (own + self.others if self.others_at > now - LOAD_NEWS_SECONDS else own) / self.slots
