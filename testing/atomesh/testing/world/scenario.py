"""What a world is made of, all of it drawn from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from atomesh.balancer.policies import DEFAULT_POLICY, POLICIES
from atomesh.testing.memory import LinkProfile
from atomesh.testing.world import faults
from atomesh.testing.world.faults import Fault, Restart
from atomesh.testing.world.profiles import Bimodal, Constant, LogUniform, Profile, Spiky

CALLS = 250
"""Calls of a random world, about. Enough that every slot is contended for; half
misses what needs a queue, twice makes a hundred worlds take a minute."""

MOST_BYTES = 1_500_000
"""Of a large payload: several parts, and below what a call may have."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world before it begins."""

    seed: int
    slots: tuple[int, ...] = (2, 2)
    """Of each endpoint."""
    clients: int = 1
    costs: Profile = field(default_factory=lambda: Constant(0.1))
    load: float = 0.7
    """Work per second over slots."""
    calls: int = CALLS
    timeout: float = 10.0
    """Of each call, in seconds."""
    idempotent: float = 0.0
    """Share of calls that may run twice."""
    cancelled: float = 0.0
    """Share of calls whose caller goes away before they end."""
    streamed: float = 0.0
    """Share of calls whose output comes in chunks."""
    large: float = 0.0
    """Share of calls with up to MOST_BYTES there and back."""
    hedge: bool = False
    """Whether calls that may run twice are sent a second time where they take long."""
    max_age: float | None = None
    """Seconds after which endpoints ask for new connections."""
    mux: bool = True
    policy: str = DEFAULT_POLICY
    link: LinkProfile = field(default_factory=LinkProfile)
    faults: tuple[Fault, ...] = ()

    @property
    def rate(self) -> float:
        """Calls per second, of all clients together."""
        return self.load * sum(self.slots) / self.costs.mean

    @property
    def span(self) -> float:
        """Seconds for which calls are made."""
        return self.calls / self.rate

    @property
    def calm(self) -> bool:
        """Whether nothing goes wrong and there is room for everybody."""
        return not (self.faults or self.large) and self.load <= 0.75 and self.timeout > 60 * self.costs.mean

    @property
    def gentle(self) -> bool:
        """Whether nothing goes wrong but endpoints that drain, end and come back."""
        return all(isinstance(fault, Restart) for fault in self.faults)

    @property
    def endpoint_names(self) -> list[str]:
        """One per entry of `slots`."""
        return [f"endpoint-{number}" for number in range(1, len(self.slots) + 1)]

    @property
    def client_names(self) -> list[str]:
        """As many as `clients`."""
        return [f"client-{number}" for number in range(1, self.clients + 1)]


def random_scenario(seed: int) -> Scenario:
    """The world of a seed."""
    rng = random.Random(f"scenario {seed}")
    unit = rng.choice((0.02, 0.1, 0.5))
    costs: Profile = rng.choice(
        (
            Constant(unit),
            LogUniform(unit / 30, unit * 30),
            Bimodal(unit / 4, unit * 16),
            Spiky(unit, unit * 50),
        )
    )
    plain = Scenario(
        seed,
        slots=tuple(rng.choice((1, 1, 2, 3, 4, 8)) for _ in range(rng.choice((1, 2, 3, 5)))),
        clients=rng.choice((1, 2, 3, 6)),
        costs=costs,
        load=rng.choice((0.3, 0.6, 0.75, 0.95, 1.5)),
        timeout=rng.choice((2.0, 10.0, 60.0)),
        idempotent=rng.choice((0.0, 0.5, 1.0)),
        cancelled=rng.choice((0.0, 0.0, 0.05)),
        streamed=rng.choice((0.0, 0.0, 0.1, 0.5)),
        large=rng.choice((0.0, 0.0, 0.02)),
        hedge=rng.random() < 0.2,
        max_age=rng.choice((None, None, None, 1.0, 5.0)),
        mux=rng.random() < 0.8,
        policy=rng.choice((DEFAULT_POLICY, DEFAULT_POLICY, DEFAULT_POLICY, *sorted(POLICIES))),
        link=LinkProfile(rng.choice((0.0, 0.000_2, 0.002, 0.02)), rng.choice((0.0, 0.2, 1.0))),
    )
    drawn = faults.draw(rng, plain.span, plain.endpoint_names, plain.client_names)
    return Scenario(**{name: getattr(plain, name) for name in plain.__slots__} | {"faults": drawn})
