"""Whether an endpoint can be picked: the one place that decides it.

Four things have a say: what the registry last told of it, its connection, its
mux, which may stand and be silent, and its record of failures. There is no second breaker beside this.
"""

from __future__ import annotations

from enum import Enum

from atomesh.balancer.candidate import Candidate, SubchannelState
from atomesh.core.endpoint import State


class Availability(Enum):
    """How gladly an endpoint is picked."""

    PICKED = "picked"
    PICKED_LAST = "picked_last"
    EJECTED = "ejected"
    NOT_CONNECTED = "not_connected"
    SILENT = "silent"
    NOT_SERVING = "not_serving"


def availability(candidate: Candidate) -> Availability:
    """What can be done with the endpoint now."""
    if candidate.refusing or candidate.endpoint.state not in (State.SERVING, State.SUSPECT):
        return Availability.NOT_SERVING
    if candidate.subchannel is not SubchannelState.READY:
        return Availability.NOT_CONNECTED
    if candidate.silent:
        return Availability.SILENT
    if candidate.ejection.active:
        return Availability.EJECTED
    return Availability.PICKED if candidate.endpoint.state is State.SERVING else Availability.PICKED_LAST
