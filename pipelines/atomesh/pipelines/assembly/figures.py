"""How an agent fares, in figures: what its endpoints last told the registry, put together.

A call goes to any of an agent's endpoints, mostly in proportion to their
slots, so its figures are means over endpoints, weighted by slots. One number
ranks agents, and it is in seconds, so that it can be argued with: the time
until an execution has succeeded, its wait for a slot and the tries before it
included, and on top what a declared score below 1 is held to cost. Times count
in steps that are wider than their noise, and exactly only between equals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from atomesh.core.endpoint import Endpoint, Load, State

UNKNOWN_LATENCY = 1.0
"""Seconds that an execution is taken to last where nobody has measured one. With
0 every newcomer would rank above all that are known to be fast; with a minute,
what an attempt may take, none would ever be chosen and so never measured."""

PRIOR_EXECUTIONS = 20
PRIOR_FAILURES = 1
"""Executions that are assumed before the first one is seen: one failure in
twenty, by the rule of succession. With none, an agent whose only execution
failed would count as one that always fails, and one whose only execution went
well as perfect. A thousand executions leave 0.1 % of it."""

RETRY_SECONDS = 1.0
"""What a failed attempt costs beside its own time: the first backoff of a pipeline."""

SUSPECT_WEIGHT = 0.1
"""How much an endpoint counts whose lease ran out with so many others that the
registry doubts itself: it may well be there, but nobody should build on it."""

SCORE_SECONDS = 10.0
"""What a whole point of declared score is worth: a tenth of it as much as one
second. So a better agent wins over a faster one unless it is slower by seconds,
and among equally good ones time decides. With 1 second a model that needs three
would never be chosen over a rule that answers at once."""

UNKNOWN_SCORE = 0.5
"""The score of an agent that has a capability and does not say how well."""

FREE_SECONDS = 1e-6
"""What the first free slot is worth, the next ones less: it decides between
equals, and nothing else does, since a slot that is free is as good as ten."""

NOISE_SECONDS, NOISE_SHARE = 0.001, 0.2
"""Up to here a difference of time is noise: a call over a network costs a
millisecond, and a fifth is what a mean moves by from one minute to the next.
With half of it two equal agents take turns as the best; with twice as much one
that is a third slower passes as equal."""

IN_PART = 1 << 160
"""What a link costs that fits whole and drops fields: more than any agents of a chain."""
BY_FIELDS = 1 << 168
"""What a link by fields costs: more than all links of a chain that drop fields."""

_MOST_ERRORS = 0.99  # above it, the time until a success says nothing more
_MOST_SECONDS = 1e9  # so that sums over a chain stay below the next part of a cost
_COARSE, _LACKING = 80, 64  # where parts of a cost begin, in bits


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of an agent's endpoints that take calls."""

    endpoints: int = 0
    suspects: int = 0
    """Those of them that the registry doubts."""
    slots: int = 0
    free: int = 0
    """Slots that are free; suspects' do not count."""
    queued: int = 0
    latency: float | None = None
    """Seconds that an execution lasts in the mean; None where none was measured."""
    error_rate: float = PRIOR_FAILURES / PRIOR_EXECUTIONS

    @property
    def success(self) -> float:
        """The chance that one execution goes well."""
        return 1.0 - self.error_rate

    @property
    def expected(self) -> float:
        """Seconds for one execution, with its wait for a slot."""
        latency = UNKNOWN_LATENCY if self.latency is None else self.latency
        return latency + self._wait(latency)

    @property
    def until_success(self) -> float:
        """Seconds until an execution has gone well, failed ones and the waits between included."""
        errors = min(self.error_rate, _MOST_ERRORS)
        return (self.expected + errors * RETRY_SECONDS) / (1.0 - errors)

    def cost(self, score: float | None, *, asked: bool) -> int:
        """What ranks it: three numbers in one, the first of which counts most, so that sums compare as those of each.

        They are seconds without their noise, with what the score lacks where it
        is `asked` for; what it lacks where it is not; and seconds as measured.
        """
        lacking = 1.0 - (UNKNOWN_SCORE if score is None else score)
        seconds = min(self.until_success, _MOST_SECONDS)
        coarse = without_noise(seconds) + (lacking * SCORE_SECONDS if asked else 0.0)
        exact = seconds + FREE_SECONDS / (1 + self.free)
        declared = 0 if asked else round(lacking * 1000)
        return (round(coarse * 1e9) << _COARSE) + (declared << _LACKING) + round(exact * 1e9)

    def _wait(self, latency: float) -> float:
        """Until a slot comes free: with all taken, one does every `latency / slots`, and those that wait go first."""
        return 0.0 if self.free else latency * (self.queued + 1) / max(1, self.slots)


def without_noise(seconds: float) -> float:
    """A time as the end of its step: a millisecond wide, and a fifth of the time where that is more."""
    if seconds <= (even := NOISE_SECONDS / NOISE_SHARE):
        return max(1, math.ceil(seconds / NOISE_SECONDS)) * NOISE_SECONDS
    return even * (1 + NOISE_SHARE) ** math.ceil(math.log(seconds / even, 1 + NOISE_SHARE))


def figures(endpoints: Iterable[Endpoint]) -> Figures:
    """The figures of one agent's endpoints, all of which take calls."""
    given = list(endpoints)
    serving = [endpoint for endpoint in given if endpoint.state is not State.SUSPECT]
    return Figures(
        endpoints=len(given),
        suspects=len(given) - len(serving),
        slots=sum(_slots(endpoint) for endpoint in serving),
        free=sum(_free(endpoint) for endpoint in serving),
        queued=sum(endpoint.load.queued for endpoint in serving if endpoint.load),
        latency=_mean((_weight(endpoint), _latency(endpoint)) for endpoint in given),
        error_rate=_mean((_weight(endpoint), _error_rate(endpoint)) for endpoint in given) or 0.0,
    )


def _slots(endpoint: Endpoint) -> int:
    return (endpoint.load.slots if endpoint.load else 0) or endpoint.slots


def _free(endpoint: Endpoint) -> int:
    return max(0, _slots(endpoint) - (endpoint.load.in_flight if endpoint.load else 0))


def _weight(endpoint: Endpoint) -> float:
    return _slots(endpoint) * (SUSPECT_WEIGHT if endpoint.state is State.SUSPECT else 1.0)


def _latency(endpoint: Endpoint) -> float | None:
    """What executions took of late; where too few ended for that, since the start."""
    if endpoint.recent and endpoint.recent.execution is not None:
        return endpoint.recent.execution
    load = endpoint.load
    return load.busy / load.executions if load and load.executions else None


def _error_rate(endpoint: Endpoint) -> float:
    if endpoint.recent and endpoint.recent.execution is not None:
        return endpoint.recent.error_rate
    load = endpoint.load or Load()
    return (load.failures + PRIOR_FAILURES) / (load.executions + PRIOR_EXECUTIONS)


def _mean(weighted: Iterable[tuple[float, float | None]]) -> float | None:
    """The mean of what is known; None where nothing is. `fsum`, so that the order of endpoints changes nothing."""
    known = [(weight, value) for weight, value in weighted if value is not None]
    total = math.fsum(weight for weight, _ in known)
    return math.fsum(weight * value for weight, value in known) / total if total else None
