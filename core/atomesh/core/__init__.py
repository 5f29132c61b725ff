"""The words that everybody in the mesh shares; nothing here does I/O."""

from atomesh.core.clock import SYSTEM_CLOCK, Clock, SystemClock
from atomesh.core.context import DEFAULT_TIMEOUT, Context, Scope, current_scope
from atomesh.core.contract import Contract, ContractDescriptor, StreamContract
from atomesh.core.endpoint import (
    ALL_STATES,
    WELL_KNOWN_CAPABILITIES,
    Capability,
    Endpoint,
    Load,
    Probe,
    ProbeResult,
    Recent,
    State,
)
from atomesh.core.errors import AtomeshError, Attempt, Origin, Violation
from atomesh.core.selector import Selector
from atomesh.core.updates import (
    Added,
    Change,
    Changed,
    Position,
    Removed,
    RemovedReason,
    Reset,
    ResetReason,
    Update,
    WatchEvent,
)

__all__ = [
    "ALL_STATES",
    "DEFAULT_TIMEOUT",
    "SYSTEM_CLOCK",
    "WELL_KNOWN_CAPABILITIES",
    "Added",
    "AtomeshError",
    "Attempt",
    "Capability",
    "Change",
    "Changed",
    "Clock",
    "Context",
    "Contract",
    "ContractDescriptor",
    "Endpoint",
    "Load",
    "Origin",
    "Position",
    "Probe",
    "ProbeResult",
    "Recent",
    "Removed",
    "RemovedReason",
    "Reset",
    "ResetReason",
    "Scope",
    "Selector",
    "State",
    "StreamContract",
    "SystemClock",
    "Update",
    "Violation",
    "WatchEvent",
    "current_scope",
]
