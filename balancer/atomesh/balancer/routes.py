"""The pickers of one snapshot: which of them a call asks, in which order.

Policies choose inside a group of endpoints; `filters` says in which order the
groups are asked. Both are put together here, once per policy and snapshot, so
that a pick looks up a tuple and asks its pickers in turn.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.filters import NO_FILTERS, Filters, Layout
from atomesh.balancer.hashing import BITS, stable_hash
from atomesh.balancer.policies import POLICIES, Learner, Picker, Policy
from atomesh.balancer.waiting import Call


@dataclass(frozen=True, slots=True)
class Route:
    """Pickers in the order in which they are asked, and who learns how the pick ended."""

    pickers: tuple[Picker, ...]
    learner: Learner | None
    waits: bool = False
    """Calls of the policy wait at the endpoint they are sent to."""
    upto: float = 1.0
    """Calls that drew less than this go here, where no route before took them."""


class Routes:
    """Makes routes when they are first asked for; keeps the policies over all snapshots."""

    def __init__(self, rng: random.Random, filters: Filters = NO_FILTERS) -> None:
        """Nobody can be picked yet."""
        self.filters = filters
        self._rng = rng
        self._policies: dict[str, Policy] = {}
        self._layout = Layout((), ())
        self._routes: dict[str, tuple[Route, ...]] = {}

    def rebuild(self, *tiers: Sequence[Candidate]) -> None:
        """Takes a new snapshot; everybody of an earlier tier is asked before any of a later."""
        self._layout = self.filters.layout(*tiers)
        self._routes.clear()

    def of(self, call: Call, policy: str = "") -> Route:
        """Whom to ask for the call; by its own policy unless by another."""
        name = policy or call.policy
        routes = self._routes.get(name) or self._make(name)
        if len(routes) == 1:
            return routes[0]
        drawn = stable_hash(call.session) / 2.0**BITS if call.session else self._rng.random()
        return next((route for route in routes if drawn < route.upto), routes[-1])

    def _make(self, name: str) -> tuple[Route, ...]:
        policy = self._policies.get(name)
        if policy is None:
            policy = self._policies[name] = POLICIES[name](self._rng)
        learner = policy if isinstance(policy, Learner) else None
        waits = bool(getattr(policy, "waits", False))
        pickers = [policy.picker(group) for group in self._layout.groups]
        total = sum(order.weight for order in self._layout.orders)
        routes: list[Route] = []
        upto = 0.0
        for order in self._layout.orders:
            upto += order.weight / total
            routes.append(Route(tuple(pickers[place] for place in order.groups), learner, waits, upto))
        made = self._routes[name] = tuple(routes) or (Route((), learner, waits),)
        return made
