"""What an agent's endpoints could take now, for who has much to send and would rather not guess."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from atomesh.balancer.candidate import LOAD_NEWS_SECONDS, Candidate


@dataclass(frozen=True, slots=True)
class Capacity:
    """Slots of the endpoints that can be picked now, as a client knows of them."""

    endpoints: int = 0
    slots: int = 0
    """A half-open endpoint counts as one: it gets one call at a time."""
    free: int = 0
    """Slots believed free: those that neither this client nor, by news of the last 50 ms, another has."""
    in_flight: int = 0
    """This client's attempts there."""
    waiting: int = 0
    """This client's calls that wait for a slot."""

    @property
    def size(self) -> tuple[int, int]:
        """What does not depend on calls: endpoints and slots."""
        return (self.endpoints, self.slots)


def size_of(candidates: Iterable[Candidate]) -> tuple[int, int]:
    """Endpoints and slots of what can be picked."""
    endpoints = slots = 0
    for candidate in candidates:
        endpoints += 1
        slots += 1 if candidate.ejection.probing else candidate.slots
    return (endpoints, slots)


def capacity_of(candidates: Iterable[Candidate], waiting: int, now: float) -> Capacity:
    """The capacity of endpoints that can be picked."""
    candidates = tuple(candidates)
    endpoints, slots = size_of(candidates)
    fresh = now - LOAD_NEWS_SECONDS
    return Capacity(
        endpoints,
        slots,
        sum(_free(candidate, fresh, now) for candidate in candidates),
        sum(candidate.in_flight for candidate in candidates),
        waiting,
    )


def _free(candidate: Candidate, fresh: float, now: float) -> int:
    if not candidate.takes(now):
        return 0
    free = max(0, candidate.free(fresh))
    return min(1, free) if candidate.ejection.probing else free
