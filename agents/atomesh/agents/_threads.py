"""Threads for agents with a plain `def`: exactly as many as slots, and daemons.

`concurrent.futures.ThreadPoolExecutor` joins its threads when the interpreter
ends, so one execution that hangs would keep a drained process alive for good.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class DaemonThreads(Executor):
    """At most `count` threads, each started when first needed, that do not outlive the process."""

    def __init__(self, name: str, count: int) -> None:
        """Starts none yet."""
        self._name = name
        self._count = count
        self._threads: list[threading.Thread] = []
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Runs it on a thread; never waits for one as long as no more than `count` run at once."""
        future: Future[R] = Future()
        self._work.put((future, lambda: fn(*args, **kwargs)))
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._count:
            thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the threads as they become free; `wait` gives them a second together and no more."""
        del cancel_futures  # with a slot for each thread nothing is ever queued behind another
        for _ in self._threads:
            self._work.put(None)
        if wait:
            for thread in self._threads:
                thread.join(1.0 / len(self._threads))

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            future, call = item
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:  # noqa: BLE001 # belongs to whoever awaits the future, KeyboardInterrupt too
                    future.set_exception(error)
                else:
                    future.set_result(result)
            del item, future, call
            self._idle.release()
