"""Which endpoints to leave alone for a while: outlier ejection for small fleets.

Two signs, counted per endpoint. Of its transport (connections refused or cut):
5 failures in a row, or half of at least 10 calls within 10 s. Of the agent
behind it (its own errors, calls out of time): a failure ratio far above its
siblings', since a poisonous input fails everywhere and is no endpoint's fault.
Envoy's success-rate mode wants five hosts with a hundred requests each, which
small fleets never reach. These are the defaults; `breaker` has all thresholds.

An ejection lasts 10 s, doubled each time in a row, 5 min at most (gRFC A50).
Then the endpoint is half-open: one call at a time decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from atomesh.balancer.breaker import DEFAULT_BREAKER, Breaker


class Outcome(Enum):
    """How an attempt ended, as far as its endpoint's fitness goes."""

    SUCCESS = "success"
    TRANSPORT_FAILURE = "transport_failure"
    AGENT_FAILURE = "agent_failure"
    NEUTRAL = "neutral"
    """Says nothing of the endpoint: it was full or draining, or the caller went away."""


class Ejection:
    """One endpoint's record. `now` is monotonic seconds."""

    __slots__ = (
        "_agent",
        "_agent_row",
        "_breaker",
        "_calls",
        "_row",
        "_since",
        "_transport",
        "probing",
        "times",
        "until",
    )

    def __init__(self, breaker: Breaker = DEFAULT_BREAKER) -> None:
        """A clean record."""
        self.until: float | None = None
        """Ejected until then; None where it is not."""
        self.probing = False
        """Half-open: the ejection is over, and the next call decides."""
        self.times = 0
        """Ejections in a row."""
        self._breaker = breaker
        self._row = self._agent_row = 0
        self._since = 0.0
        self._calls = self._transport = self._agent = 0

    @property
    def active(self) -> bool:
        """Whether it is ejected now."""
        return self.until is not None

    def record(self, outcome: Outcome, now: float) -> bool:
        """Counts how an attempt ended; whether it was the probe that went well."""
        if outcome is Outcome.NEUTRAL:
            return False
        if now - self._since > self._breaker.window_seconds:
            self._since = now
            self._calls = self._transport = self._agent = 0
        self._calls += 1
        if outcome is Outcome.TRANSPORT_FAILURE:
            self._transport += 1
            self._row += 1
            return False
        self._row = 0  # an answer, whichever, shows that the connection stands
        if outcome is Outcome.AGENT_FAILURE:
            self._agent += 1
            self._agent_row += 1
            return False
        self._agent_row = 0
        if not self.probing:
            return False
        self.probing = False
        self.times = 0
        return True

    def suspicious(self, outcome: Outcome, siblings: Iterable[Ejection]) -> bool:
        """Whether the record, after `outcome`, calls for an ejection."""
        breaker = self._breaker
        if self.probing:
            return outcome in (Outcome.TRANSPORT_FAILURE, Outcome.AGENT_FAILURE)
        if self._row >= breaker.transport_failures:
            return True
        if breaker.agent_failures is not None and self._agent_row >= breaker.agent_failures:
            return True
        if self._calls < breaker.min_volume:
            return False
        if self._transport >= breaker.transport_ratio * self._calls:
            return True
        return self._agent >= breaker.agent_ratio * self._calls and self._stands_out(siblings)

    def eject(self, now: float) -> float:
        """Ejects it; for how many seconds."""
        seconds = min(self._breaker.max_seconds, self._breaker.base_seconds * 2.0 ** min(self.times, 30))
        self.until = now + seconds
        self.probing = False
        self.times += 1
        self._row = self._agent_row = 0
        self._calls = self._transport = self._agent = 0
        return seconds

    def tick(self, now: float) -> bool:
        """Whether the ejection has just ended: it is half-open from now on."""
        if self.until is None or now < self.until:
            return False
        self.until = None
        self.probing = True
        return True

    def _stands_out(self, siblings: Iterable[Ejection]) -> bool:
        breaker = self._breaker
        if breaker.sibling_ratio >= 1:
            return True
        others = [sibling for sibling in siblings if sibling is not self]
        calls = sum(other._calls for other in others)
        failures = sum(other._agent for other in others)
        return calls >= breaker.min_volume and failures <= breaker.sibling_ratio * calls
