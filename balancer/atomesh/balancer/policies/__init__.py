"""How to choose among endpoints that could all take a call: one small class each."""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType

from atomesh.balancer.policies.base import Learner, Picker, Policy
from atomesh.balancer.policies.early_binding import EARLY_BINDING, EarlyBinding
from atomesh.balancer.policies.late_binding import LATE_BINDING, LateBinding
from atomesh.balancer.policies.least_connections import LeastConnections
from atomesh.balancer.policies.p2c import PowerOfTwoChoices
from atomesh.balancer.policies.peak_ewma import PeakEwmaPolicy
from atomesh.balancer.policies.random_choice import RandomChoice
from atomesh.balancer.policies.rendezvous import Rendezvous
from atomesh.balancer.policies.round_robin import RoundRobin
from atomesh.balancer.policies.weighted_least_outstanding import WeightedLeastOutstanding
from atomesh.balancer.policies.weighted_round_robin import WeightedRoundRobin
from atomesh.core.errors import InvalidArgument

DEFAULT_POLICY = LATE_BINDING

POLICIES: Mapping[str, Callable[[random.Random], Policy]] = MappingProxyType(
    {
        LATE_BINDING: LateBinding,
        EARLY_BINDING: EarlyBinding,
        "weighted_least_outstanding": WeightedLeastOutstanding,
        "least_connections": LeastConnections,
        "round_robin": RoundRobin,
        "weighted_round_robin": WeightedRoundRobin,
        "p2c": PowerOfTwoChoices,
        "peak_ewma": PeakEwmaPolicy,
        "rendezvous": Rendezvous,
        "random": RandomChoice,
    }
)


def check_policy(name: str) -> str:
    """The name itself.

    Raises:
        InvalidArgument: there is no such policy.
    """
    if name not in POLICIES:
        near = difflib.get_close_matches(name, POLICIES, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InvalidArgument(f"no policy {name!r:.80}; there are {', '.join(POLICIES)}{hint}")
    return name


__all__ = [
    "DEFAULT_POLICY",
    "EARLY_BINDING",
    "LATE_BINDING",
    "POLICIES",
    "EarlyBinding",
    "LateBinding",
    "Learner",
    "LeastConnections",
    "PeakEwmaPolicy",
    "Picker",
    "Policy",
    "PowerOfTwoChoices",
    "RandomChoice",
    "Rendezvous",
    "RoundRobin",
    "WeightedLeastOutstanding",
    "WeightedRoundRobin",
    "check_policy",
]
