"""Group commit: one batch at a time, and while it commits the next one gathers.

An operation is staged only when the batch before it has been committed or
abandoned, so a failed commit takes nothing with it that was built on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from atomesh.core.clock import Clock
from atomesh.core.errors import AtomeshError, RegistryUnavailable
from atomesh.registry.errors import CommitFailed
from atomesh.registry.ledger import Ledger
from atomesh.registry.metrics import RegistryMetrics
from atomesh.registry.operations import Operation
from atomesh.registry.staging import Staged
from atomesh.registry.storage import Storage
from atomesh.registry.watch import Watcher

log = logging.getLogger(__name__)

RETRY_AFTER = 1.0
"""Seconds after which a refused operation may be tried again: a disk that is
full or gone is not back sooner."""


class Committer:
    """Brings operations through storage into the ledger, in the order of their coming."""

    def __init__(
        self,
        ledger: Ledger,
        storage: Storage,
        *,
        clock: Clock,
        metrics: RegistryMetrics,
        limit: int,
        wake: Callable[[Iterable[Watcher]], None],
    ) -> None:
        """`wake` is told whom a commit concerns; at most `limit` operations wait."""
        self._ledger = ledger
        self._storage = storage
        self._clock = clock
        self._metrics = metrics
        self._limit = limit
        self._wake_watchers = wake
        self._waiting: list[tuple[Operation, asyncio.Future[int]]] = []
        self._awake = asyncio.Event()
        self._failing = False
        self._stopped = False

    async def submit(self, operation: Operation) -> int:
        """The revision in which the operation became visible, once it is durable.

        Raises:
            RegistryUnavailable: it was not committed, nothing of it.
            AtomeshError: it was refused, as things stand.
        """
        if self._stopped:
            raise RegistryUnavailable("this registry is stopping; nothing was changed")
        if len(self._waiting) >= self._limit:
            raise RegistryUnavailable(
                f"{self._limit} operations wait for their commit already; try again", retry_after=RETRY_AFTER
            )
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, done))
        self._awake.set()
        return await done

    def wake(self) -> None:
        """Leases may have to be judged, even if nobody submits anything."""
        self._awake.set()

    def stop(self) -> None:
        """Commits what waits, then `run` returns; what comes later is refused."""
        self._stopped = True
        self._awake.set()

    async def run(self) -> None:
        """Commits until stopped. Not to be cancelled: a batch on its way to the disk may be durable already."""
        try:
            while not self._stopped:
                await self._awake.wait()
                self._awake.clear()
                await self._commit_waiting()
        finally:
            self._stopped = True
            self._refuse(self._take(), "this registry is stopping; nothing was changed")

    async def _commit_waiting(self) -> None:
        taken = self._take()
        try:
            staged = self._ledger.stage([operation for operation, _ in taken], self._clock.now())
            if not staged.batch.empty:
                await self._store(staged)
        except CommitFailed as error:
            self._ledger.abandon()
            self._log_failure(error)
            self._refuse(taken, f"the registry cannot commit ({error.message}); nothing was changed, try again")
            return
        except Exception:
            # What cannot be staged or stored must not end all commits; nothing of it is visible.
            self._ledger.abandon()
            log.exception("a batch of %d operations failed unexpectedly", len(taken))
            self._refuse(taken, "the registry failed unexpectedly; nothing was changed, its log has the reason")
            return
        concerned: list[Watcher] = []
        try:
            if not staged.batch.empty:
                concerned = self._publish(staged)
        except BaseException:
            # Durable, but not visible: only a restart, which reads the store, makes one story of it again.
            self._refuse(taken, "the registry failed after a commit and has to be restarted; its log has the reason")
            raise
        # Callers first: they would wait until the last of a thousand watchers is written to.
        for (_, done), result in zip(taken, staged.results, strict=True):
            _settle(done, result)
        self._wake_watchers(concerned)
        if not staged.batch.empty and self._ledger.recovering():
            self._awake.set()  # somebody renewed while it was being committed that they are SUSPECT

    async def _store(self, staged: Staged) -> None:
        begun = self._clock.now()
        await self._storage.commit(staged.batch)
        self._metrics.commit_seconds.observe(self._clock.now() - begun)
        self._metrics.batch.observe(max(1, len(staged.results)))

    def _publish(self, staged: Staged) -> list[Watcher]:
        """It is durable: now, and not before, it is visible. Who is to be told."""
        doubted = self._ledger.store.self_preservation
        concerned = self._ledger.apply(staged, self._clock.now())
        self._metrics.committed.inc()
        self._metrics.expirations.inc(len(staged.verdict.expired))
        self._metrics.suspicions.inc(len(staged.verdict.suspected))
        self._metrics.revision.set(self._ledger.store.revision)
        self._log_applied(staged, doubted)
        return concerned

    def _take(self) -> list[tuple[Operation, asyncio.Future[int]]]:
        """Who waits and has not gone away."""
        taken, self._waiting = self._waiting, []
        return [(operation, done) for operation, done in taken if not done.done()]

    def _refuse(self, taken: list[tuple[Operation, asyncio.Future[int]]], why: str) -> None:
        for _, done in taken:
            _settle(done, RegistryUnavailable(why, retry_after=RETRY_AFTER))

    def _log_failure(self, error: CommitFailed) -> None:
        self._metrics.commit_failed.inc()
        if not self._failing:
            log.error("commits fail, what is new is refused until they succeed: %s", error)
        self._failing = True

    def _log_applied(self, staged: Staged, doubted: bool) -> None:
        if self._failing:
            log.info("commits succeed again")
            self._failing = False
        for revision in staged.revisions:
            for step in revision.transitions:
                if step.old is not None and step.new is None:
                    reason = step.reason.name.lower()
                    log.info("%s at %s is gone: %s", step.old.agent, step.old.address, reason)
        now_doubted = self._ledger.store.self_preservation
        if now_doubted and not doubted:
            log.warning("self-preservation: %d leases ran out at once and are SUSPECT", len(staged.verdict.suspected))
        if doubted and not now_doubted:
            log.info("self-preservation is over")


def _settle(done: asyncio.Future[int], result: int | AtomeshError) -> None:
    if done.done():
        return  # its caller went away
    if isinstance(result, AtomeshError):
        done.set_exception(result)
    else:
        done.set_result(result)
