"""What an endpoint did of late, from the loads that its renewals carry.

Loads count since the endpoint's start. What is new since the one before is
taken as spread evenly over the time between them, and weighs less the older it
is, by e every minute (an exponentially weighted mean over uneven steps, as in
Unix's load average). So a renewal that was lost, or came late, changes nothing
but how fine the picture is.
"""

from __future__ import annotations

import math

from atomesh.core.endpoint import Load, Recent

MEMORY_SECONDS = 60.0
"""Half is three renewals of a default lease, and noise; twice still speaks well
of an endpoint whose database broke a minute ago."""

FEWEST = 0.01
"""Weight of executions below which nothing is said of them: a single one is
remembered for some five minutes, and then says little of now."""


class Lately:
    """One endpoint's last minutes. `now` is monotonic seconds."""

    __slots__ = ("_at", "_busy", "_executions", "_failures", "_last", "_seconds")

    def __init__(self) -> None:
        """Nothing is known before the second load: over how long the first counts nobody knows."""
        self._last: Load | None = None
        self._at = 0.0
        self._seconds = self._executions = self._failures = self._busy = 0.0

    def heard(self, load: Load, now: float) -> None:
        """Takes a load. One that counts less than the last is of another start, and begins anew."""
        last, passed = self._last, now - self._at
        if last is None or _went_back(last, load):
            self._seconds = self._executions = self._failures = self._busy = 0.0
            self._last, self._at = load, now
            return
        if passed <= 0:
            return
        keep = math.exp(-passed / MEMORY_SECONDS)
        weight = (1 - keep) * MEMORY_SECONDS / passed
        self._seconds = self._seconds * keep + weight * passed
        self._executions = self._executions * keep + weight * (load.executions - last.executions)
        self._failures = self._failures * keep + weight * (load.failures - last.failures)
        self._busy = self._busy * keep + weight * (load.busy - last.busy)
        self._last, self._at = load, now

    @property
    def recent(self) -> Recent | None:
        """The means; None where too little was heard."""
        if not self._seconds:
            return None
        rate = self._executions / self._seconds
        if self._executions < FEWEST:
            return Recent(executions_per_second=rate)
        error_rate = min(1.0, self._failures / self._executions)
        return Recent(self._busy / self._executions, error_rate, rate)


def _went_back(last: Load, load: Load) -> bool:
    return load.executions < last.executions or load.failures < last.failures or load.busy < last.busy
