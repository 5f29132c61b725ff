"""When a call is sent a second time before the first time has failed: the one place that decides it.

A hedge is a second attempt of a call that takes longer than 95 of 100 did, sent
to another endpoint; the first good answer wins. It buys tail latency with at
most one execution in twenty (Dean and Barroso, "The Tail at Scale", 2013: p99.9
from 1,800 to 74 ms for 2 % more work). It is work done twice all the same, so:
only calls that may run twice, one hedge per call, where a slot is free that
nobody waits for, and paid from the retry budget's upper half, so that hedges
never take what retries will need (gRFC A6 throttles both alike).
"""

from __future__ import annotations

from atomesh.balancer.budget import FLOOR_PER_SECOND, RESERVE_SECONDS, RetryBudget
from atomesh.balancer.quantiles import LatencyQuantiles
from atomesh.balancer.retry import may_go_well
from atomesh.core import errors
from atomesh.core.errors import AtomeshError

MIN_SAMPLES = 20.0
"""Answers of late before their p95 means anything: it is the slowest of twenty.
Half hedges on noise; twice leaves out agents that are called every 4 s."""

KEPT_FOR_RETRIES = FLOOR_PER_SECOND * RESERVE_SECONDS / 2
"""Retries that hedges leave in the budget: what is in flight at an endpoint that
is killed. Half of the reserve and not all, or the floor would never pay a hedge
of a client with few calls."""


REFRESH_SECONDS = 0.25
"""How long a p95 is good for: reading it costs what ten picks cost."""


class Hedging:
    """When calls of one agent are sent a second time. `now` is monotonic seconds."""

    __slots__ = ("_after", "_latencies", "_read_at", "_typical")

    def __init__(self, latencies: LatencyQuantiles) -> None:
        """`latencies` are those of the agent's calls."""
        self._latencies = latencies
        self._after = self._typical = 0.0
        self._read_at = float("-inf")

    def after(self, *, twice: bool, now: float, deadline: float) -> float | None:
        """Seconds after which a call that began now is sent a second time; None where it never is.

        `twice` is whether it may run twice.
        """
        if not twice:
            return None
        if now - self._read_at > REFRESH_SECONDS:
            self._read_at = now
            enough = self._latencies.weight(now) >= MIN_SAMPLES
            self._after, self._typical = (self._latencies.p95, self._latencies.p50) if enough else (0.0, 0.0)
        # A second attempt that could only end after the deadline is no help.
        in_time = now + self._after + self._typical < deadline
        return self._after if self._after and in_time else None


def pay(budget: RetryBudget, now: float) -> bool:
    """Takes a hedge out of the budget; False where there is none to spare."""
    return budget.left(now) >= KEPT_FOR_RETRIES + 1 and budget.withdraw(now)


def goes_on(error: AtomeshError) -> bool:
    """Whether the other attempt may do better than this one did (gRFC A6, nonFatalStatusCodes)."""
    return may_go_well(error) or (isinstance(error, errors.Refused) and error.executed is False)
