"""Holds those who ask while a restarted registry is cold: `warmth` says for how long."""

from __future__ import annotations

import asyncio
import logging

from atomesh.core.clock import Clock
from atomesh.core.errors import RegistryUnavailable
from atomesh.registry.ledger import Ledger
from atomesh.registry.metrics import RegistryMetrics

log = logging.getLogger(__name__)


class Warming:
    """The way from cold to warm; there is none back."""

    def __init__(self, ledger: Ledger, metrics: RegistryMetrics, clock: Clock) -> None:
        """Warm at once where nothing was restored."""
        self._ledger = ledger
        self._metrics = metrics
        self._clock = clock
        self._began: float | None = None
        """When it began to hold its answers; None where it never did."""
        self._decided = asyncio.Event()
        self._closed = False
        self.look()
        if not self._decided.is_set():
            self._began = clock.now()
            log.info("cold: holding answers until endpoints are heard of, %g s at most", ledger.settings.warm_within)

    @property
    def warm(self) -> bool:
        """Whether questions are answered."""
        return self._decided.is_set() and not self._closed

    def look(self) -> None:
        """Somebody was heard of: it may be warm by that."""
        now = self._clock.now()
        if self._decided.is_set() or not self._ledger.warm(now):
            return
        self._decided.set()
        self._metrics.warm.set(1)
        if self._began is not None:
            log.info("warm after %.1f s: questions are answered", now - self._began)

    async def run(self) -> None:
        """Ends when it is warm by the passing of time."""
        while not self._decided.is_set():
            await self._clock.sleep(self._ledger.warm_by - self._clock.now())
            self.look()

    async def wait(self) -> None:
        """Returns when it is warm.

        Raises:
            RegistryUnavailable: it stops before that.
        """
        await self._decided.wait()
        if self._closed:
            raise RegistryUnavailable("this registry is stopping; ask again")

    def close(self) -> None:
        """Who waits need not wait any more."""
        self._closed = not self._decided.is_set()
        self._decided.set()
