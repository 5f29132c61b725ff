"""Claims to an endpoint's slots: what its muxes and its admission say to each other.

`Slots` is what an endpoint's admission does for a mux; `Claim` is what it
keeps of one. A claim waits (demands), holds (grants) and runs (executions).
Never: running + granted > slots.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

GRANT_SECONDS = 0.25
"""A grant that is not used by then lapses, and its mux is mute until its next
frame. Half of it takes slots from clients that a busy machine has only slowed
down; without it a frozen client stalled everybody for 13 s, with it 0.7 s."""

MUTE_SECONDS = 8.0
"""How long at most a mux is mute, whatever it sends, that lets one grant after the
other lapse: twice as long each time. With half of it a client that demands slots
and uses none holds a thirtieth of all; twice is long for one that was only unlucky."""


class Claim:
    """What one mux has of the slots of one agent. The admission writes it, the mux's end reads it."""

    __slots__ = (
        "barred",
        "granted",
        "lapsed",
        "lapses",
        "mute",
        "mute_until",
        "out",
        "running",
        "void",
        "waiting",
        "wake",
    )

    def __init__(self, wake: Callable[[], object] = lambda: None) -> None:
        """Wants nothing. `wake` is called when a grant has been made."""
        self.waiting = 0
        """Demands that wait."""
        self.void = 0
        """Its oldest places in the queue that count no more: what waited there was placed elsewhere."""
        self.out: deque[float] = deque()
        """When each grant that is out was made, oldest first."""
        self.granted = 0
        """Grants made since the stream began."""
        self.lapsed = 0
        """Grants that lapsed and may yet come back, used or not."""
        self.lapses = 0
        """Times in a row that it let grants lapse; none has come back since, used or not, in time or late."""
        self.running = 0
        """Its executions."""
        self.mute = False
        """It let a grant lapse: nothing is granted to it before its next frame, and not before `mute_until`."""
        self.mute_until = 0.0
        self.barred = False
        """It does not read what it is sent: nothing is granted to it before it does."""
        self.wake = wake


class Slots(Protocol):
    """An endpoint's slots, as a mux's end sees them."""

    slots: int
    draining: bool
    """Nothing new is let in."""

    def enter(self, claim: Claim, granted: bool, now: float) -> bool:
        """Takes a slot for an execution, with a grant or without; False where there is none."""
        ...

    def leave(self, seconds: float | None, now: float) -> None:
        """Gives a slot back, after an execution of so many seconds; None where it came to none."""
        ...

    def demand(self, claim: Claim, waiting: int, now: float) -> None:
        """So many demands of the mux wait from now on."""
        ...

    def give_back(self, claim: Claim, grants: int, now: float) -> None:
        """So many grants were not needed."""
        ...

    def gone(self, claim: Claim, now: float) -> None:
        """The mux has ended: its demands and grants are void. Executions are left by whoever runs them."""
        ...

    def heard(self, claim: Claim, now: float) -> None:
        """The mux has sent a frame: it is not mute any longer than it has to be."""
        ...

    def tick(self, now: float) -> None:
        """Takes back grants that were not used in time."""
        ...

    def next_event(self) -> float | None:
        """When `tick` is due; None where nothing will lapse."""
        ...

    @property
    def mean(self) -> float:
        """Seconds that executions have taken of late, in the mean; 0 before the first."""
        ...

    @property
    def taken(self) -> int:
        """Slots that run something or are granted."""
        ...

    @property
    def wanted(self) -> int:
        """Calls and demands that wait."""
        ...
