"""Which worker is started, when it is started again, and when that is given up: decided here, done in `_workers.py`.

A worker that ends on purpose (exit code 0: drained, by a signal or by `atomesh
drain`) stays ended. One that crashes is started again after a delay that
doubles with each failure in a row and is forgotten once it was up for long, as
Erlang's supervisors and systemd do. What cannot start at all is not tried for
ever: a wrong flag is known at once, since all workers fail before any was
ready; a port that one of them cannot have, or an agent that fails in its start,
after `STARTS` starts. A worker that did serve before is never the end of
siblings that still serve: it is tried again for as long as they do.
"""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass

from atomesh.core.backoff import Backoff

BACKOFF = Backoff(base=0.5, cap=30.0)
"""Seconds before a worker is started again. A Python process takes about one to
be ready: half of the base starts little sooner, and twice of it is capacity
missing for longer than the start. At the cap a worker that crashes at once
costs 3 % of a core; at twice of it, it stays away a minute after its database
is back."""

UP_FOR_LONG = 60.0
"""Seconds after which a crash is a new story. Twice the cap, so that a worker
that crashes each half minute is not among those that start again at once; at
ten minutes one crash each five would end up at the longest delay."""

STARTS = 5
"""Failed starts in a row, about six seconds, before a worker that must not be
waited for is given up. At 2 a port that its last owner is just leaving ends
the command; at 10 a person waits more than a minute for one line."""

_ENDS_WELL = (0, -signal.SIGTERM)
"""Exit codes of who was told to end. A worker has a handler of SIGTERM from its
first call to its last: who died of the signal did not serve yet, or had drained."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start the worker `delay` seconds from now."""

    worker: int
    delay: float = 0.0
    failed: int = 0
    """How many starts in a row have failed before this one."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Drain the others and end with this line and code."""

    worker: int
    reason: str
    code: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended."""

    code: int
    """Negative for a signal."""
    reason: str
    """One line."""


@dataclass(slots=True)
class _Worker:
    up_since: float | None = None
    served: bool = False
    """Whether it was ever ready."""
    failed_starts: int = 0
    failures: int = 0
    over: bool = False


class Supervision:
    """Workers numbered from 1; events in, what to do out."""

    def __init__(self, workers: int, rng: random.Random) -> None:
        """None is started yet."""
        self._workers = {number: _Worker() for number in range(1, workers + 1)}
        self._rng = rng
        self._stopping = False
        self._lost = False

    @property
    def exit_code(self) -> int:
        """0 unless a worker that was told to drain did not end well: then calls may have been cut off."""
        return 1 if self._lost else 0

    def begin(self) -> list[Start]:
        """All at once."""
        return [Start(number) for number in self._workers]

    def ready(self, worker: int, now: float) -> None:
        """It serves."""
        state = self._workers[worker]
        state.up_since, state.served, state.failed_starts = now, True, 0

    def ended(self, worker: int, now: float, how: Exit) -> Start | GiveUp | None:
        """It has ended, or could not even be started. None: it stays so."""
        state = self._workers[worker]
        up = None if state.up_since is None else now - state.up_since
        state.up_since = None
        if self._stopping or how.code == 0:
            self._lost |= up is not None and how.code not in _ENDS_WELL
            state.over = True
            return None
        if up is None:
            state.failed_starts += 1
            if not self._can_hope(state):
                return GiveUp(worker, self._told(worker, how.reason), how.code)
        state.failures = 1 if up is not None and up >= UP_FOR_LONG else state.failures + 1
        return Start(worker, BACKOFF.delay(state.failures, self._rng), state.failed_starts)

    def stop(self) -> None:
        """From now on nothing is started again."""
        self._stopping = True

    def _can_hope(self, failing: _Worker) -> bool:
        """Whether one more start may go better than the last."""
        if self._none_can_start():
            return False
        if failing.failed_starts < STARTS:
            return True
        return failing.served and any(worker.up_since is not None for worker in self._workers.values())

    def _none_can_start(self) -> bool:
        """Whether each has failed and none was ever ready: then it is what they share that is wrong."""
        return all(worker.failed_starts and not worker.served for worker in self._workers.values())

    def _told(self, worker: int, reason: str) -> str:
        """The reason; with which worker, where it is not all of them."""
        if self._none_can_start():
            return reason
        tries = self._workers[worker].failed_starts
        return f"worker {worker} of {len(self._workers)} did not start {tries} times in a row: {reason}"
