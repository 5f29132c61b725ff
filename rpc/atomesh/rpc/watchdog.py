"""Whether the event loop keeps up, and what stood in its way.

A loop that is blocked renews no leases, answers no probes and lets deadlines
pass; HTTP/2 pings are answered all the same. So a timer measures how late the
loop is, and a thread looks on: when the timer's beat stays out for longer than
`limit`, it logs the stack that the loop's thread stands in, once per block,
and the loop logs when it goes on.

A process that is stopped, or suspended with its machine, is late as well, and
then the stack is that of an innocent: the thread that looks on was late itself,
and the process used next to no CPU meanwhile. That is said instead. (Code that
holds Python's lock keeps that thread waiting too, but burns CPU.) Nor is a loop
blocked that waits for work: its process is short of CPU.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType

from prometheus_client import CollectorRegistry, Gauge

from atomesh.core.clock import SYSTEM_CLOCK, Clock
from atomesh.rpc.counting import HistogramFamily

log = logging.getLogger(__name__)

LIMIT = 1.0
"""Seconds blocked before it is logged. A third of it is a large garbage
collection; at three, with a lease of 15 s, it begins to be dangerous."""

_BEATS = 4
"""Beats per limit: a block is noticed at most a quarter of the limit late."""

_STILL = 0.05
"""CPUs that a process which stands still uses at most. A tenth would do for one
that is stopped; at half of a CPU, code that holds Python's lock on a machine with
little to spare passes for one, and its stack is lost."""

_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Watchdog:
    """Watches the event loop that it is started in."""

    def __init__(
        self, registry: CollectorRegistry | None = None, *, limit: float = LIMIT, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        """`limit` in seconds. Metrics go to `registry`; without one they are shown nowhere."""
        registry = registry or CollectorRegistry()
        lag = "How late the event loop ran a timer."
        family = HistogramFamily("atomesh_event_loop_lag_seconds", lag, (), buckets=_BUCKETS, registry=registry)
        self._lag = family.labels()
        self._last = Gauge("atomesh_event_loop_last_lag_seconds", "The latest of these lags.", registry=registry)
        self._limit = limit
        self._now = clock.now
        self._beat = 0.0
        self._told = -1.0
        """The beat that stayed out for so long that it was logged."""
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the timer and the thread."""
        self._beat = self._now()
        self._schedule()
        watched = threading.get_ident()
        self._stopped.clear()
        self._thread = threading.Thread(target=self._watch, args=(watched,), name="atomesh-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends both."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._limit / _BEATS, self._beats)

    def _beats(self) -> None:
        now = self._now()
        lag = max(0.0, now - self._beat - self._limit / _BEATS)
        self._lag.observe(lag)
        self._last.set(lag)
        if self._told == self._beat:
            log.warning("the event loop goes on after %.1f s", lag)
        self._beat = now
        self._schedule()

    def _watch(self, watched: int) -> None:
        pause = self._limit / _BEATS
        runs_since, looked, used = self._now(), SYSTEM_CLOCK.now(), time.process_time()
        while not self._stopped.wait(pause):
            still, burnt = SYSTEM_CLOCK.now() - looked - pause, time.process_time() - used
            looked, used = looked + pause + still, used + burnt
            if still > self._limit and burnt < still * _STILL:
                runs_since = self._now()
                log.warning("the process stood still for %.1f s: it was stopped, or its machine was suspended", still)
                continue
            beat = self._beat
            late = self._now() - max(beat, runs_since)
            if beat != self._told and late > self._limit:
                self._told = beat
                _blame(sys._current_frames().get(watched), late)


def _blame(frame: FrameType | None, late: float) -> None:
    """Logs where the loop's thread stands; one that waits for work is not blocked by any."""
    if frame is not None and frame.f_globals.get("__name__") == "selectors":
        log.warning("the event loop is %.1f s late and nothing blocks it: the process gets too little CPU", late)
        return
    stack = "".join(traceback.format_stack(frame)) if frame is not None else "(the thread is gone)"
    log.warning("the event loop has been blocked for %.1f s by this:\n%s", late, stack)
