"""What a registry was asked and what it answered, as facts, and one validator for each of its promises.

    recorder = Recorder(clock.now)
    recorder.note(Rules(...))                       # what it is measured by
    caller = Caller("owner-1", channel, recorder)   # asks, and notes everything
    ...
    assert not (broken := check(recorder.facts)), broken[0]

A history knows only what could be seen from outside: calls with their
beginnings and ends, answers, messages of watches when they were read, and what
was done to the registry (kills, pauses, partitions, failing commits). The
validators use none of the registry's code, so what is wrong there cannot fool
them too. `lines` writes histories as JSON Lines and reads them.
"""

from atomesh.testing.history.caller import Caller
from atomesh.testing.history.check import PROMISES, check
from atomesh.testing.history.evidence import Evidence
from atomesh.testing.history.facts import (
    LEFT,
    LOST,
    OK,
    UNAVAILABLE,
    Change,
    Committed,
    Deregister,
    Discover,
    Fact,
    GetContract,
    Register,
    Renew,
    Rules,
    Started,
    Stopped,
    Trouble,
    Update,
    WatchBegan,
    WatchEnded,
    WatchTold,
)
from atomesh.testing.history.lines import digest, from_lines, to_line
from atomesh.testing.history.recorder import Recorder
from atomesh.testing.history.values import (
    CALL,
    STATES,
    Place,
    Shown,
    Wanted,
)
from atomesh.testing.history.violation import Violation

__all__ = [
    "CALL",
    "LEFT",
    "LOST",
    "OK",
    "PROMISES",
    "STATES",
    "UNAVAILABLE",
    "Caller",
    "Change",
    "Committed",
    "Deregister",
    "Discover",
    "Evidence",
    "Fact",
    "GetContract",
    "Place",
    "Recorder",
    "Register",
    "Renew",
    "Rules",
    "Shown",
    "Started",
    "Stopped",
    "Trouble",
    "Update",
    "Violation",
    "Wanted",
    "WatchBegan",
    "WatchEnded",
    "WatchTold",
    "check",
    "digest",
    "from_lines",
    "to_line",
]
