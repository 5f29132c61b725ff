"""Who may run, who waits, who is refused: strict slots and a short queue before them.

Mesh clients hold their calls themselves and are refused at once, unexecuted,
when every slot is taken. Stock clients cannot do that, and refusing them at
once would lose 18 % of their calls at 0.7 load with four slots (Erlang B). So
their calls wait here: at most QUEUE of them, at most a second, earliest
deadline first (EDF meets every deadline that any order can meet: Liu and
Layland, 1973). Nobody starves: who is overtaken for a second is told.

Muxes get their slots by grants (`demands`). A slot that comes free goes to
whoever has waited longest, a stock client's call or a mux; never are more
running and granted than there are slots.

Pure: it is told the time, and decides; the shell wakes, refuses and counts.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from atomesh.agents.demands import Demands
from atomesh.core.context import MAX_HOPS
from atomesh.core.endpoint import Load
from atomesh.core.errors import AtomeshError, CallLoop, CallTooDeep, DeadlineExceeded, Draining, NoFreeSlot
from atomesh.rpc.mux.slots import Claim

QUEUE = 32
"""Calls that may wait. In M/M/c the chance that n wait falls as load**n,
whatever the slots: at 0.7 load 32 refuse one call in a million, half of it one
in two thousand, and a queue as long as four slots 3 %. Twice of it only holds
calls that their second of patience ends anyhow."""

PATIENCE = 1.0
"""Seconds that a call waits for a slot. At 0.7 load over four slots nobody has
to wait for so long while executions take 0.1 s or less; half of it loses calls
to one slow execution, twice of it holds a caller at a full endpoint that could
long have tried elsewhere."""

_HINTS = (0.001, 5.0)
"""Seconds within which we say when to come again: less is a busy loop, and in
more the picture has changed."""

_MEMORY = 256
"""Executions over which the mean duration is taken. Where costs differ a
thousandfold a mean over a quarter of it jumps by a third; many more still speak
of yesterday's load."""


class Place(Enum):
    """Where a waiting call stands."""

    QUEUED = auto()
    GRANTED = auto()
    GONE = auto()


@dataclass(slots=True, eq=False)
class Waiter:
    """A call that waits for a slot. `wake` is the shell's own."""

    since: float
    deadline: float
    until: float
    place: Place = Place.QUEUED
    wake: Callable[[], object] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class Asking:
    """What decides over a call that cannot just run."""

    deadline: float
    via: tuple[str, ...] = ()
    no_wait: bool = False


