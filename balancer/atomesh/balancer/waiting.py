"""The calls that wait for an endpoint: earliest deadline first.

Whoever leaves is forgotten lazily, so that leaving costs nothing; what was left
is swept out when it is more than what waits. Every step is O(log waiting).
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Collection, Iterator

from atomesh.balancer.candidate import Candidate
from atomesh.balancer.policies import DEFAULT_POLICY
from atomesh.balancer.policies.base import NONE_TRIED
from atomesh.core.errors import Attempt

_SWEEP = 100  # entries left behind that are not worth a sweep


class Call:
    """A call that wants an endpoint."""

    __slots__ = (
        "attempts",
        "deadline",
        "fail_fast",
        "policy",
        "queue_wait",
        "returns",
        "session",
        "since",
        "tried",
        "waiting",
    )

    def __init__(self, deadline: float, policy: str = DEFAULT_POLICY, session: str = "") -> None:
        """`deadline` in monotonic seconds."""
        self.deadline = deadline
        self.policy = policy
        self.session = session
        """What keeps calls at one endpoint, where the policy does, and with one release."""
        self.returns = False
        """It has passed through the agent before: whoever it would wait for may be waiting for it."""
        self.fail_fast = False
        """It does not wait where the agent is an open circuit."""
        self.attempts: list[Attempt] = []
        """Those that failed."""
        self.tried: Collection[Candidate] = NONE_TRIED
        """Endpoints that refused it since it last waited."""
        self.waiting = False
        self.since = 0.0
        """When it began to wait."""
        self.queue_wait = 0.0
        """Seconds that it has waited, together."""


class WaitingCalls:
    """Who waits. A call is in it at most once."""

    def __init__(self) -> None:
        """Nobody."""
        self._by_deadline: list[tuple[float, int, Call]] = []
        self._arrivals: deque[tuple[float, Call]] = deque()
        self._order = itertools.count()
        self._count = 0
        self._latest = 0.0
        self.hasty = 0
        """How many of them do not wait for an open circuit."""

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def __iter__(self) -> Iterator[Call]:
        """Those that wait, in no order."""
        return (call for _, _, call in self._by_deadline if call.waiting)

    def add(self, call: Call, now: float) -> None:
        """The call waits from now on; what refused it before may be asked again."""
        call.waiting, call.since, call.tried = True, now, NONE_TRIED
        self._count += 1
        self.hasty += call.fail_fast
        self._latest = max(self._latest, call.deadline) if self._count > 1 else call.deadline
        heapq.heappush(self._by_deadline, (call.deadline, next(self._order), call))
        self._arrivals.append((now, call))

    def remove(self, call: Call) -> None:
        """The call waits no more."""
        if not call.waiting:
            return
        call.waiting = False
        self._count -= 1
        self.hasty -= call.fail_fast
        if len(self._by_deadline) > 2 * self._count + _SWEEP:
            self._by_deadline = [entry for entry in self._by_deadline if entry[2].waiting]
            heapq.heapify(self._by_deadline)
        if len(self._arrivals) > 2 * self._count + _SWEEP:
            self._arrivals = deque(entry for entry in self._arrivals if _still(*entry))

    def ahead(self, deadline: float) -> int:
        """About how many have their turn before a call with this deadline.

        Exact where it is the last or the first, and in between as if deadlines
        were spread evenly: counting would cost as many steps as calls wait.
        """
        first = self.first()
        if first is None or deadline <= first.deadline:
            return 0
        if deadline >= self._latest:
            return self._count
        return int(self._count * (deadline - first.deadline) / (self._latest - first.deadline))

    def first(self) -> Call | None:
        """The one with the earliest deadline."""
        while self._by_deadline and not self._by_deadline[0][2].waiting:
            heapq.heappop(self._by_deadline)
        return self._by_deadline[0][2] if self._by_deadline else None

    def longest(self) -> Call | None:
        """The one that has waited for the longest time."""
        while self._arrivals and not _still(*self._arrivals[0]):
            self._arrivals.popleft()
        return self._arrivals[0][1] if self._arrivals else None


def _still(since: float, call: Call) -> bool:
    """Whether an arrival is what its call waits for now: it may have left and come back."""
    return call.waiting and call.since == since
