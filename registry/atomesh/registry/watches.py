"""Open watches: who waits is woken by commits, and sent what waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from atomesh.core.selector import Selector
from atomesh.core.updates import Position, ResetReason
from atomesh.registry.ledger import Bookmark, Ledger, Snapshot, Step
from atomesh.registry.metrics import RegistryMetrics
from atomesh.registry.watch import Watcher
from atomesh.registry.wire import Encoder

Write = Callable[[bytes], Awaitable[None]]
"""Sends one message; returns when the stream has room again, which a slow reader puts off."""


class Watches:
    """All watches of a registry."""

    def __init__(self, ledger: Ledger, encoder: Encoder, metrics: RegistryMetrics) -> None:
        """Nobody watches yet."""
        self._ledger = ledger
        self._encoder = encoder
        self._metrics = metrics
        self._waiting: dict[Watcher, asyncio.Event] = {}
        self._closed = False

    async def serve(self, selector: Selector, resume_after: Position | None, write: Write) -> None:
        """One watch: a snapshot or what came since a position, then every change; bookmarks while nothing happens."""
        watcher = self._ledger.watch(selector, resume_after)
        awake = self._waiting[watcher] = asyncio.Event()
        self._metrics.watchers.inc()
        try:
            while not self._closed:
                # Where there is nothing to tell, as nothing was missed or nothing happens, that is told.
                steps = self._ledger.next_steps(watcher) or [self._ledger.bookmark()]
                while steps:
                    await self._send(steps, write)
                    awake.clear()
                    steps = self._ledger.next_steps(watcher)
                if not self._closed:
                    await self._woken(awake)
        finally:
            self._metrics.watchers.dec()
            del self._waiting[watcher]
            self._ledger.hub.leave(watcher)

    def wake(self, watchers: Iterable[Watcher]) -> None:
        """These have something to be told."""
        for watcher in watchers:
            if event := self._waiting.get(watcher):
                event.set()

    def close(self) -> None:
        """All watches end, now and from now on."""
        self._closed = True
        self.wake(list(self._waiting))

    async def _woken(self, awake: asyncio.Event) -> None:
        """Returns when there is news, or a bookmark is due. A timeout of asyncio's own would cost three times as much."""
        due = asyncio.get_running_loop().call_later(self._ledger.settings.bookmark_interval, awake.set)
        try:
            await awake.wait()
        finally:
            due.cancel()

    async def _send(self, steps: list[Step], write: Write) -> None:
        for message in self._encoder.encode(steps):
            await write(message)
        step = steps[0]
        if isinstance(step, Snapshot):
            self._metrics.events["reset"].inc()
            if step.reset.reason is ResetReason.SLOW_WATCHER:
                self._metrics.slow_watchers.inc()
        else:
            self._metrics.events["bookmark" if isinstance(step, Bookmark) else "changes"].inc(len(steps))