class Admission:
    """The slots of one agent. `in_flight` is how many are taken, `queued` how many wait; read the counts, never write them."""

    def __init__(
        self, agent: str, slots: int, *, rng: random.Random, queue: int = QUEUE, patience: float = PATIENCE
    ) -> None:
        """At most `queue` calls wait, each for at most `patience` seconds."""
        self.agent = agent
        self.slots = slots
        self.in_flight = 0
        self.executions = 0
        self.failures = 0
        self.refusals = 0
        self.busy = 0.0
        self.draining = False
        self._mean = 0.0
        self._rng = rng
        self._patience = patience
        self._room = queue
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Waiter]] = []
        self.queued = 0
        self._demands = Demands(slots)

    def try_enter(self) -> bool:
        """Takes a slot where one is free and nothing else is to be asked; the way of nearly every call."""
        # While a slot is free nobody waits: a slot given back goes to a waiter first.
        if self.in_flight + self._demands.granted < self.slots and not self.draining:
            self.in_flight += 1
            return True
        return False

    def ask(self, asking: Asking, now: float) -> Waiter | AtomeshError | None:
        """Decides over any call: None has its slot, a Waiter waits, an error is the refusal."""
        refusal = self._refusal(asking, now)
        if refusal is not None:
            self.refusals += 1
            return refusal
        if self.taken < self.slots:
            self.in_flight += 1
            return None
        waiter = Waiter(now, asking.deadline, min(asking.deadline, now + self._patience))
        heapq.heappush(self._heap, (asking.deadline, next(self._order), waiter))
        self.queued += 1
        return waiter

    def leave(self, seconds: float | None, now: float, *, failed: bool = False) -> None:
        """Gives a slot back after an execution of so many seconds, None where it came to none; the next one has it."""
        if seconds is not None:
            self.executions += 1
            self.failures += failed
            self.busy += seconds
            self._mean += (seconds - self._mean) / min(self.executions, _MEMORY)
        self.in_flight -= 1
        if self._heap or self._demands.waiting:
            self._pass_on(now)

    def give_up(self, waiter: Waiter, now: float) -> AtomeshError | None:
        """The refusal of a waiter whose time is up; None where it was granted a slot in the last moment."""
        if waiter.place is not Place.QUEUED:
            return None
        self._forget(waiter)
        self.refusals += 1
        if now >= waiter.deadline:
            return DeadlineExceeded(
                f"{self.agent}: the deadline passed while the call waited for a slot", executed=False
            )
        return self._no_slot(f"none came free within {self._patience:g} s")

    def withdraw(self, waiter: Waiter, now: float) -> None:
        """Takes a waiter out whose caller went away; a slot that it was granted just now goes to the next."""
        if waiter.place is Place.GRANTED:
            waiter.place = Place.GONE
            self.leave(None, now)
        elif waiter.place is Place.QUEUED:
            self._forget(waiter)

    # -- muxes (see rpc.mux.slots.Slots) -----------------------------------------

    def enter(self, claim: Claim, granted: bool, now: float) -> bool:
        """Takes a slot for a mux's call: its grant's, or one that is free while nobody waits."""
        if granted and self._demands.use(claim):
            self.in_flight += 1
            return True
        # As for try_enter: a free slot means that nobody waits.
        if self.taken < self.slots and not self.draining:
            self.in_flight += 1
            return True
        if granted:
            self._pass_on(now)
        self.refusals += 1
        return False

    def demand(self, claim: Claim, waiting: int, now: float) -> None:
        """So many demands of the mux wait from now on."""
        self._demands.want(claim, waiting, now)
        self._pass_on(now)

    def give_back(self, claim: Claim, grants: int, now: float) -> None:
        """So many grants were not needed."""
        for _ in range(min(grants, len(claim.out) + claim.lapsed)):  # whatever a stranger says
            self._demands.use(claim)
        self._pass_on(now)

    def gone(self, claim: Claim, now: float) -> None:
        """The mux has ended."""
        self._demands.gone(claim)
        self._pass_on(now)

    def heard(self, claim: Claim, now: float) -> None:
        """The mux has sent a frame: it is not mute any longer than it has to be."""
        claim.mute = now < claim.mute_until

    def tick(self, now: float) -> None:
        """Takes back grants that were not used in time."""
        if self._demands.lapse(now):
            self._pass_on(now)

    def next_event(self) -> float | None:
        """When `tick` is due; None where nothing will lapse."""
        return self._demands.next_lapse()

    @property
    def mean(self) -> float:
        """Seconds that executions have taken of late, in the mean; 0 before the first."""
        return self._mean

    @property
    def taken(self) -> int:
        """Slots that run something or are granted."""
        return self.in_flight + self._demands.granted

    @property
    def wanted(self) -> int:
        """Calls and demands that wait."""
        return self.queued + self._demands.waiting

    def _pass_on(self, now: float) -> None:
        """Gives slots that are free to those who have waited longest; while it drains, to those who wait here."""
        while self.taken < self.slots:
            waiter = self._next_waiter(now)
            since = None if self.draining else self._demands.first_since()
            if waiter is not None and (since is None or waiter.since <= since):
                heapq.heappop(self._heap)
                waiter.place = Place.GRANTED
                self.queued -= 1
                self.in_flight += 1
                waiter.wake()
            elif since is not None:
                self._demands.grant(now).wake()
            else:
                return

    def _next_waiter(self, now: float) -> Waiter | None:
        """The waiting call with the earliest deadline that can still be met."""
        while self._heap:
            waiter = self._heap[0][2]
            if waiter.place is Place.QUEUED and waiter.deadline > now:
                return waiter
            heapq.heappop(self._heap)  # out of time, but not told yet: it is still counted, until it gives up
        return None

    def load(self) -> Load:
        """How busy it is, and the counts."""
        return Load(self.slots, self.in_flight, self.wanted, self.executions, self.failures, self.refusals, self.busy)

    def _forget(self, waiter: Waiter) -> None:
        waiter.place = Place.GONE
        self.queued -= 1
        # What left early stays in the heap until it is popped; without this a
        # full agent whose callers come and go would keep them all.
        if len(self._heap) > 2 * self._room + 8:
            self._heap = [entry for entry in self._heap if entry[2].place is Place.QUEUED]
            heapq.heapify(self._heap)

    def _refusal(self, asking: Asking, now: float) -> AtomeshError | None:
        if len(asking.via) > MAX_HOPS:
            return self._too_deep(asking.via)
        if self.draining:
            return Draining(f"{self.agent} is draining here; call another endpoint")
        if asking.deadline <= now:
            return DeadlineExceeded(f"{self.agent}: the deadline had passed when the call arrived", executed=False)
        if self.taken < self.slots:
            return None
        if self.agent in asking.via:
            return CallLoop(
                f"{self.agent}: the call came back through {' > '.join(asking.via[-4:])} and would wait for itself; "
                f"all {self.slots} slots are taken",
                retry_after=self._hint(),
            )
        if asking.no_wait:
            return self._no_slot("the caller does not wait")
        if self.queued >= self._room:
            return self._no_slot(f"{self.queued} calls wait already")
        return None

    def refuse_too_deep(self, via: tuple[str, ...]) -> CallTooDeep:
        """The refusal, counted, of a call that has come through so many agents."""
        self.refusals += 1
        return self._too_deep(via)

    def _too_deep(self, via: tuple[str, ...]) -> CallTooDeep:
        return CallTooDeep(
            f"{self.agent}: the call has passed through {len(via)} agents, the limit is {MAX_HOPS}: "
            f"{' > '.join(via[-4:])}; end the loop, or make the plan flatter"
        )

    def _no_slot(self, why: str) -> NoFreeSlot:
        slots = "the only slot is" if self.slots == 1 else f"all {self.slots} slots are"
        return NoFreeSlot(f"{self.agent}: {slots} taken and {why}; try another endpoint", retry_after=self._hint())

    def _hint(self) -> float:
        """Seconds until a slot should come free for one more call, jittered lest the refused come back in step."""
        expected = self._mean * (self.queued + 1) / self.slots
        low, high = _HINTS
        return min(high, max(low, expected * (0.5 + self._rng.random())))
