"""Traces: who calls when, what each call costs, and what the fleet is like meanwhile.

Made before anything is measured, from a seed, so that every policy, the central
queue and any other implementation get exactly the same work. Pure: the same
arguments give the same trace on any machine. Times are seconds from the start;
a call's cost is the seconds that it takes at an endpoint of speed 1.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

LOADS = (0.6, 0.75, 0.9)
"""Shares of the fleet's capacity, averaged over the trace: busy, the usual
sizing rule, and where queues decide."""

SPREAD = 1000.0
"""Dearest over cheapest of log-uniform costs: a lookup beside an LLM call."""
LONG_SHARE, LONG_FACTOR = 0.1, 100.0
"""Bimodal: one call in ten costs a hundred times the others, so that long calls
are 92 % of the work and 10 % of the callers."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One call of a trace."""

    at: float
    cost: float
    client: int = 0


@dataclass(frozen=True, slots=True)
class Site:
    """One endpoint over the time of a trace."""

    slots: int
    speeds: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    """(from when, how fast), the first at 0. A call keeps the speed it began at."""
    away: tuple[tuple[float, float], ...] = ()
    """From when until when it takes nothing new; what runs ends well."""

    def speed(self, now: float) -> float:
        """How fast a call that begins now runs."""
        return next(speed for since, speed in reversed(self.speeds) if since <= now)

    def takes(self, now: float) -> bool:
        """Whether it takes new calls now."""
        return not any(start <= now < end for start, end in self.away)

    def capacity(self, until: float) -> float:
        """Seconds of cost that it can do up to then; windows of absence count as nothing."""
        edges = {0.0, until, *(t for t, _ in self.speeds), *(t for window in self.away for t in window)}
        marks = sorted(edge for edge in edges if 0 <= edge <= until)
        spans = itertools.pairwise(marks)
        return self.slots * sum((end - start) * self.speed(start) for start, end in spans if self.takes(start))


@dataclass(frozen=True, slots=True)
class Trace:
    """Calls in the order of their arrival, and the fleet that they come to."""

    arrivals: tuple[Arrival, ...]
    sites: tuple[Site, ...]

    @property
    def mean_cost(self) -> float:
        """The mean cost of a call."""
        return math.fsum(one.cost for one in self.arrivals) / len(self.arrivals)


Costs = Callable[[random.Random, float], float]
"""Draws a cost; the second argument is the mean."""


def log_uniform(rng: random.Random, mean: float) -> float:
    """Over three decades; every decade is equally likely."""
    least = mean * math.log(SPREAD) / (SPREAD - 1)  # the mean of [a, ka] is a (k - 1) / ln k
    drawn: float = least * SPREAD ** rng.uniform(0.0, 1.0)
    return drawn


def bimodal(rng: random.Random, mean: float) -> float:
    """Short or long, nothing between."""
    short = mean / (1 - LONG_SHARE + LONG_SHARE * LONG_FACTOR)
    return short * LONG_FACTOR if rng.uniform(0.0, 1.0) < LONG_SHARE else short


def uniform(rng: random.Random, mean: float) -> float:
    """Half to one and a half of the mean: calls that all cost about the same."""
    return rng.uniform(0.5 * mean, 1.5 * mean)


COSTS: Mapping[str, Costs] = MappingProxyType({"log_uniform": log_uniform, "bimodal": bimodal, "uniform": uniform})

SLOTS = 4
"""Per endpoint, the default of an agent. More slots hide bad choices, fewer exaggerate them."""
SLOW = 1 / 16
"""The speed of the endpoint that is 16 times slow: a noisy neighbour, a CPU that throttles."""


def homogeneous(count: int = 4) -> tuple[Site, ...]:
    """Endpoints that are all the same."""
    return (Site(SLOTS),) * count


def heterogeneous() -> tuple[Site, ...]:
    """Two generations of machines, and sizes: speeds 1 and 2, slots 2 to 8."""
    return Site(8), Site(4, ((0.0, 2.0),)), Site(4), Site(2, ((0.0, 2.0),))


def one_slow(count: int = 4) -> tuple[Site, ...]:
    """The last one is 16 times slow."""
    return (*homogeneous(count - 1), Site(SLOTS, ((0.0, SLOW),)))


