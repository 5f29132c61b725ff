"""An agent's circuit: its endpoints' ejections, seen from above.

There is no second breaker. An agent whose every endpoint is ejected is an open
circuit; once the first of them may be probed it is half-open, and the first
probe that goes well closes it. Endpoints that drain or have stopped are not
counted, since they will not come back. One that is only not connected yet keeps
the circuit closed: it may well take the next call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum

from atomesh.balancer.availability import Availability, availability
from atomesh.balancer.candidate import Candidate
from atomesh.core.errors import CircuitOpen


class Circuit(Enum):
    """Whether calls of an agent get through, as far as its endpoints' failures go."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    """One call at a time per endpoint is let through, and decides."""
    OPEN = "open"

    @property
    def level(self) -> int:
        """As the metric has it: 0 closed, 1 half-open, 2 open."""
        return _LEVELS[self]


_LEVELS = {Circuit.CLOSED: 0, Circuit.HALF_OPEN: 1, Circuit.OPEN: 2}


def circuit_of(candidates: Iterable[Candidate]) -> Circuit:
    """The circuit of endpoints that are all there is of an agent."""
    circuit = Circuit.CLOSED
    for candidate in candidates:
        record = candidate.ejection
        if availability(candidate) is Availability.NOT_SERVING:
            continue
        if not (record.active or record.probing):
            return Circuit.CLOSED
        if record.probing:
            circuit = Circuit.HALF_OPEN
        elif circuit is Circuit.CLOSED:
            circuit = Circuit.OPEN
    return circuit


def refusal(agent: str, candidates: Collection[Candidate], waiting: int, now: float) -> CircuitOpen | None:
    """Why a call that would have to wait is refused if it fails fast; None where it is for want of slots.

    `waiting` calls wait already, and so take the probes that are left.
    """
    circuit = circuit_of(candidates)
    if circuit is Circuit.CLOSED or (not waiting and any(_awaits_probe(candidate) for candidate in candidates)):
        return None
    ends = [candidate.ejection.until for candidate in candidates if candidate.ejection.until is not None]
    wait = max(0.0, min(ends) - now) if ends else None
    if circuit is Circuit.HALF_OPEN:
        what = f"the circuit of {agent} is half-open: one call at a time gets through"
    else:
        what = f"the circuit of {agent} is open: {len(ends)} of {len(candidates)} endpoints are ejected"
    when = "" if wait is None else f", the next probe is in {wait:.2g} s"
    return CircuitOpen(f"{what}{when}; call again later, or without fail_fast to wait", retry_after=wait)


def _awaits_probe(candidate: Candidate) -> bool:
    """Whether it is half-open, and the next call there decides."""
    pickable = availability(candidate) in (Availability.PICKED, Availability.PICKED_LAST)
    return candidate.ejection.probing and pickable and not candidate.in_flight
