"""Whom to probe when, and what to make of the answers: decided here, dialled elsewhere.

Leases say who renews; probes say who can be reached where callers reach them.
An endpoint that renews and cannot be dialled (a wrong address, a firewall, a
server that hangs) looks alive to a lease for ever. So each one that should
serve is asked for its health every `probe_interval` with jitter, at most
`probe_concurrency` of them at once and `probes_per_second` begun. The
thresholds are those of load balancers: so many failures in a row, and it is
SUSPECT; so many successes, and it is not any more.

Self-preservation holds here as for leases: where more than `preservation_ratio`
of at least `preservation_minimum` endpoints fail their probes, it is the prober
that is cut off, and nobody becomes SUSPECT by it until fewer do. Who was so
before stays so, and successes count at all times.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

from atomesh.core.endpoint import ProbeResult
from atomesh.registry.settings import RegistrySettings

JITTER = 0.2
"""Share of the interval that a probe may come sooner or later: half would take
many rounds to part a fleet that registered at once, twice says little of when."""

_PASSED = frozenset({ProbeResult.SERVING, ProbeResult.UNIMPLEMENTED})
_FAILED = frozenset({ProbeResult.NOT_SERVING, ProbeResult.UNREACHABLE, ProbeResult.TIMEOUT})


@dataclass(slots=True)
class _Probed:
    """What was made of one endpoint's answers."""

    in_a_row: int = 0
    """Answers that speak against what stands: failures of a good one, successes of a failing one."""
    failing: bool = False
    asking: bool = False


class Probing:
    """The endpoints of one registry, by lease."""

    def __init__(self, settings: RegistrySettings, rng: random.Random, now: float) -> None:
        """Nobody is known yet."""
        self._settings = settings
        self._rng = rng
        self._known: dict[str, _Probed] = {}
        self._heap: list[tuple[float, str]] = []
        self._asking = 0
        self._failing: set[str] = set()
        self._allowance = 0.0
        self._allowed = now

    @property
    def failing(self) -> frozenset[str] | set[str]:
        """The leases of those that fail their probes; not to be changed."""
        return self._failing

    @property
    def doubtful(self) -> bool:
        """Whether so many fail that the prober should doubt itself."""
        settings, total = self._settings, len(self._known)
        return total >= settings.preservation_minimum and len(self._failing) > settings.preservation_ratio * total

    def begin(self, lease: str, now: float, *, failing: bool = False) -> None:
        """An endpoint to be probed, the first time within one interval; `failing` is what stands of it."""
        if not self._settings.probe_interval:
            return
        self._known[lease] = _Probed(failing=failing)
        if failing:
            self._failing.add(lease)
        heapq.heappush(self._heap, (now + self._settings.probe_interval * self._rng.random(), lease))

    def end(self, lease: str) -> None:
        """It is gone; one that is unknown stays so."""
        known = self._known.pop(lease, None)
        self._failing.discard(lease)
        if known is not None and known.asking:
            self._asking -= 1

    def due(self, now: float) -> list[str]:
        """Whom to ask now. Each has to be `answered`, or `put off`, before it is asked again."""
        settings = self._settings
        gained = (now - self._allowed) * settings.probes_per_second
        self._allowance = min(settings.probes_per_second, self._allowance + gained)
        self._allowed = now
        asked: list[str] = []
        while self._heap and self._heap[0][0] <= now and self._allowance >= 1:
            if self._asking >= settings.probe_concurrency:
                break
            _, lease = heapq.heappop(self._heap)
            if (known := self._known.get(lease)) is None:
                continue
            known.asking = True
            self._asking += 1
            self._allowance -= 1
            asked.append(lease)
        return asked

    def put_off(self, lease: str, now: float) -> None:
        """It was not asked after all, as it does not say that it serves: another time, and nothing counts."""
        self.answered(lease, ProbeResult.FORBIDDEN, now)

    def answered(self, lease: str, result: ProbeResult, now: float) -> None:
        """What became of a question. One about somebody who is gone meanwhile is nothing."""
        known = self._known.get(lease)
        if known is None:
            return
        known.asking = False
        self._asking -= 1
        if result in _PASSED or result in _FAILED:
            self._count(known, lease, failed=result in _FAILED)
        pause = self._settings.probe_interval * self._rng.uniform(1 - JITTER, 1 + JITTER)
        heapq.heappush(self._heap, (now + pause, lease))

    def _count(self, known: _Probed, lease: str, *, failed: bool) -> None:
        if failed == known.failing:
            known.in_a_row = 0
            return
        known.in_a_row += 1
        needed = self._settings.probe_failures if failed else self._settings.probe_successes
        if known.in_a_row < needed:
            return
        known.failing, known.in_a_row = failed, 0
        if failed:
            self._failing.add(lease)
        else:
            self._failing.discard(lease)