def cold_start(seconds: float, count: int = 4) -> tuple[Site, ...]:
    """The last one joins after a quarter of the time, and is at a quarter of its speed for another quarter."""
    joins, warm = seconds / 4, seconds / 2
    newcomer = Site(SLOTS, ((0.0, 0.25), (warm, 1.0)), ((0.0, joins),))
    return (*homogeneous(count - 1), newcomer)


def flapping(seconds: float, count: int = 4) -> tuple[Site, ...]:
    """The last one is away for the second half of every tenth of the time."""
    period = seconds / 10
    away = tuple(((number + 0.5) * period, (number + 1) * period) for number in range(10))
    return (*homogeneous(count - 1), Site(SLOTS, away=away))


BURST_SHARE, BURST_FACTOR = 0.2, 2.5
"""A fifth of the time the rate is 2.5 times the average, which leaves half of it for the rest."""


def bursts(seconds: float, mean_cost: float) -> Callable[[float], float]:
    """The rate at a time, as a factor of the average; a burst lasts 20 mean costs, or as many as fit once."""
    period = min(seconds, 20 * mean_cost / BURST_SHARE)
    quiet = (1 - BURST_SHARE * BURST_FACTOR) / (1 - BURST_SHARE)
    return lambda at: BURST_FACTOR if at % period < BURST_SHARE * period else quiet


def steady(at: float) -> float:
    """The average, always."""
    return 1.0


FLEETS: Mapping[str, Callable[[float], tuple[Site, ...]]] = MappingProxyType(
    {
        "homogeneous": lambda _: homogeneous(),
        "heterogeneous": lambda _: heterogeneous(),
        "one_slow": lambda _: one_slow(),
        "cold_start": cold_start,
        "flapping": flapping,
        "burst": lambda _: homogeneous(),
    }
)
"""By the names of the grid; each takes the trace's length."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a trace is made from; equal plans make equal traces."""

    costs: str = "log_uniform"
    fleet: str = "homogeneous"
    load: float = 0.75
    clients: int = 8
    seconds: float = 60.0
    mean_cost: float = 0.1
    seed: int = 1

    def __str__(self) -> str:
        """For tables."""
        return f"{self.fleet}, {self.costs}, {self.clients} clients, load {self.load:g}"


def make(plan: Plan) -> Trace:
    """The plan's trace. Arrivals are Poisson: independent of each other and of the clients they come from."""
    sites = FLEETS[plan.fleet](plan.seconds)
    shape = bursts(plan.seconds, plan.mean_cost) if plan.fleet == "burst" else steady
    capacity = math.fsum(site.capacity(plan.seconds) for site in sites) / plan.seconds
    rng = random.Random(f"{plan.seed} {plan.costs} {plan.fleet} {plan.load} {plan.clients}")
    times = poisson(rng, plan.load * capacity / plan.mean_cost, plan.seconds, shape)
    draw = COSTS[plan.costs]
    arrivals = tuple(Arrival(at, draw(rng, plan.mean_cost), rng.randrange(plan.clients)) for at in times)
    return Trace(arrivals, sites)


def poisson(
    rng: random.Random, rate: float, seconds: float, shape: Callable[[float], float] = steady
) -> Sequence[float]:
    """Times of a Poisson process whose rate is `rate * shape(t)`, by thinning (Lewis and Shedler 1979)."""
    most = 1.0 if shape is steady else BURST_FACTOR
    times, at = [], rng.expovariate(rate * most)
    while at < seconds:
        if most == 1.0 or rng.uniform(0.0, most) < shape(at):
            times.append(at)
        at += rng.expovariate(rate * most)
    return times


def linkerd(seed: int, seconds: float = 60.0, rate: float = 1000.0) -> Trace:
    """Linkerd's published scenario: 11 endpoints of N(167, 5) ms, 1,000 calls/s, one at 2 s for 30 s.

    "Beyond Round Robin: Load Balancing for Latency" (linkerd.io, 2016). Their
    endpoints queue nothing: slots are more than ever run at once.
    """
    rng = random.Random(f"linkerd {seed}")
    start = (seconds - 30) / 2
    slowed = Site(100_000, ((0.0, 1.0), (start, 0.167 / 2), (start + 30, 1.0)))
    times = poisson(rng, rate, seconds)
    return Trace(
        tuple(Arrival(at, max(0.001, rng.gauss(0.167, 0.005))) for at in times), (*[Site(100_000)] * 10, slowed)
    )
