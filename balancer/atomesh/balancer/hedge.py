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


def hedge_after(latencies: LatencyQuantiles, *, twice: bool, now: float, deadline: float) -> float | None:
    """Seconds after which a call that began now is sent a second time; None where it never is.

    `twice` is whether it may run twice; `latencies` are those of its agent's attempts.
    """
    if not twice or latencies.weight(now) < MIN_SAMPLES:
        return None
    after = latencies.p95
    # A second attempt that could only end after the deadline is no help.
    return after if now + after + latencies.p50 < deadline else None


def pay(budget: RetryBudget, now: float) -> bool:
    """Takes a hedge out of the budget; False where there is none to spare."""
    return budget.left(now) >= KEPT_FOR_RETRIES + 1 and budget.withdraw(now)


def goes_on(error: AtomeshError) -> bool:
    """Whether the other attempt may do better than this one did (gRFC A6, nonFatalStatusCodes)."""
    return may_go_well(error) or (isinstance(error, errors.Refused) and error.executed is False)
