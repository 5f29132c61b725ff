"""How a policy fared beside the central queue on the same trace.

Judged by wait and by slowdown, never by latency: where costs vary a
thousandfold, the p99 of latency is the p99 of the costs, whoever balances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks._central import Served
from benchmarks._drive import percentile


@dataclass(frozen=True, slots=True)
class Score:
    """Means and 99th percentiles; waits in seconds, or all of them ratios."""

    mean_wait: float
    p99_wait: float
    mean_slowdown: float
    p99_slowdown: float

    def over(self, other: Score) -> Score:
        """Each over the other's."""
        return Score(*(a / b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))


def score(served: Sequence[Served], round_trip: float = 0.0) -> Score:
    """The figures of a run; `round_trip` is added to each wait where the run did not have one of its own.

    Both sides of a comparison have one: no caller gets an answer without it,
    and without it a wait of 0 in the central queue would make any ratio infinite.
    """
    waits = sorted(one.wait + round_trip for one in served)
    slowdowns = sorted((one.wait + one.service + round_trip) / one.cost for one in served)
    return Score(
        math.fsum(waits) / len(waits),
        percentile(waits, 0.99),
        math.fsum(slowdowns) / len(slowdowns),
        percentile(slowdowns, 0.99),
    )
