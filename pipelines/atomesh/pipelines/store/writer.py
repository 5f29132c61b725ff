"""One thread on which all of a store's SQL runs, never on the event loop.

What is handed over is appended to a deque, and no more: the thread is woken by
the first item, gathers for `GATHER` seconds and takes all that came. Whoever
waits for an answer does not wait for the gathering. The thread is no daemon, so
that what was handed over is written when a process ends without closing; it
sees by itself that the main thread is gone.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from atomesh.pipelines.errors import StoreUnavailable

GATHER = 0.05
"""Seconds. A run that begins and ends within is written once. A fifth of it
commits five times as often, for the same runs; at ten times of it a person who
lists runs by another process misses the last half second."""

PATIENCE = 1.0
"""Seconds between two looks at what is due; they cost nothing where nothing is."""

_T = TypeVar("_T")
_Item = TypeVar("_Item")


class Writer(Generic[_Item]):
    """The thread, its deque and its jobs."""

    def __init__(
        self,
        name: str,
        write: Callable[[list[_Item], bool], None],
        *,
        limit: int,
        gave_way: Callable[[_Item], None],
    ) -> None:
        """Nothing runs yet.

        `write(items, hurry)` is called on the thread with all that was handed
        over, none where it is only time to look at what is due; `hurry` says
        that somebody waits. At most `limit` items are held while the thread
        hangs in the database; `gave_way` is told of the oldest beyond it.
        """
        self._name = name
        self._write = write
        self._items: deque[_Item] = deque(maxlen=limit)
        self._limit = limit
        self._gave_way = gave_way
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._closing = False
        self._ended: Future[None] = Future()
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> bool:
        """Whether it was started and takes work."""
        return self._thread is not None and self._thread.is_alive() and not self._closing

    def start(self) -> None:
        """Starts the thread, once."""
        self._thread = threading.Thread(target=self._main, name=self._name)
        self._thread.start()

    def hand_over(self, item: _Item) -> None:
        """To be written soon; costs well below a microsecond."""
        if len(self._items) == self._limit:
            self._gave_way(self._items[0])
        self._items.append(item)
        if not self._wake.is_set():
            self._wake.set()

    async def run(self, work: Callable[[], _T]) -> _T:
        """What `work` gives on the thread, after all that was handed over before."""
        done: Future[_T] = Future()
        self._jobs.append((work, done))
        self._hurry.set()
        self._wake.set()
        return await asyncio.wrap_future(done)

    async def close(self) -> None:
        """Writes what is left and ends the thread; twice is fine."""
        if self._thread is None:
            return
        self._closing = True
        self._hurry.set()
        self._wake.set()
        await asyncio.shield(asyncio.wrap_future(self._ended))
        self._thread.join()

    def _main(self) -> None:
        main = threading.main_thread()
        last = False
        try:
            while not last:
                woken = self._wake.wait(PATIENCE)
                if woken:
                    self._hurry.wait(GATHER)
                last = self._closing or not main.is_alive()
                self._wake.clear()
                self._hurry.clear()
                self._turn()
        finally:
            self._refuse_jobs()
            self._ended.set_result(None)

    def _turn(self) -> None:
        jobs = [self._jobs.popleft() for _ in range(len(self._jobs))]
        items = [self._items.popleft() for _ in range(len(self._items))]
        self._write(items, bool(jobs) or self._closing)
        for work, done in jobs:
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001 # whoever waits is told, this thread has others to serve
                done.set_exception(error)

    def _refuse_jobs(self) -> None:
        while self._jobs:
            _, done = self._jobs.popleft()
            if done.set_running_or_notify_cancel():
                done.set_exception(StoreUnavailable(f"the {self._name} is closed"))
