"""Which endpoints to leave alone for a while: outlier ejection for small fleets.

Two signs, counted per endpoint. Of its transport (connections refused or cut):
5 failures in a row, or half of at least 10 calls within 10 s. Of the agent
behind it (its own errors, calls out of time): a failure ratio far above its
siblings', since a poisonous input fails everywhere and is no endpoint's fault.
Envoy's success-rate mode wants five hosts with a hundred requests each, which
small fleets never reach.

An ejection lasts 10 s, doubled each time in a row, 5 min at most (gRFC A50).
Then the endpoint is half-open: one call at a time decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

CONSECUTIVE = 5
"""Half would eject on one lost burst; twice lets a dead endpoint eat ten calls."""
WINDOW_SECONDS = 10.0
MIN_VOLUME = 10
"""Calls in a window before its ratio means anything: at 5, three bad of five is noise."""
TRANSPORT_RATIO = 0.5
AGENT_RATIO = 0.5
SIBLING_RATIO = 0.1
"""Far above: half of its calls fail while at most a tenth of its siblings' do."""
BASE_SECONDS = 10.0
MAX_SECONDS = 300.0


class Outcome(Enum):
    """How an attempt ended, as far as its endpoint's fitness goes."""

    SUCCESS = "success"
    TRANSPORT_FAILURE = "transport_failure"
    AGENT_FAILURE = "agent_failure"
    NEUTRAL = "neutral"
    """Says nothing of the endpoint: it was full or draining, or the caller went away."""


class Ejection:
    """One endpoint's record. `now` is monotonic seconds."""

    __slots__ = ("_agent", "_calls", "_row", "_since", "_transport", "probing", "times", "until")

    def __init__(self) -> None:
        """A clean record."""
        self.until: float | None = None
        """Ejected until then; None where it is not."""
        self.probing = False
        """Half-open: the ejection is over, and the next call decides."""
        self.times = 0
        """Ejections in a row."""
        self._row = 0
        self._since = 0.0
        self._calls = self._transport = self._agent = 0

    @property
    def active(self) -> bool:
        """Whether it is ejected now."""
        return self.until is not None

    def record(self, outcome: Outcome, now: float) -> None:
        """Counts how an attempt ended."""
        if outcome is Outcome.NEUTRAL:
            return
        if now - self._since > WINDOW_SECONDS:
            self._since = now
            self._calls = self._transport = self._agent = 0
        self._calls += 1
        if outcome is Outcome.TRANSPORT_FAILURE:
            self._transport += 1
            self._row += 1
        else:
            self._row = 0
            self._agent += outcome is Outcome.AGENT_FAILURE
            if self.probing and outcome is Outcome.SUCCESS:
                self.probing = False
                self.times = 0

    def suspicious(self, outcome: Outcome, siblings: Iterable[Ejection]) -> bool:
        """Whether the record, after `outcome`, calls for an ejection."""
        if self.probing:
            return outcome in (Outcome.TRANSPORT_FAILURE, Outcome.AGENT_FAILURE)
        if self._row >= CONSECUTIVE:
            return True
        if self._calls < MIN_VOLUME:
            return False
        if self._transport >= TRANSPORT_RATIO * self._calls:
            return True
        return self._agent >= AGENT_RATIO * self._calls and self._stands_out(siblings)

    def eject(self, now: float) -> float:
        """Ejects it; for how many seconds."""
        seconds = min(MAX_SECONDS, BASE_SECONDS * 2.0 ** min(self.times, 30))
        self.until = now + seconds
        self.probing = False
        self.times += 1
        self._row = 0
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
        others = [sibling for sibling in siblings if sibling is not self]
        calls = sum(other._calls for other in others)
        failures = sum(other._agent for other in others)
        return calls >= MIN_VOLUME and failures <= SIBLING_RATIO * calls


def may_eject(ejected: int, fleet: int) -> bool:
    """Whether one more may be ejected: never more than half of the fleet, but always one."""
    return ejected + 1 <= max(1, fleet // 2)
